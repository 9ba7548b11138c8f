//! `cargo xtask gdb`: the guest halted, gdb-multiarch attached, our commands loaded.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ktap::item::Item;

use crate::cli::Gdb as Options;
use crate::command::qemu::check_variant;
use crate::exit::Exit;
use crate::guest::Guest;
use crate::install;
use crate::items;
use crate::machine::{Machine, Qemu};
use crate::report::put;
use crate::run::{Boot, Kernel, OUTPUT};
use crate::toolchain::{self, output};

/// The debugger.
pub const GDB: &str = "gdb-multiarch";

/// Where the abort path begins: the symbol is a stable name.
const ABORT_PATH: &str = "fault_entry";

/// How long QEMU may take to listen.
const START: Duration = Duration::from_secs(10);

/// Runs the command.
///
/// # Errors
/// Wrong names, missing tools, a kernel that does not build.
pub fn run(options: &Options) -> Result<Exit> {
    let toolchain = toolchain::choose(&options.setup)?;
    let machine = Machine::from_options(&options.virt);
    let qemu = Qemu::find(&options.setup)?;
    qemu.check_cpu(&machine.cpu)?;
    let kernel = Kernel::build(&toolchain, machine.build)?;
    let items = items::read(&kernel.elf)?;
    let selected = items::select(&items, std::slice::from_ref(&options.scenario))?;
    check_variant(&items, &options.variant)?;
    session(options, &qemu, &machine, &kernel, selected[0])
}

/// One session on one item: interactive, or a script.
///
/// # Errors
/// gdb or QEMU cannot be started; a script that cannot be read.
pub fn session(
    options: &Options,
    qemu: &Qemu,
    machine: &Machine,
    kernel: &Kernel,
    item: &Item,
) -> Result<Exit> {
    if output(GDB, &["--version"]).is_none() {
        install::packages(&options.setup, &[GDB], "debug the guest")?;
    }
    if let Some(script) = options.batch.as_ref().filter(|script| !script.exists()) {
        bail!("the gdb script {} is not there", script.display());
    }
    let files = Files::make()?;
    let mut arguments = boot(options, qemu, machine, kernel, item).arguments();
    arguments.extend(files.qemu_arguments());
    let guest = Guest::start(&qemu.path, &arguments)?;
    files.wait_for_socket()?;
    let status = gdb(options, kernel, &files)
        .status()
        .with_context(|| format!("{GDB} cannot be started"))?;
    drop(guest);
    put(&format!("serial log: {}\n", files.serial.display()));
    Ok(match status.code() {
        Some(0) => Exit::Passed,
        Some(_) => Exit::Failed,
        None => Exit::NoVerdict,
    })
}

fn boot<'a>(
    options: &'a Options,
    qemu: &'a Qemu,
    machine: &'a Machine,
    kernel: &'a Kernel,
    item: &'a Item,
) -> Boot<'a> {
    Boot {
        qemu,
        machine,
        kernel,
        items: vec![item],
        variant: &options.variant,
        words: vec!["story=1".into()],
        qemu_args: Vec::new(),
        silence: Duration::MAX,
        log: String::new(),
    }
}

fn gdb(options: &Options, kernel: &Kernel, files: &Files) -> Command {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("gdb/faultline.py");
    let mut command = Command::new(GDB);
    command.args(["-nx", "-q"]);
    command.arg(&kernel.elf);
    let socket = format!("target remote {}", files.socket.display());
    let source = format!("source {}", python.display());
    // Hardware, as the breakpoint is set before there is a map to write a software one through.
    let abort = format!("hbreak {ABORT_PATH}");
    for setting in ["set pagination off", "set confirm off", &socket, &source, &abort] {
        command.args(["-ex", setting]);
    }
    if let Some(script) = &options.batch {
        command.arg("-batch").arg("-x").arg(script);
    }
    command
}

/// The socket that gdb connects to, and the guest's log: gdb has the terminal.
struct Files {
    socket: PathBuf,
    serial: PathBuf,
}

impl Files {
    fn make() -> Result<Self> {
        let folder = Path::new(OUTPUT);
        std::fs::create_dir_all(folder)
            .with_context(|| format!("the folder {} cannot be made", folder.display()))?;
        let socket = folder.join(format!("gdb-{}.sock", std::process::id()));
        Ok(Self { socket, serial: folder.join("gdb-serial.log") })
    }

    fn qemu_arguments(&self) -> Vec<OsString> {
        let (socket, serial) = (self.socket.display(), self.serial.display());
        [
            "-S",
            "-chardev",
            &format!("socket,path={socket},server=on,wait=off,id=gdb0"),
            "-gdb",
            "chardev:gdb0",
            "-serial",
            &format!("file:{serial}"),
        ]
        .map(OsString::from)
        .into()
    }

    fn wait_for_socket(&self) -> Result<()> {
        let deadline = Instant::now() + START;
        while !self.socket.exists() {
            if Instant::now() > deadline {
                bail!("QEMU offers no gdb socket; run `cargo xtask qemu` to see what it says");
            }
            std::thread::yield_now();
        }
        Ok(())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // Gone already is fine.
        let _ = std::fs::remove_file(&self.socket);
    }
}

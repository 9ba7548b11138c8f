//! `cargo xtask gdb`: the guest halted, gdb-multiarch attached, our commands loaded.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ktap::item::Item;

use crate::cli::{Gdb as Options, Setup};
use crate::command::explore::check_token;
use crate::command::qemu::{check_variant, quoted};
use crate::exit::Exit;
use crate::guest::{Deadline, Guest};
use crate::install;
use crate::items;
use crate::machine::{Machine, Qemu};
use crate::report::put;
use crate::run::{Boot, Kernel, output_folder};
use crate::toolchain::{self, output};

/// The debugger.
pub const GDB: &str = "gdb-multiarch";

/// Where the abort path begins. These symbols are stable names: see `kernel/src/debug.rs`.
const ABORT_PATH: &str = "fault_entry";
/// Where every bad end begins.
const BAD_ENDS: [&str; 4] = ["claim_failed", "oops_entry", "deadlock_found", "panic_entry"];

/// What gdb is to do once it is connected.
#[derive(Clone, Copy)]
enum Mode<'a> {
    /// Wait for the person, with a breakpoint on the abort path.
    ToAborts,
    /// Run to the first bad end.
    ToFailure,
    /// What the script says, breakpoints included.
    Script(&'a Path),
}

/// How long a script may take.
const SCRIPT: Duration = Duration::from_secs(60);

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
    if let Some(token) = &options.schedule {
        check_token(token)?;
    }
    let (scenario, variant) = wanted(options);
    let selected = items::select(&items, &[scenario.to_string()])?;
    check_variant(&items, variant)?;
    if options.vscode {
        let target = Target {
            qemu: &qemu,
            machine: &machine,
            kernel: &kernel,
            item: selected[0],
            variant,
            schedule: options.schedule.as_deref(),
        };
        put(&target.launch_json()?);
        return Ok(Exit::Passed);
    }
    session(options, &qemu, &machine, &kernel, selected[0])
}

/// What is to be debugged, under which variant.
fn wanted(options: &Options) -> (&str, &str) {
    match &options.test {
        Some(test) => test.split_once('@').unwrap_or((test, &options.variant)),
        None => (&options.scenario, &options.variant),
    }
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
    ensure_installed(&options.setup)?;
    if let Some(script) = options.batch.as_ref().filter(|script| !script.exists()) {
        bail!("the gdb script {} is not there", script.display());
    }
    let files = Files::make("session")?;
    let target = Target {
        qemu,
        machine,
        kernel,
        item,
        variant: wanted(options).1,
        schedule: options.schedule.as_deref(),
    };
    let mut guest = target.start(&files)?;
    let mode = match (&options.batch, &options.test) {
        (Some(script), _) => Mode::Script(script),
        (None, Some(_)) => Mode::ToFailure,
        (None, None) => Mode::ToAborts,
    };
    let status =
        gdb(kernel, &files, mode).status().with_context(|| format!("{GDB} cannot be started"))?;
    // Without a guest gdb debugs nothing, and may still end well.
    if let Some(said) = guest.refusal().filter(|_| files.is_silent()) {
        bail!("{qemu} did not start the guest: {said}");
    }
    drop(guest);
    put(&format!("serial log: {}\n", files.serial.display()));
    Ok(match status.code() {
        Some(0) => Exit::Passed,
        Some(_) => Exit::Failed,
        None => Exit::NoVerdict,
    })
}

/// Runs a script on a guest of its own and returns whether gdb ended well, and what it printed.
///
/// # Errors
/// gdb or QEMU cannot be started, or gdb does not end in time.
pub fn script(target: &Target<'_>, script: &Path, name: &str) -> Result<(bool, String)> {
    let files = Files::make(name)?;
    let _guest = target.start(&files)?;
    let mut child = gdb(target.kernel, &files, Mode::Script(script))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("{GDB} cannot be started"))?;
    let stdout = child.stdout.take().context("gdb has no output")?;
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let mut stdout = stdout;
        // A broken pipe leaves what came before it.
        let _ = stdout.read_to_end(&mut text);
        let _ = sender.send(text);
    });
    let text = receiver.recv_timeout(SCRIPT);
    if text.is_err() {
        let _ = child.kill();
    }
    let status = child.wait()?;
    let text = text.with_context(|| format!("{GDB} did not end within {SCRIPT:?}"))?;
    Ok((status.success(), String::from_utf8_lossy(&text).into_owned()))
}

/// Installs the debugger where it is missing.
///
/// # Errors
/// It may not be installed here.
pub fn ensure_installed(setup: &Setup) -> Result<()> {
    if output(GDB, &["--version"]).is_none() {
        install::packages(setup, &[GDB], "debug the guest")?;
    }
    Ok(())
}

/// A guest to be debugged.
pub struct Target<'a> {
    /// The QEMU.
    pub qemu: &'a Qemu,
    /// The machine.
    pub machine: &'a Machine,
    /// The kernel.
    pub kernel: &'a Kernel,
    /// What it runs.
    pub item: &'a Item,
    /// Under which protocol variant.
    pub variant: &'a str,
    /// The schedule of a race, as a token.
    pub schedule: Option<&'a str>,
}

impl Target<'_> {
    /// Starts it halted, and waits until gdb can connect.
    fn start(&self, files: &Files) -> Result<Guest> {
        let mut arguments = self.boot().arguments();
        files.divert_serial(&mut arguments);
        arguments.extend(files.qemu_arguments());
        let mut guest = Guest::start(&self.qemu.path, &arguments)?;
        files.wait_for_socket(self.qemu, &mut guest)?;
        Ok(guest)
    }

    /// A launch configuration of VS Code's C++ debugger that starts the same guest and gdb.
    fn launch_json(&self) -> Result<String> {
        const PORT: u16 = 1234;
        let mut arguments = self.boot().arguments();
        arguments.extend(["-S", "-gdb", &format!("tcp:127.0.0.1:{PORT}")].map(OsString::from));
        let arguments: Vec<_> =
            arguments.iter().map(|argument| quoted(&argument.to_string_lossy())).collect();
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("gdb/faultline.py");
        let configuration = serde_json::json!({
            "version": "0.2.0",
            "configurations": [{
                "name": format!("Faultline: {}", self.item.name),
                "type": "cppdbg",
                "request": "launch",
                "cwd": "${workspaceFolder}",
                "program": self.kernel.elf,
                "MIMode": "gdb",
                "miDebuggerPath": GDB,
                "miDebuggerServerAddress": format!("127.0.0.1:{PORT}"),
                "debugServerPath": self.qemu.path,
                "debugServerArgs": arguments.join(" "),
                "setupCommands": [
                    { "text": format!("source {}", python.display()) },
                    { "text": format!("hbreak {ABORT_PATH}") },
                ],
            }],
        });
        Ok(serde_json::to_string_pretty(&configuration)? + "\n")
    }

    fn boot(&self) -> Boot<'_> {
        let schedule = self.schedule.map(|token| format!("token={token}"));
        Boot {
            qemu: self.qemu,
            machine: self.machine,
            kernel: self.kernel,
            items: vec![self.item],
            variant: self.variant,
            words: ["story=1".into()].into_iter().chain(schedule).collect(),
            qemu_args: Vec::new(),
            deadline: Deadline::fixed(Duration::MAX),
            log: String::new(),
        }
    }
}

fn gdb(kernel: &Kernel, files: &Files, mode: Mode<'_>) -> Command {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("gdb/faultline.py");
    let mut command = Command::new(GDB);
    command.args(["-nx", "-q"]);
    command.arg(&kernel.elf);
    let socket = format!("target remote {}", files.socket.display());
    let source = format!("source {}", python.display());
    for setting in ["set pagination off", "set confirm off", &socket, &source] {
        command.args(["-ex", setting]);
    }
    // Hardware, as a breakpoint is set before there is a map to write a software one through.
    let mut hbreak = |symbol: &str| {
        command.args(["-ex", &format!("hbreak {symbol}")]);
    };
    match mode {
        Mode::ToAborts => hbreak(ABORT_PATH),
        Mode::ToFailure => {
            BAD_ENDS.into_iter().for_each(hbreak);
            command.args(["-ex", "continue", "-ex", "backtrace 12"]);
        }
        Mode::Script(script) => {
            command.arg("-batch").arg("-x").arg(script);
        }
    }
    command
}

/// The socket that gdb connects to, and the guest's log: gdb has the terminal.
struct Files {
    socket: PathBuf,
    serial: PathBuf,
}

impl Files {
    fn make(name: &str) -> Result<Self> {
        let folder = output_folder();
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("the folder {} cannot be made", folder.display()))?;
        let socket = folder.join(format!("gdb-{}-{name}.sock", std::process::id()));
        let serial = folder.join(format!("gdb-{name}.log"));
        // That of an earlier session; mostly there is none.
        let _ = std::fs::remove_file(&serial);
        Ok(Self { socket, serial })
    }

    fn qemu_arguments(&self) -> Vec<OsString> {
        let socket = self.socket.display();
        [
            "-S",
            "-chardev",
            &format!("socket,path={socket},server=on,wait=off,id=gdb0"),
            "-gdb",
            "chardev:gdb0",
        ]
        .map(OsString::from)
        .into()
    }

    /// Sends the guest's only serial line, which `arguments` lead to a pipe that nobody would empty
    /// here, to the log.
    fn divert_serial(&self, arguments: &mut [OsString]) {
        for argument in arguments.iter_mut().filter(|argument| *argument == "stdio") {
            *argument = format!("file:{}", self.serial.display()).into();
        }
    }

    fn is_silent(&self) -> bool {
        std::fs::metadata(&self.serial).map_or(true, |serial| serial.len() == 0)
    }

    fn wait_for_socket(&self, qemu: &Qemu, guest: &mut Guest) -> Result<()> {
        let deadline = Instant::now() + START;
        while !self.socket.exists() {
            if let Some(said) = guest.refusal() {
                bail!("{qemu} did not start the guest: {said}");
            }
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

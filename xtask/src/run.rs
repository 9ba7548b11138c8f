//! Boots: an image, a machine and some items in, an outcome out.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ktap::item::Item;

use crate::cli::ImageKind;
use crate::guest::{self, Deadline, End, Finished, Next, Plan};
use crate::hang;
use crate::image::{self, Build};
use crate::machine::{Machine, Qemu};
use crate::qmp::Socket;
use crate::session::{Outcome, Session};
use crate::toolchain::Toolchain;

/// Where everything that a run leaves goes: `FAULTLINE_OUT`, or a folder below `target`.
pub fn output_folder() -> PathBuf {
    std::env::var_os("FAULTLINE_OUT").map_or("target/faultline".into(), PathBuf::from)
}

/// A kernel that was built, in the forms that machines take it.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The ELF: what debuggers and symbolizers read.
    pub elf: PathBuf,
    flat: PathBuf,
}

/// One boot to be made.
pub struct Boot<'a> {
    /// The QEMU.
    pub qemu: &'a Qemu,
    /// The machine.
    pub machine: &'a Machine,
    /// The kernel.
    pub kernel: &'a Kernel,
    /// What the guest is to run.
    pub items: Vec<&'a Item>,
    /// Protocol variant.
    pub variant: &'a str,
    /// Further words for the kernel's command line.
    pub words: Vec<String>,
    /// Further arguments for QEMU.
    pub qemu_args: Vec<String>,
    /// When it is hung.
    pub deadline: Deadline<'a>,
    /// Name of its serial log, without folder and ending.
    pub log: String,
}

/// What a boot left.
pub struct Booted {
    /// What it came to.
    pub outcome: Outcome,
    /// How QEMU ended, and when.
    pub finished: Finished,
    /// When its log came.
    pub times: Times,
    /// The raw serial log.
    pub log: PathBuf,
}

/// When the parts of a log came, from the start of QEMU.
#[derive(Clone, Copy, Default, Debug)]
pub struct Times {
    /// The first line.
    pub first: Option<Duration>,
    /// The line that completed the log.
    pub verdict: Option<Duration>,
    /// When the first line of a report of a crash was read.
    pub banner: Option<Instant>,
}

impl Kernel {
    /// Builds the kernel.
    ///
    /// # Errors
    /// It does not build.
    pub fn build(toolchain: &Toolchain, build: Build) -> Result<Self> {
        Self::of(image::build(toolchain, build)?)
    }

    /// The kernel that was built at `elf`.
    ///
    /// # Errors
    /// It is no kernel.
    pub fn of(elf: PathBuf) -> Result<Self> {
        let flat = image::flat(&elf)?;
        Ok(Self { elf, flat })
    }

    /// Bytes of the flat image.
    ///
    /// # Errors
    /// It is gone.
    pub fn image_bytes(&self) -> Result<u64> {
        Ok(std::fs::metadata(&self.flat)
            .with_context(|| format!("{} cannot be read", self.flat.display()))?
            .len())
    }

    /// A kernel that is not there, for tests that boot nothing.
    #[cfg(test)]
    pub fn nowhere() -> Self {
        Self { elf: "/nowhere".into(), flat: "/nowhere.img".into() }
    }

    /// Tells images apart: a hash (FNV-1a) of what is loaded, without debug information.
    ///
    /// # Errors
    /// The image cannot be read.
    pub fn hash(&self) -> Result<String> {
        let image = std::fs::read(&self.flat)
            .with_context(|| format!("{} cannot be read", self.flat.display()))?;
        let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        Ok(format!("{:016x}", image.iter().fold(0xcbf2_9ce4_8422_2325, fold)))
    }

    fn file(&self, kind: ImageKind) -> &Path {
        match kind {
            ImageKind::Elf => &self.elf,
            ImageKind::Flat => &self.flat,
        }
    }
}

impl Boot<'_> {
    /// The arguments that QEMU gets.
    pub fn arguments(&self) -> Vec<std::ffi::OsString> {
        let kernel = self.kernel.file(self.machine.image);
        self.machine.arguments(kernel, &self.append(), &self.qemu_args)
    }

    /// Runs it; `each` sees every line, with the session as it stands behind it, and may end the
    /// guest by `Next::Kill`.
    ///
    /// # Errors
    /// QEMU could not be started, or refused its arguments.
    pub fn run(&self, mut each: impl FnMut(&str, &Session) -> Next) -> Result<Booted> {
        self.run_with_monitor(&Socket::new(), |line, session| each(line, session))
    }

    /// As [`run`](Self::run), with QEMU's monitor at `socket`; of a hang, what it says there is the
    /// end of the outcome's tail.
    pub fn run_with_monitor(
        &self,
        socket: &Result<Socket>,
        mut each: impl FnMut(&str, &Session) -> Next,
    ) -> Result<Booted> {
        let asked: Vec<_> =
            self.items.iter().map(|item| (item.suite.clone(), item.name.clone())).collect();
        let mut session = Session::new(&asked);
        let log = log_path(&self.log)?;
        let mut arguments = self.arguments();
        arguments.extend(socket.iter().flat_map(Socket::arguments));
        let hang = Mutex::new(Vec::new());
        let on_hang = || *lock(&hang) = hang::sample(socket, &self.kernel.elf);
        let plan = Plan {
            qemu: &self.qemu.path,
            arguments,
            log: log.clone(),
            deadline: self.deadline,
            on_hang: Some(&on_hang),
        };
        let mut lines = 0;
        let mut times = Times::default();
        let started = Instant::now();
        let finished = guest::run(&plan, |line| {
            lines += 1;
            times.first.get_or_insert_with(|| started.elapsed());
            if times.banner.is_none() && is_banner(line) {
                times.banner = Some(Instant::now());
            }
            let next = session.line(line);
            if next == Next::Through {
                times.verdict.get_or_insert_with(|| started.elapsed());
            }
            match each(&String::from_utf8_lossy(line), &session) {
                Next::More => next,
                accident => accident,
            }
        })?;
        let said = finished.complaints.trim();
        // A guest that ends without a word is no refusal of QEMU's, which gives a reason.
        if lines == 0 && matches!(finished.end, End::Exited(1..)) && !said.is_empty() {
            bail!("{} did not start the guest: {said}", self.qemu);
        }
        let mut hang = std::mem::take(&mut *lock(&hang));
        if let (false, Some((_, name))) = (hang.is_empty(), session.running()) {
            hang.push(format!("hang: test {name} was running"));
        }
        let mut outcome = session.finish(&finished.end, &finished.complaints);
        outcome.tail.extend(hang);
        Ok(Booted { outcome, finished, times, log })
    }

    fn append(&self) -> String {
        let names: Vec<_> = self.items.iter().map(|item| item.name.as_str()).collect();
        let mut words = vec![
            "exit=semihosting".to_string(),
            format!("run={}", names.join(",")),
            format!("variant={}", self.variant),
        ];
        words.extend(self.words.iter().cloned());
        words.join(" ")
    }
}

/// Whether a line begins the report of a crash.
fn is_banner(line: &[u8]) -> bool {
    [&b"# oops: "[..], b"Bail out! "].iter().any(|start| line.starts_with(start))
}

/// Makes the folder for logs and reports, and sees that it can be written.
///
/// # Errors
/// It cannot.
pub fn prepare_output() -> Result<()> {
    // Two runs may look at once.
    let path = log_path(&format!("writable-{}", std::process::id()))?;
    std::fs::write(&path, "").with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(std::fs::remove_file(&path)?)
}

/// A poisoned lock guards lines for people only: go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the log called `name` goes; makes the folder.
fn log_path(name: &str) -> Result<PathBuf> {
    let folder = output_folder().join("log");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("the folder {} cannot be made", folder.display()))?;
    let file: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-.@".contains(c) { c } else { '_' })
        .collect();
    Ok(folder.join(format!("{file}.log")))
}

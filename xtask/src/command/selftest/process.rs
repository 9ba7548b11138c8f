//! The processes around a guest, and what a person may ask for: signals to xtask, a reader that goes
//! away, logs that cannot be written, tools that are not there, names that mean nothing. Each is this
//! very program, run again. None may leave a QEMU behind, and none may panic.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Wanted;
use crate::command::test::Job;
use crate::exit::Exit::{self, NoVerdict, Passed, Usage};
use crate::guest::can_die_with_parent;
use crate::machine::Qemu;
use crate::record::{Record, Status};

/// How a break is made.
enum Way {
    /// This signal, while the guest stands still.
    Signal(&'static str),
    /// SIGKILL, which runs no handler.
    Kill,
    /// The reader of the output goes away after a line.
    ClosedOutput,
    /// The serial log is on a full disk.
    FullDisk,
    /// The output folder cannot be made.
    NoFolder,
    /// These arguments; the QEMU is added.
    Arguments(&'static [&'static str]),
    /// These arguments, the QEMU among them.
    OwnQemu(&'static [&'static str]),
}

/// How long a QEMU may take to be gone.
const GONE: Duration = Duration::from_secs(5);

const fn wanted_of(name: &'static str, exit: Exit, says: &'static str) -> Wanted {
    Wanted { name, exit, says }
}

const BREAKS: &[(Wanted, Way)] = &[
    (wanted_of("sigint-leaves-no-qemu", NoVerdict, "interrupted"), Way::Signal("INT")),
    (wanted_of("sigterm-leaves-no-qemu", NoVerdict, "interrupted"), Way::Signal("TERM")),
    (wanted_of("sighup-leaves-no-qemu", NoVerdict, "interrupted"), Way::Signal("HUP")),
    (wanted_of("sigkill-leaves-no-qemu", NoVerdict, "killed"), Way::Kill),
    (wanted_of("a-closed-output-leaves-no-qemu", Passed, ""), Way::ClosedOutput),
    (wanted_of("a-full-disk-is-said", Usage, "cannot be written: No space"), Way::FullDisk),
    (wanted_of("a-read-only-target-is-said", Usage, "cannot be made"), Way::NoFolder),
    (
        wanted_of("a-missing-qemu-is-said", Usage, "cannot be started"),
        Way::OwnQemu(&["qemu", "--qemu", "/nowhere/qemu-system-aarch64"]),
    ),
    (
        wanted_of("a-qemu-that-is-none-is-said", Usage, "does not look like QEMU's"),
        Way::OwnQemu(&["qemu", "--qemu", "/bin/true"]),
    ),
    (
        wanted_of("an-unknown-cpu-is-said", Usage, "did you mean cortex-a"),
        Way::Arguments(&["qemu", "--cpu", "cortex-a27"]),
    ),
    (
        wanted_of("an-unknown-scenario-is-said", Usage, "did you mean aa-fault"),
        Way::Arguments(&["qemu", "aa-falt"]),
    ),
    (
        wanted_of("an-unknown-variant-is-said", Usage, "did you mean busy"),
        Way::Arguments(&["qemu", "--variant", "bussy"]),
    ),
    (
        wanted_of("no-test-matched", NoVerdict, "no test matches"),
        Way::Arguments(&["test", "no-such-test"]),
    ),
];

/// A job for each break.
pub fn jobs(qemu: &Qemu) -> Vec<Job<'_>> {
    let job = |(wanted, way): &'static (Wanted, Way)| {
        Job::single(format!("harness/process/{}", wanted.name), move || play(qemu, wanted, way))
    };
    BREAKS.iter().map(job).collect()
}

/// What each must come to.
#[cfg(test)]
pub fn wanted() -> impl Iterator<Item = Wanted> {
    BREAKS.iter().map(|(Wanted { name, exit, says }, _)| wanted_of(name, *exit, says))
}

fn play(qemu: &Qemu, wanted: &Wanted, way: &Way) -> Result<Record> {
    let started = Instant::now();
    if matches!(way, Way::Kill) && !can_die_with_parent() {
        let why = Status::Skipped("util-linux's setpriv is not installed".into());
        return Ok(Record::new("harness", "process", wanted.name, why));
    }
    let token = format!("faultline-{}-{}", wanted.name, std::process::id());
    // A folder of its own: two runs at a time would write one log.
    let folder = std::env::temp_dir().join(&token);
    let outcome = run(qemu, &token, way, &folder);
    let _ = std::fs::remove_dir_all(&folder);
    let (exit, said) = outcome?;
    let mut lines = said.trim().lines();
    let told = lines.clone().find(|line| line.contains(wanted.says)).or_else(|| lines.next_back());
    let mut record = match exit {
        Some(exit) => wanted.record("process", exit, told.unwrap_or_default()),
        None => wanted.record("process", NoVerdict, "killed"),
    };
    if said.contains("panicked") {
        record.status = Status::Failed("it panicked".into());
    } else if !is_gone(&token) {
        record.status = Status::Failed("a QEMU is left".into());
    }
    record.output.extend(said.lines().map(String::from));
    record.wall = started.elapsed();
    Ok(record)
}

fn run(qemu: &Qemu, token: &str, way: &Way, folder: &Path) -> Result<(Option<Exit>, String)> {
    let standing = ["qemu", "aa-fault", "--", "-name", token, "-S"];
    let playing = ["qemu", "aa-fault", "--", "-name", token];
    let start = |arguments: &[&str]| xtask(Some(qemu), arguments, folder);
    match way {
        Way::Signal(signal) => at_its_guest(start(&standing)?, token, Some(signal)),
        Way::Kill => at_its_guest(start(&standing)?, token, Some("KILL")),
        Way::ClosedOutput => at_its_guest(start(&playing)?, token, None),
        Way::NoFolder => ended(xtask(Some(qemu), &playing, Path::new("/proc/faultline"))?),
        Way::FullDisk => {
            std::fs::create_dir_all(folder.join("log"))?;
            std::os::unix::fs::symlink("/dev/full", folder.join("log/qemu.log"))?;
            ended(start(&playing)?)
        }
        Way::Arguments(arguments) => ended(start(arguments)?),
        Way::OwnQemu(arguments) => ended(xtask(None, arguments, folder)?),
    }
}

/// Starts this program with `arguments`, and `folder` for its output.
fn xtask(qemu: Option<&Qemu>, arguments: &[&str], folder: &Path) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    let (name, rest) = arguments.split_first().context("no command")?;
    command.args([name, "--no-install"]);
    if let Some(qemu) = qemu {
        command.arg("--qemu").arg(&qemu.path);
    }
    command.env("FAULTLINE_OUT", folder).args(rest);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("xtask cannot be started")
}

fn ended(child: Child) -> Result<(Option<Exit>, String)> {
    let output = child.wait_with_output()?;
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    Ok((output.status.code().and_then(Exit::from_code), said.concat()))
}

/// Waits until the QEMU command line is out; then sends `signal`, or closes the output.
fn at_its_guest(
    mut child: Child,
    token: &str,
    signal: Option<&str>,
) -> Result<(Option<Exit>, String)> {
    let mut out = BufReader::new(child.stdout.take().context("no output")?);
    let mut said = String::new();
    while !said.contains(token) && out.read_line(&mut said)? > 0 {}
    match signal {
        Some(signal) => {
            is_there(token);
            let kill = format!("kill -{signal} {}", child.id());
            Command::new("/bin/sh").args(["-c", &kill]).status()?;
            out.read_to_string(&mut said)?;
        }
        None => drop(out),
    }
    let (exit, more) = ended(child)?;
    Ok((exit, said + &more))
}

/// Waits until a process with `token` on its command line runs beside xtask; whether one came.
fn is_there(token: &str) -> bool {
    until(|| processes(token) > 1)
}

/// Waits until no process with `token` on its command line runs; whether it came to that.
fn is_gone(token: &str) -> bool {
    until(|| processes(token) == 0)
}

fn until(holds: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + GONE;
    while Instant::now() < deadline {
        if holds() {
            return true;
        }
        std::thread::yield_now();
    }
    false
}

fn processes(token: &str) -> usize {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|process| std::fs::read(process.path().join("cmdline")).ok())
        .filter(|line| String::from_utf8_lossy(line).contains(token))
        .count()
}

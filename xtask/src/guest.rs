//! One run of QEMU: started, followed line by line, and ended whatever happens.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::interrupt;

/// Bytes of a serial log after which the guest is taken for a garbage source and ended.
const LOG_LIMIT: usize = 16 << 20;
/// Bytes of one line that are handed on; the raw log keeps all.
const LINE_LIMIT: usize = 8192;
/// Pieces of the serial log that may wait to be read; QEMU then waits for us, and a flood takes no
/// more memory than this.
const QUEUE: usize = 16;
/// How long a guest may take to end once its log says that it is through.
const GRACE: Duration = Duration::from_secs(5);
/// Of util-linux: starts a program that the system kills with its parent.
const SETPRIV: &str = "/usr/bin/setpriv";
/// How often a wait looks up to see whether the person wants to stop.
const GLANCE: Duration = Duration::from_millis(50);

/// The serial log has no more to give.
const ENDED: std::result::Result<Vec<u8>, RecvTimeoutError> = Err(RecvTimeoutError::Disconnected);

/// A QEMU child. Killed when dropped, so that none is left behind.
pub struct Guest {
    child: Child,
}

/// What is to be run.
pub struct Plan<'a> {
    /// The QEMU program.
    pub qemu: &'a Path,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Where the raw serial log goes.
    pub log: PathBuf,
    /// When the guest is hung.
    pub deadline: Deadline<'a>,
    /// Called on a hang, while QEMU still runs. What the guest says meanwhile is dropped: its
    /// verdict stands.
    pub on_hang: Option<&'a (dyn Fn() + Sync)>,
}

/// When a guest is taken for hung: by its silence, and whatever it prints after
/// [`TOTAL`](Self::TOTAL) times that.
#[derive(Clone, Copy)]
pub struct Deadline<'a> {
    /// Silence after which it may be hung.
    pub silence: Duration,
    /// Asked when that is over, for the limit that holds on the machine as it is now: a machine
    /// under load makes every guest slow. `None`: the limit is final.
    pub again: Option<&'a (dyn Fn() -> Duration + Sync)>,
    /// It may take as long as it likes while it prints: a campaign takes days.
    pub unlimited: bool,
}

/// How a run ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// QEMU exited with this code.
    Exited(i32),
    /// QEMU was killed by a signal that was not ours.
    Killed(i32),
    /// It printed nothing for this long.
    Silent(Duration),
    /// It took longer than this in all.
    Overdue(Duration),
    /// It printed more than any log can be.
    Flood,
    /// It did not end after its log was complete.
    Lingered,
    /// The person ended it.
    Interrupted,
}

/// What a finished run leaves.
#[derive(Clone, Debug)]
pub struct Finished {
    /// How it ended.
    pub end: End,
    /// From start to exit.
    pub wall: Duration,
    /// What QEMU itself said, on stderr.
    pub complaints: String,
}

/// What the follower of a log wants next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// More lines.
    More,
    /// Nothing: the log is complete, and the guest should end.
    Through,
    /// That QEMU be stopped (SIGSTOP), as one that is swapped out would be: likewise.
    Stop,
    /// That QEMU be killed this instant, as an accident would: for the harness's own tests.
    Kill,
}

/// Runs QEMU to its end and calls `each` with every line of the serial log as it comes, without
/// its newline. A last line without one is handed on too.
///
/// # Errors
/// QEMU cannot be started, or the log cannot be written.
pub fn run(plan: &Plan<'_>, mut each: impl FnMut(&[u8]) -> Next) -> Result<Finished> {
    let mut log = File::create(&plan.log)
        .with_context(|| format!("the serial log {} cannot be written", plan.log.display()))?;
    let started = Instant::now();
    let mut guest = Guest::start(plan.qemu, &plan.arguments)?;
    let serial = guest.reader();
    let mut lines = Lines::default();
    let mut through = None;
    let mut heard = Instant::now();
    let mut limit = plan.deadline.silence;
    let end = loop {
        match serial.recv_timeout(GLANCE) {
            Ok(bytes) => {
                log.write_all(&bytes).with_context(|| {
                    format!("the serial log {} cannot be written", plan.log.display())
                })?;
                let mut befalls = None;
                lines.feed(&bytes, |line| match each(line) {
                    Next::More => {}
                    Next::Through => {
                        through.get_or_insert_with(Instant::now);
                    }
                    accident @ (Next::Kill | Next::Stop) => befalls = Some(accident),
                });
                match befalls {
                    // Its end is then seen like any other.
                    Some(Next::Kill) => drop(guest.child.kill()),
                    Some(_) => guest.pause(),
                    None => {}
                }
                if lines.seen > LOG_LIMIT {
                    break End::Flood;
                }
                // Now, and not before the lines were taken: a terminal that was held up meanwhile
                // is no silence of the guest's.
                heard = Instant::now();
            }
            Err(RecvTimeoutError::Disconnected) => break guest.wait(),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if interrupt::requested() {
            break End::Interrupted;
        }
        if through.is_some_and(|since| since.elapsed() > GRACE) {
            break End::Lingered;
        }
        let (silent, total) = (heard.elapsed(), limit * Deadline::TOTAL);
        if silent > limit || (started.elapsed() > total && !plan.deadline.unlimited) {
            match plan.deadline.extended(limit) {
                Some(more) => limit = more,
                None if silent > limit => break End::Silent(limit),
                None => break End::Overdue(total),
            }
        }
    };
    lines.finish(|line| {
        each(line);
    });
    if let (Some(on_hang), true) = (plan.on_hang, end.is_hang()) {
        std::thread::scope(|scope| {
            let asked = scope.spawn(on_hang);
            // A QEMU whose output nobody takes answers no question.
            while !asked.is_finished() && serial.recv_timeout(GLANCE) != ENDED {}
        });
    }
    // Closes the pipe: a flood that waits in it would keep stderr open, which `stop` reads out.
    drop(serial);
    let complaints = guest.stop();
    Ok(Finished { end, wall: started.elapsed(), complaints })
}

impl Deadline<'_> {
    /// How many limits of silence a boot may take in all.
    pub const TOTAL: u32 = 10;

    /// A final limit.
    pub fn fixed(silence: Duration) -> Self {
        Self { silence, again: None, unlimited: false }
    }

    /// The limit after `limit`, if the machine as it is now deserves a longer one.
    fn extended(&self, limit: Duration) -> Option<Duration> {
        let again = self.again?;
        Some(again()).filter(|more| *more > limit)
    }
}

impl End {
    /// Whether the guest had to be ended because it would not go on.
    fn is_hang(&self) -> bool {
        matches!(self, Self::Silent(_) | Self::Overdue(_) | Self::Lingered)
    }
}

impl Guest {
    /// Starts QEMU in a process group of its own, without a terminal.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(qemu: &Path, arguments: &[OsString]) -> Result<Self> {
        let child = with_parent_death_signal(qemu)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("{} cannot be started", qemu.display()))?;
        Ok(Self { child })
    }

    /// The serial log in pieces, until QEMU closes it.
    fn reader(&mut self) -> Receiver<Vec<u8>> {
        let (sender, receiver) = sync_channel(QUEUE);
        if let Some(stdout) = self.child.stdout.take() {
            std::thread::spawn(move || forward(stdout, &sender));
        }
        receiver
    }

    /// What QEMU said if it has ended by itself with an error and a message: it refused its
    /// arguments. A guest that ends with a code leaves no message.
    pub fn refusal(&mut self) -> Option<String> {
        let ended = self.child.try_wait().ok().flatten()?;
        let said = if ended.success() { String::new() } else { self.stop() };
        let last = said.trim().lines().last()?;
        Some(last.to_string())
    }

    /// Waits for a child whose output has ended.
    fn wait(&mut self) -> End {
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(Some(status)) => return end_of(status),
                Ok(None) => std::thread::yield_now(),
                Err(_) => break,
            }
        }
        End::Lingered
    }

    /// Stops the child's processes where they are.
    fn pause(&self) {
        // Its group is its own: `start` sees to that.
        let stop = format!("kill -STOP -{}", self.child.id());
        let _ = Command::new("/bin/sh").args(["-c", &stop]).status();
    }

    /// Kills the child if it still runs, and returns what it said on stderr.
    fn stop(&mut self) -> String {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let mut text = String::new();
        if let Some(stderr) = self.child.stderr.as_mut() {
            let _ = stderr.take(64 * 1024).read_to_string(&mut text);
        }
        text
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Already dead is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `qemu`, so started that the system kills it when this process dies in a way that runs no code
/// (SIGKILL), where util-linux's setpriv is there to ask for that.
pub fn with_parent_death_signal(qemu: &Path) -> Command {
    // setpriv reports a missing program with a code of its own, not as a failed start.
    if !can_die_with_parent() || !is_there(qemu) {
        return Command::new(qemu);
    }
    let mut command = Command::new(SETPRIV);
    command.args(["--pdeathsig", "KILL", "--"]).arg(qemu);
    command
}

/// Whether [`with_parent_death_signal`] can do what it says.
pub fn can_die_with_parent() -> bool {
    Path::new(SETPRIV).exists()
}

fn is_there(program: &Path) -> bool {
    if program.components().count() > 1 {
        return program.exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}

fn end_of(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Exited(code),
        (None, Some(signal)) => End::Killed(signal),
        (None, None) => End::Killed(0),
    }
}

fn forward(mut from: impl Read, to: &SyncSender<Vec<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.send(buffer[..count].to_vec()).is_err() {
            return;
        }
    }
}

/// Cuts a stream of bytes into lines, in bounded memory.
#[derive(Default)]
struct Lines {
    line: Vec<u8>,
    seen: usize,
}

impl Lines {
    fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        self.seen += bytes.len();
        for &byte in bytes {
            match byte {
                b'\n' => {
                    each(self.line.strip_suffix(b"\r").unwrap_or(&self.line));
                    self.line.clear();
                }
                _ if self.line.len() < LINE_LIMIT => self.line.push(byte),
                _ => {}
            }
        }
    }

    fn finish(&mut self, mut each: impl FnMut(&[u8])) {
        if !self.line.is_empty() {
            each(&self.line);
            self.line.clear();
        }
    }
}

#[cfg(test)]
mod test;

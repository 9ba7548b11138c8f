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
    /// Silence after which the guest is hung.
    pub silence: Duration,
    /// Time after which it is hung whatever it prints.
    pub total: Duration,
    /// Called on a hang, while QEMU still runs. What the guest says meanwhile is dropped: its
    /// verdict stands.
    pub on_hang: Option<&'a (dyn Fn() + Sync)>,
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
    let end = loop {
        match serial.recv_timeout(GLANCE) {
            Ok(bytes) => {
                log.write_all(&bytes).with_context(|| {
                    format!("the serial log {} cannot be written", plan.log.display())
                })?;
                let mut kill = false;
                lines.feed(&bytes, |line| match each(line) {
                    Next::More => {}
                    Next::Through => {
                        through.get_or_insert_with(Instant::now);
                    }
                    Next::Kill => kill = true,
                });
                if kill {
                    // Its end is then seen like any other.
                    let _ = guest.child.kill();
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
        if heard.elapsed() > plan.silence {
            break End::Silent(plan.silence);
        }
        if started.elapsed() > plan.total {
            break End::Overdue(plan.total);
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
    const SETPRIV: &str = "/usr/bin/setpriv";
    // setpriv reports a missing program with a code of its own, not as a failed start.
    if !Path::new(SETPRIV).exists() || !is_there(qemu) {
        return Command::new(qemu);
    }
    let mut command = Command::new(SETPRIV);
    command.args(["--pdeathsig", "KILL", "--"]).arg(qemu);
    command
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
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn lines_of(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut lines = Lines::default();
        let mut all = Vec::new();
        for piece in pieces {
            lines.feed(piece, |line| all.push(line.to_vec()));
        }
        lines.finish(|line| all.push(line.to_vec()));
        all
    }

    #[test]
    fn lines_survive_any_cut_and_a_missing_newline() {
        let lines = lines_of(&[b"on", b"e\ntw", b"o\r\nthr", b"ee"]);
        assert_eq!(lines, [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
    }

    #[test]
    fn an_endless_line_takes_bounded_memory() {
        let flood = vec![b'x'; 1 << 20];
        assert_eq!(lines_of(&[&flood, b"\nok\n"])[0].len(), LINE_LIMIT);
    }

    fn shell(script: &str, silence_ms: u64) -> (Vec<String>, Finished) {
        shell_within(script, silence_ms, 20_000)
    }

    fn shell_within(script: &str, silence_ms: u64, total_ms: u64) -> (Vec<String>, Finished) {
        let limits = [silence_ms, total_ms].map(Duration::from_millis);
        shell_looked_at(script, limits, None)
    }

    fn shell_looked_at(
        script: &str,
        [silence, total]: [Duration; 2],
        on_hang: Option<&(dyn Fn() + Sync)>,
    ) -> (Vec<String>, Finished) {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let log = format!("faultline-{}-{number}.log", std::process::id());
        let log = std::env::temp_dir().join(log);
        let plan = Plan {
            qemu: Path::new("/bin/sh"),
            arguments: vec!["-c".into(), script.into()],
            log: log.clone(),
            silence,
            total,
            on_hang,
        };
        let mut lines = Vec::new();
        let finished = run(&plan, |line| {
            lines.push(String::from_utf8_lossy(line).into_owned());
            match line {
                b"through" => Next::Through,
                b"kill" => Next::Kill,
                _ => Next::More,
            }
        });
        let _ = std::fs::remove_file(log);
        (lines, finished.unwrap())
    }

    #[test]
    fn an_exit_code_is_told_from_a_signal() {
        assert_eq!(shell("echo a; exit 3", 9000).1.end, End::Exited(3));
        let (lines, finished) = shell("echo a; kill -9 $$", 9000);
        assert_eq!((lines, finished.end), (vec!["a".to_string()], End::Killed(9)));
    }

    #[test]
    fn silence_is_a_hang_and_the_child_is_gone() {
        let (_, finished) = shell("echo $$; exec sleep 60", 300);
        assert_eq!(finished.end, End::Silent(Duration::from_millis(300)));
        assert!(finished.wall < Duration::from_secs(10));
    }

    #[test]
    fn complaints_on_stderr_are_kept() {
        assert_eq!(shell("echo wrong >&2; exit 1", 9000).1.complaints, "wrong\n");
    }

    #[test]
    fn a_guest_that_speaks_now_and_then_is_not_silent() {
        let (lines, finished) = shell("for n in 1 2 3 4 5 6; do echo $n; sleep 0.4; done", 1500);
        assert_eq!((lines.len(), finished.end), (6, End::Exited(0)));
    }

    #[test]
    fn a_guest_that_speaks_for_ever_is_overdue() {
        let (_, finished) = shell_within("while echo x; do sleep 0.1; done", 9000, 1000);
        assert_eq!(finished.end, End::Overdue(Duration::from_millis(1000)));
    }

    #[test]
    fn a_guest_that_does_not_end_behind_its_log_lingers() {
        let (_, finished) = shell("echo through; exec sleep 60", 15_000);
        assert_eq!(finished.end, End::Lingered);
        assert!(finished.wall >= GRACE);
    }

    #[test]
    fn a_flood_is_ended() {
        let (_, finished) = shell("while head -c 1048576 /dev/zero; do :; done", 9000);
        assert_eq!(finished.end, End::Flood);
    }

    #[test]
    fn a_guest_is_killed_on_demand_as_by_an_accident() {
        assert_eq!(shell("echo kill; exec sleep 60", 15_000).1.end, End::Killed(9));
    }

    #[test]
    fn a_hang_is_looked_at_once_and_nothing_else_is() {
        for (script, silence, total, hangs) in [
            ("echo a; exec sleep 60", 500, 20_000, 1),
            ("while echo x; do sleep 0.1; done", 9000, 1000, 1),
            ("echo through; exec sleep 60", 15_000, 20_000, 1),
            ("exit 1", 9000, 20_000, 0),
            ("kill -9 $$", 9000, 20_000, 0),
        ] {
            let looks = AtomicUsize::new(0);
            let look = || {
                looks.fetch_add(1, Ordering::Relaxed);
            };
            let limits = [silence, total].map(Duration::from_millis);
            shell_looked_at(script, limits, Some(&look));
            assert_eq!(looks.load(Ordering::Relaxed), hangs, "{script}");
        }
    }

    /// QEMU's main loop waits for whoever reads its serial line, and its monitor with it.
    #[test]
    fn what_a_guest_says_while_it_is_looked_at_is_taken_from_it() {
        let go = std::env::temp_dir().join(format!("faultline-{}-go", std::process::id()));
        let name = go.display();
        let script = format!(
            "echo a; until [ -e {name} ]; do sleep 0.1; done; \
             head -c 1000000 /dev/zero; rm {name}; exec sleep 60"
        );
        let look = || {
            std::fs::write(&go, "").unwrap();
            let deadline = Instant::now() + Duration::from_secs(10);
            while go.exists() && Instant::now() < deadline {
                std::thread::yield_now();
            }
        };
        let limits = [300, 20_000].map(Duration::from_millis);
        let (lines, _) = shell_looked_at(&script, limits, Some(&look));
        let was_taken = !go.exists();
        let _ = std::fs::remove_file(&go);
        assert_eq!((lines, was_taken), (vec!["a".to_string()], true));
    }
}

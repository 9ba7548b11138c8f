//! QEMU's monitor: typed commands (QMP) over a socket that only this run knows.
//!
//! Every answer is waited for with a limit: a QEMU that is stopped must not stop us.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use qapi::{Command, ExecuteError, Qmp, Stream, qmp};

/// How long an answer may take. QEMU answers in milliseconds unless its main loop is held up.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes that the system takes as the path of a socket (`sun_path`, with its end).
const PATH_LIMIT: usize = 107;

/// Where one QEMU offers its monitor: a private folder, removed when dropped.
#[derive(Debug)]
pub struct Socket {
    folder: PathBuf,
}

/// A monitor that answers.
pub struct Monitor<'a> {
    socket: &'a Socket,
    qmp: Qmp<Stream<BufReader<UnixStream>, UnixStream>>,
}

impl Socket {
    /// A place for the socket; QEMU makes the socket itself.
    ///
    /// # Errors
    /// The folder for temporary files cannot be written, or its name is too long for a socket.
    pub fn new() -> Result<Self> {
        Self::below(&std::env::temp_dir())
    }

    fn below(parent: &Path) -> Result<Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        // Relaxed: only uniqueness matters.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = parent.join(format!("faultline-{}-{number}", std::process::id()));
        let socket = Self { folder };
        let length = socket.path().as_os_str().len();
        ensure!(
            length <= PATH_LIMIT,
            "the name of {} is too long for a socket",
            socket.folder.display()
        );
        // Private: who can open the monitor commands QEMU. An old one is of a process that is gone.
        let _ = std::fs::remove_dir_all(&socket.folder);
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&socket.folder)
            .with_context(|| format!("the folder {} cannot be made", socket.folder.display()))?;
        Ok(socket)
    }

    /// What QEMU's command line needs.
    pub fn arguments(&self) -> [OsString; 2] {
        // A comma ends an option's value unless it is doubled.
        let path = self.path().display().to_string().replace(',', ",,");
        ["-qmp".into(), format!("unix:{path},server=on,wait=off").into()]
    }

    /// Connects and shakes hands.
    ///
    /// # Errors
    /// QEMU is gone, or does not answer in time.
    pub fn connect(&self) -> Result<Monitor<'_>> {
        let stream = UnixStream::connect(self.path()).context("QEMU's monitor is gone")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let reader = BufReader::new(stream.try_clone()?);
        let mut qmp = Qmp::new(Stream::new(reader, stream));
        // Looked at before the handshake, which panics at the end of the stream.
        let greeting = qmp.inner_mut().fill_buf().map_err(|error| explained(error.into()))?;
        ensure!(!greeting.is_empty(), "QEMU's monitor closed without a word");
        qmp.handshake().map_err(explained)?;
        Ok(Monitor { socket: self, qmp })
    }

    fn path(&self) -> PathBuf {
        self.folder.join("qmp")
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Never made, or removed by a cleaner of temporary files: fine.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Monitor<'_> {
    /// Stops all CPUs of the guest.
    ///
    /// # Errors
    /// QEMU does not answer; so for all that follow.
    pub fn stop(&mut self) -> Result<()> {
        self.execute(&qmp::stop {}).map(drop)
    }

    /// Lets them run.
    pub fn cont(&mut self) -> Result<()> {
        self.execute(&qmp::cont {}).map(drop)
    }

    /// Lets `time` pass. Ends before with an error if QEMU does.
    pub fn wait(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.set_patience(left)?;
            let news = self.qmp.inner_mut().fill_buf().map(<[u8]>::len);
            self.set_patience(PATIENCE)?;
            match news {
                Ok(0) => bail!("QEMU's monitor is gone"),
                // Events: taken off on the way to the answer of a command that does nothing.
                Ok(_) => self.qmp.nop().map_err(|error| explained(error.into()))?,
                Err(error) if is_late(&error) => {}
                Err(error) => return Err(explained(error.into())),
            }
        }
    }

    /// Ends QEMU.
    pub fn quit(&mut self) -> Result<()> {
        self.execute(&qmp::quit {}).map(drop)
    }

    /// The answer to a line of the monitor for people, seen from `cpu`.
    pub fn ask(&mut self, cpu: usize, line: &str) -> Result<String> {
        let cpu_index = Some(i64::try_from(cpu)?);
        self.execute(&qmp::human_monitor_command { command_line: line.into(), cpu_index })
    }

    /// `length` bytes of the guest's physical memory at `address`.
    pub fn memory(&mut self, address: u64, length: usize) -> Result<Vec<u8>> {
        let file = self.socket.folder.join("memory");
        let filename = file.display().to_string();
        let (val, size) = (address, u64::try_from(length)?);
        self.execute(&qmp::pmemsave { val, size, filename })?;
        let bytes =
            std::fs::read(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        ensure!(bytes.len() == length, "QEMU saved {} bytes of {length}", bytes.len());
        Ok(bytes)
    }

    fn set_patience(&self, limit: Duration) -> Result<()> {
        Ok(self.qmp.inner().get_ref_write().set_read_timeout(Some(limit))?)
    }

    fn execute<C: Command>(&mut self, command: &C) -> Result<C::Ok> {
        self.qmp.execute(command).map_err(explained)
    }
}

/// Whether a read ended because its time was up.
fn is_late(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    matches!(error.kind(), TimedOut | WouldBlock)
}

fn explained(error: ExecuteError) -> anyhow::Error {
    match error {
        ExecuteError::Io(error) if is_late(&error) => {
            anyhow::anyhow!("QEMU's monitor did not answer within {} s", PATIENCE.as_secs())
        }
        ExecuteError::Io(error) => anyhow::Error::new(error).context("QEMU's monitor is gone"),
        ExecuteError::Qapi(error) => anyhow::anyhow!("QEMU refuses: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    use super::*;

    const GREETING: &str = concat!(
        r#"{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": ""}, "#,
        r#""capabilities": ["oob"]}}"#,
        "\n"
    );

    /// What connecting comes to where QEMU says `words` and then waits, or closes if it `ends`.
    fn connecting_to(words: &'static str, ends: bool) -> (Result<()>, Duration) {
        let socket = Socket::new().unwrap();
        let listener = UnixListener::bind(socket.path()).unwrap();
        let started = Instant::now();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(words.as_bytes()).unwrap();
            (!ends).then_some(stream)
        });
        let outcome = socket.connect().map(drop);
        let waited = started.elapsed();
        drop(server.join());
        (outcome, waited)
    }

    #[test]
    fn a_qemu_that_does_not_answer_is_given_up() {
        for words in ["", GREETING] {
            let (outcome, waited) = connecting_to(words, false);
            let error = format!("{:#}", outcome.unwrap_err());
            assert_eq!(error, "QEMU's monitor did not answer within 2 s", "after {words:?}");
            assert!(waited < 3 * PATIENCE, "{waited:?}");
        }
    }

    #[test]
    fn a_qemu_that_closes_its_monitor_is_an_error_and_no_panic() {
        for words in ["", GREETING] {
            let (outcome, _) = connecting_to(words, true);
            let error = format!("{:#}", outcome.unwrap_err());
            assert!(error.starts_with("QEMU's monitor"), "after {words:?}: {error}");
        }
    }

    /// What waiting for `time` comes to where QEMU says `words` after the handshake, then waits
    /// for a question and answers it, or closes if it `ends`.
    fn waiting(words: &'static str, time: Duration, ends: bool) -> (Result<()>, Duration) {
        let socket = Socket::new().unwrap();
        let listener = UnixListener::bind(socket.path()).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut questions = BufReader::new(stream.try_clone().unwrap()).lines();
            stream.write_all(GREETING.as_bytes()).unwrap();
            questions.next().unwrap().unwrap();
            stream.write_all(format!("{{\"return\": {{}}}}\n{words}").as_bytes()).unwrap();
            let version = GREETING.split_once("version\": ").unwrap().1;
            let version = version.split_once(", \"capabilities").unwrap().0;
            while !ends && questions.next().is_some_and(|line| line.is_ok()) {
                let _ = stream.write_all(format!("{{\"return\": {version}}}\n").as_bytes());
            }
        });
        let mut monitor = socket.connect().unwrap();
        let started = Instant::now();
        let outcome = monitor.wait(time);
        let waited = started.elapsed();
        drop(monitor);
        server.join().unwrap();
        (outcome, waited)
    }

    #[test]
    fn an_event_does_not_shorten_a_wait_and_an_end_does() {
        let time = Duration::from_millis(300);
        let resume =
            concat!(r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "RESUME"}"#, "\n");
        for words in ["", resume] {
            let (outcome, waited) = waiting(words, time, false);
            outcome.unwrap();
            assert!(time <= waited && waited < PATIENCE, "{waited:?} after {words:?}");
        }
        let (outcome, waited) = waiting("", 10 * PATIENCE, true);
        assert_eq!(outcome.unwrap_err().to_string(), "QEMU's monitor is gone");
        assert!(waited < PATIENCE, "{waited:?}");
    }

    #[test]
    fn the_folder_is_private_and_goes_with_its_socket() {
        let (first, second) = (Socket::new().unwrap(), Socket::new().unwrap());
        assert_ne!(first.folder, second.folder);
        let mode = std::fs::metadata(&first.folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let folder = first.folder.clone();
        drop(first);
        assert!(!folder.exists() && second.folder.exists());
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_refused() {
        let long = Path::new("/tmp").join("x".repeat(PATH_LIMIT));
        let error = Socket::below(&long).unwrap_err().to_string();
        assert!(error.ends_with("is too long for a socket"), "{error}");
    }

    #[test]
    fn a_comma_in_the_path_does_not_end_the_option() {
        let socket = Socket { folder: "/nowhere/a,b".into() };
        let unix = "unix:/nowhere/a,,b/qmp,server=on,wait=off";
        assert_eq!(socket.arguments(), ["-qmp", unix].map(OsString::from));
    }
}

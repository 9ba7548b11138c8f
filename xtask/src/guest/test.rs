//! A run of "QEMU" tried on shell scripts.

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
    shell_within(script, Deadline::fixed(Duration::from_millis(silence_ms)))
}

fn shell_within(script: &str, deadline: Deadline<'_>) -> (Vec<String>, Finished) {
    shell_looked_at(script, deadline, None)
}

fn shell_looked_at(
    script: &str,
    deadline: Deadline<'_>,
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
        deadline,
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
    let (_, finished) = shell("while echo x; do sleep 0.02; done", 100);
    assert_eq!(finished.end, End::Overdue(Duration::from_millis(1000)));
}

#[test]
fn a_machine_under_load_gives_its_guests_more_time() {
    let asked = AtomicUsize::new(0);
    let again = || {
        asked.fetch_add(1, Ordering::Relaxed);
        Duration::from_secs(30)
    };
    let silence = Duration::from_millis(200);
    let slow = "echo a; sleep 0.6; echo b";
    let (lines, finished) =
        shell_within(slow, Deadline { again: Some(&again), ..Deadline::fixed(silence) });
    assert_eq!((lines.len(), finished.end), (2, End::Exited(0)));
    assert_eq!(asked.into_inner(), 1);
    let as_before = || silence;
    let (_, finished) =
        shell_within(slow, Deadline { again: Some(&as_before), ..Deadline::fixed(silence) });
    assert_eq!(finished.end, End::Silent(silence));
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
    for (script, silence, hangs) in [
        ("echo a; exec sleep 60", 500, 1),
        ("while echo x; do sleep 0.02; done", 100, 1),
        ("echo through; exec sleep 60", 15_000, 1),
        ("exit 1", 9000, 0),
        ("kill -9 $$", 9000, 0),
    ] {
        let looks = AtomicUsize::new(0);
        let look = || {
            looks.fetch_add(1, Ordering::Relaxed);
        };
        let deadline = Deadline::fixed(Duration::from_millis(silence));
        shell_looked_at(script, deadline, Some(&look));
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
    let deadline = Deadline::fixed(Duration::from_millis(300));
    let (lines, _) = shell_looked_at(&script, deadline, Some(&look));
    let was_taken = !go.exists();
    let _ = std::fs::remove_file(&go);
    assert_eq!((lines, was_taken), (vec!["a".to_string()], true));
}

use super::*;

/// Two suites, three tests, all well.
const GOOD: &str = "KTAP version 1
1..2
# boot: cpus=2
    KTAP version 1
    # Subtest: lock
    1..2
    ok 1 a
    # about b
    ok 2 b
ok 1 lock
    KTAP version 1
    # Subtest: smp
    1..1
    ok 1 c
ok 2 smp
";

const ASKED: [(&str, &str); 3] = [("lock", "a"), ("smp", "c"), ("lock", "b")];

const CRASH: &str = "# oops: cpu=0 reason=x\nBail out! oops: data abort at 0x8\n";

fn asked(names: &[(&str, &str)]) -> Vec<(String, String)> {
    names.iter().map(|(suite, name)| (suite.to_string(), name.to_string())).collect()
}

fn boot_of(names: &[(&str, &str)], log: &str, end: &End) -> Outcome {
    let mut session = Session::new(&asked(names));
    for line in log.lines() {
        session.line(line.as_bytes());
    }
    session.finish(end, "warning\nqemu: died")
}

fn boot(log: &str, end: &End) -> Outcome {
    boot_of(&ASKED, log, end)
}

/// The good log with a part replaced.
fn with(from: &str, to: &str) -> String {
    assert_eq!(GOOD.matches(from).count(), 1, "{from}");
    GOOD.replace(from, to)
}

/// The good log up to and with a part.
fn until(last: &str) -> String {
    let at = GOOD.find(last).unwrap() + last.len();
    GOOD[..at].to_string()
}

/// `b` failed, and its suite with it.
fn failing() -> String {
    with("    ok 2 b\nok 1 lock", "    not ok 2 b\nnot ok 1 lock")
}

fn skipped() -> String {
    let skip = |log: String, test: &str| log.replace(test, &format!("{test} # SKIP no"));
    ["ok 1 a", "ok 2 b", "ok 1 c"].into_iter().fold(GOOD.to_string(), skip)
}

/// Each log and end must come to this exit and say this.
#[track_caller]
fn judged(cases: &[(&str, String, End, Exit, &str)]) {
    for (what, log, end, exit, words) in cases {
        let outcome = boot(log, end);
        assert_eq!(outcome.exit, *exit, "{what}: {}", outcome.why);
        assert!(outcome.why.contains(words), "{what}: {} lacks {words:?}", outcome.why);
        assert_eq!(outcome.why.is_empty(), *exit == Exit::Passed, "{what}: {}", outcome.why);
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_whole_log_with_the_exit_code_that_it_promises_is_believed() {
    let partly = GOOD.replace("ok 1 c", "ok 1 c # SKIP no");
    judged(&[
        ("all passed", GOOD.into(), End::Exited(0), Exit::Passed, ""),
        ("one skipped", partly, End::Exited(0), Exit::Passed, ""),
        ("one failed", failing(), End::Exited(1), Exit::Failed, "1 of 3 failed"),
    ]);
}

#[test]
fn an_exit_code_that_disagrees_with_the_log_is_no_verdict() {
    judged(&[
        (
            "0 with a failing test",
            failing(),
            End::Exited(0),
            Exit::NoVerdict,
            "exited with 0, its log says 1 failed",
        ),
        (
            "1 without one",
            GOOD.into(),
            End::Exited(1),
            Exit::NoVerdict,
            "exited with 1, its log says 0 failed",
        ),
        (
            "a crash's code",
            failing(),
            End::Exited(3),
            Exit::NoVerdict,
            "exited with 3, its log says 1 failed",
        ),
    ]);
}

#[test]
fn a_log_that_stops_is_cut_and_says_what_was_next() {
    for (last, place, next) in [
        ("", "it is empty", "a"),
        ("KTAP version 1\n", "it has no plan", "a"),
        ("# boot: cpus=2\n", "after suite 0 of 2", "a"),
        ("    ok 1 a\n", "after test 1 of 2 of suite lock", "b"),
        ("    # about b\n", "after test 1 of 2 of suite lock", "b"),
        ("    ok 2 b\n", "after test 2 of 2 of suite lock", "c"),
        ("    ok 1 c\n", "after test 1 of 1 of suite smp", "no test"),
    ] {
        let outcome = boot(&until(last), &End::Exited(0));
        let words = format!("the log is cut: {place}; {next} was next");
        assert_eq!((outcome.exit, outcome.why), (Exit::NoVerdict, words));
    }
}

#[test]
fn nothing_ran_is_no_verdict() {
    let outcome = boot_of(&[], "KTAP version 1\n1..0\n", &End::Exited(0));
    assert_eq!(outcome.exit, Exit::NoVerdict);
    assert!(outcome.why.contains("nothing ran"), "{}", outcome.why);
    let words = "everything was skipped";
    judged(&[("skips only", skipped(), End::Exited(0), Exit::NoVerdict, words)]);
}

#[test]
fn a_hang_is_told_from_a_crash_and_from_a_kill() {
    let middle = until("    ok 1 a\n");
    let crash = format!("{middle}{CRASH}");
    judged(&[
        (
            "silence",
            middle.clone(),
            End::Silent(seconds(3)),
            Exit::Hung,
            "printed nothing for 3.0 s while b ran",
        ),
        (
            "chatter",
            middle.clone(),
            End::Overdue(seconds(30)),
            Exit::Hung,
            "took more than 30 s; b was running",
        ),
        ("no end", GOOD.into(), End::Lingered, Exit::Hung, "did not end after its log"),
        ("crash", crash.clone(), End::Exited(3), Exit::Crashed, "gave up: oops: data abort at 0x8"),
        (
            "panic",
            format!("{middle}Bail out! panic: x\n"),
            End::Exited(3),
            Exit::Crashed,
            "gave up: panic: x",
        ),
        ("crash that hangs", crash, End::Lingered, Exit::Hung, "did not end"),
        (
            "signal",
            middle.clone(),
            End::Killed(11),
            Exit::NoVerdict,
            "killed by signal 11 while b ran qemu: died",
        ),
        ("flood", middle.clone(), End::Flood, Exit::NoVerdict, "more than any log can be while b"),
        ("ctrl-c", middle, End::Interrupted, Exit::NoVerdict, "interrupted while b ran"),
        (
            "no test of ours",
            "KTAP version 1\nBail out! command line: x\n".into(),
            End::Exited(2),
            Exit::Usage,
            "gave up: command line: x",
        ),
    ]);
}

#[test]
fn a_log_that_breaks_its_dialect_cannot_be_believed() {
    for (what, log, words) in [
        ("garbage", with("    ok 1 a\n", "\u{1}ok 1 a\n"), "bytes that are no text"),
        ("second boot", with("    # about b\n", GOOD), "the guest booted again"),
        ("second boot behind the end", format!("{GOOD}{GOOD}"), "output after the last result"),
        ("a line behind the end", format!("{GOOD}# more\n"), "output after the last result"),
        ("a result too many", with("    ok 2 b\n", "    ok 2 b\n    ok 3 d\n"), "more than"),
        ("a suite that lies", with("    ok 2 b\n", "    not ok 2 b\n"), "contradicts its tests"),
        ("a missing result", with("    ok 2 b\n", ""), "before those of all its tests"),
    ] {
        for end in [End::Exited(0), End::Exited(1), End::Silent(seconds(3))] {
            let outcome = boot(&log, &end);
            assert_eq!(outcome.exit, Exit::NoVerdict, "{what}: {}", outcome.why);
            let doubt = "the log cannot be believed";
            assert!(outcome.why.starts_with(doubt), "{what}: {}", outcome.why);
            assert!(outcome.why.contains(words), "{what}: {} lacks {words:?}", outcome.why);
        }
    }
}

#[test]
fn a_test_that_was_not_asked_for_is_noticed() {
    let other = with("ok 1 a", "ok 1 z");
    let swapped = with("ok 1 a", "ok 1 b").replace("ok 2 b", "ok 2 a");
    let suite = GOOD.replace("lock", "locks");
    judged(&[
        ("another", other, End::Exited(0), Exit::NoVerdict, "reports z, which was not next"),
        ("out of order", swapped, End::Exited(0), Exit::NoVerdict, "reports b, which was not next"),
        ("another suite", suite, End::Exited(0), Exit::NoVerdict, "reports a, which was not next"),
    ]);
}

#[test]
fn the_highest_code_wins_in_one_boot_too() {
    let middle = until("    # about b\n") + "    not ok 2 b\nnot ok 1 lock\n";
    judged(&[
        ("failure", failing(), End::Exited(1), Exit::Failed, "1 of 3 failed"),
        ("and a crash", middle.clone() + CRASH, End::Exited(3), Exit::Crashed, "data abort"),
        ("and a hang", middle.clone(), End::Silent(seconds(3)), Exit::Hung, "while c ran"),
        ("and a cut", middle, End::Exited(1), Exit::NoVerdict, "the log is cut"),
    ]);
}

#[test]
fn tests_that_never_ran_are_named() {
    let outcome = boot(&(until("    ok 1 a\n") + CRASH), &End::Exited(3));
    assert_eq!(outcome.results.len(), 1);
    assert_eq!(outcome.cut_short, Some(("lock".into(), "b".into())));
    assert_eq!(outcome.not_started, asked(&[("smp", "c")]));
    let outcome = boot("", &End::Silent(seconds(3)));
    assert_eq!(outcome.cut_short, Some(("lock".into(), "a".into())));
    assert_eq!(outcome.not_started, asked(&[("lock", "b"), ("smp", "c")]));
    let outcome = boot(GOOD, &End::Exited(0));
    assert_eq!((outcome.cut_short, outcome.not_started), (None, vec![]));
}

#[test]
fn a_result_has_its_own_diagnostics_and_the_tail_those_behind_it() {
    let outcome = boot(&(until("ok 1 lock\n") + CRASH), &End::Exited(3));
    let outputs: Vec<_> = outcome.results.iter().map(|result| result.output.join("\n")).collect();
    assert_eq!(outputs, ["boot: cpus=2", "about b"]);
    assert_eq!(outcome.tail[0], "ok 1 lock");
    assert_eq!(outcome.tail[2], "Bail out! oops: data abort at 0x8");
    assert_eq!(outcome.bail.as_deref(), Some("oops: data abort at 0x8"));
}

#[test]
fn the_tail_of_an_endless_log_is_bounded() {
    let log: String = (0..1000).map(|n| format!("# line {n}\n")).collect();
    let outcome = boot(&(until("1..2\n") + &log), &End::Silent(seconds(3)));
    assert_eq!(outcome.tail.len(), TAIL);
    assert_eq!(outcome.tail.last().map(String::as_str), Some("# line 999"));
}

#[test]
fn a_log_is_through_at_its_last_result_and_at_a_bail_out() {
    let mut session = Session::new(&asked(&ASKED));
    let nexts: Vec<_> = GOOD.lines().map(|line| session.line(line.as_bytes())).collect();
    let (last, before) = nexts.split_last().unwrap();
    assert!(*last == Next::Through && before.iter().all(|next| *next == Next::More));
    let mut session = Session::new(&asked(&ASKED));
    assert_eq!(session.line(b"Bail out! device tree: none"), Next::Through);
    assert_eq!(session.running(), Some(&("lock".to_string(), "a".to_string())));
}

/// Was green: a guest that dropped a test from its plan passed without it.
#[test]
fn a_plan_that_leaves_a_test_out_is_no_verdict() {
    let log = until("ok 1 lock\n").replace("1..2\n# boot", "1..1\n# boot");
    let outcome = boot(&log, &End::Exited(0));
    assert_eq!(outcome.exit, Exit::NoVerdict, "{}", outcome.why);
    assert_eq!(outcome.why, "1 of 3 tests never ran: c");
    assert_eq!(outcome.not_started, asked(&[("smp", "c")]));
}

/// Was a crash like any other: the code that the guest promises behind `Bail out!` was not looked
/// at.
#[test]
fn a_crash_that_exits_with_another_code_is_no_verdict() {
    let crash = until("    ok 1 a\n") + CRASH;
    let usage = until("# boot: cpus=2\n") + "Bail out! memory: none\n";
    let early = "KTAP version 1\nBail out! device tree: none\n".to_string();
    let words = "exited with 0, and its last words ask for 3";
    judged(&[
        ("crash, 0", crash, End::Exited(0), Exit::NoVerdict, words),
        ("usage, 2", usage.clone(), End::Exited(2), Exit::Usage, "memory: none"),
        ("usage, 1", usage, End::Exited(1), Exit::NoVerdict, "exited with 1, and its last words"),
        // Before the plan it has not read how to exit.
        ("no tree, 0", early, End::Exited(0), Exit::Usage, "device tree: none"),
    ]);
}

/// Was told as an exit code that disagrees, and as output behind the end: the panic itself was not
/// named.
#[test]
fn a_panic_behind_the_last_result_is_a_crash() {
    let log = format!("{GOOD}# oops: cpu=0 reason=panic\nBail out! panic: x\n");
    judged(&[("panic", log, End::Exited(3), Exit::Crashed, "gave up: panic: x")]);
}

#[test]
fn skips_are_told_from_a_log_that_cannot_be_believed() {
    assert!(boot(&skipped(), &End::Exited(0)).only_skips);
    assert!(!boot(GOOD, &End::Exited(0)).only_skips);
    assert!(!boot_of(&[], "KTAP version 1\n1..0\n", &End::Exited(0)).only_skips);
    for (log, end) in [
        (skipped(), End::Exited(3)),
        (skipped(), End::Lingered),
        (skipped() + "# more\n", End::Exited(0)),
        (skipped() + CRASH, End::Exited(3)),
    ] {
        let outcome = boot(&log, &end);
        assert!(!outcome.only_skips, "{}", outcome.why);
    }
}

/// A deadlock in the first of two tests of the first suite, as the kernel writes it.
const DEADLOCK: &str = "    # deadlock: lock arena held by cpu0; cpu0 waits for it (A-A)
    # FAIL: deadlock
    not ok 1 a
not ok 1 lock
";

/// Was no verdict, laid on the next test.
#[test]
fn a_deadlock_fails_its_own_test_and_no_other() {
    let log = until("    1..2\n") + DEADLOCK;
    let outcome = boot(&log, &End::Exited(1));
    assert_eq!(outcome.exit, Exit::Failed, "{}", outcome.why);
    assert!(outcome.why.contains("lock arena held by cpu0"), "{}", outcome.why);
    assert_eq!(outcome.cut_short, None);
    assert_eq!(outcome.not_started, asked(&[("lock", "b"), ("smp", "c")]));
    // In the last suite the log is complete, but for the tests behind the deadlock.
    let last = log.replacen("1..2", "1..1", 1);
    let outcome = boot_of(&ASKED[..1], &last, &End::Exited(1));
    assert_eq!(outcome.exit, Exit::Failed, "{}", outcome.why);
}

#[test]
fn a_deadlock_excuses_no_other_end() {
    let log = until("    1..2\n") + DEADLOCK;
    let plain = log.replace("deadlock: ", "about: ");
    judged(&[
        ("exit code 0", log.clone(), End::Exited(0), Exit::NoVerdict, "the log is cut"),
        ("a kill", log.clone(), End::Killed(9), Exit::NoVerdict, "killed by signal 9"),
        ("a hang", log.clone(), End::Silent(seconds(3)), Exit::Hung, "nothing for 3.0 s"),
        ("a second boot", log + GOOD, End::Exited(1), Exit::NoVerdict, "booted again"),
        ("no deadlock", plain, End::Exited(1), Exit::NoVerdict, "the log is cut: after suite 1"),
    ]);
}

/// Was told as a log that cannot be believed: the kill had cut its last line.
#[test]
fn a_kill_in_the_middle_of_a_line_is_told_as_a_kill() {
    let log = until("    ok 1 a\n") + "    o";
    let words = "killed by signal 9 while b ran";
    judged(&[("kill", log, End::Killed(9), Exit::NoVerdict, words)]);
}

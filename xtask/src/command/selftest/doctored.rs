//! Logs that were good until they were doctored: no guest runs.

use std::fmt::Arguments;
use std::time::Duration;

use ktap::write::{self, Verdict};

use super::Wanted;
use crate::command::test::Job;
use crate::exit::Exit::{Crashed, Failed, Hung, NoVerdict, Passed};
use crate::guest::End;
use crate::session::{Outcome, Session};

/// A way to break a log.
struct Break {
    wanted: Wanted,
    /// Breaks the lines of the good log.
    doctor: fn(&mut Vec<String>),
    /// How the guest ended.
    end: End,
}

/// Line numbers in the good log.
const SUITE_PLAN: usize = 4;
const FIRST: usize = 5;
const SECOND: usize = 6;
const SUITE: usize = 7;

const CUT: &str = "the log is cut";
const BELIEVED: &str = "the log cannot be believed";

/// A job for each break.
pub fn jobs<'a>() -> Vec<Job<'a>> {
    let job = |each: Break| {
        Job::single(format!("harness/log/{}", each.wanted.name), move || {
            let Outcome { exit, why, .. } = each.outcome();
            Ok(each.wanted.record("log", exit, &why))
        })
    };
    breaks().into_iter().map(job).collect()
}

/// What each must come to.
#[cfg(test)]
pub fn wanted() -> impl Iterator<Item = Wanted> {
    breaks().into_iter().map(|each| each.wanted)
}

fn breaks() -> Vec<Break> {
    let seconds = Duration::from_secs(9);
    let with =
        |name, exit, says, end, doctor| Break { wanted: Wanted { name, exit, says }, doctor, end };
    let ended = |name, exit, says, doctor| with(name, exit, says, End::Exited(0), doctor);
    let failing = |name, exit, says, doctor| with(name, exit, says, End::Exited(1), doctor);
    let mut all = ends(seconds);
    all.extend([
        ended("a-sound-log-passes", Passed, "", |_| {}),
        failing("a-failing-test-fails", Failed, "1 of 2 failed", |log| fail(log)),
        ended("a-failing-test-with-exit-0", NoVerdict, "exited with 0", |log| fail(log)),
        failing("a-sound-log-with-exit-1", NoVerdict, "exited with 1", |_| {}),
        ended("an-empty-log", NoVerdict, CUT, Vec::clear),
        ended("nothing-matched", NoVerdict, "", |log| {
            *log = vec![write::HEADER.into(), "1..0".into()]
        }),
        ended("everything-skipped", NoVerdict, "everything was skipped", |log| skip(log)),
        ended("cut-between-two-tests", NoVerdict, CUT, |log| log.truncate(SECOND)),
        ended("cut-before-the-suite-result", NoVerdict, CUT, |log| log.truncate(SUITE)),
        ended("cut-in-the-middle-of-a-line", NoVerdict, CUT, |log| log[SUITE] = "ok".into()),
        ended("a-second-boot", NoVerdict, BELIEVED, |log| log.extend(log.clone())),
        ended("a-test-too-few", NoVerdict, BELIEVED, |log| drop(log.remove(FIRST))),
        ended("a-test-too-many", NoVerdict, BELIEVED, |log| {
            log.insert(SUITE, "    ok 3 three".into())
        }),
        ended("a-plan-of-more-tests-than-were-asked-for", NoVerdict, BELIEVED, |log| {
            log[SUITE_PLAN] = "    1..3".into();
            log.insert(SUITE, "    ok 3 three".into());
        }),
        failing("a-suite-that-hides-a-failure", NoVerdict, BELIEVED, |log| {
            log[FIRST] = "    not ok 1 one".into();
        }),
        ended("a-suite-that-is-skipped-as-a-whole", NoVerdict, BELIEVED, |log| {
            log[SUITE] += " # SKIP no";
        }),
        ended("another-test-than-asked-for", NoVerdict, "which was not next", |log| {
            log[FIRST] = "    ok 1 other".into();
        }),
        ended("a-number-with-a-zero-before-it", NoVerdict, BELIEVED, |log| {
            log[FIRST] = "    ok 01 one".into();
        }),
        ended("a-todo-is-no-pass", NoVerdict, BELIEVED, |log| log[FIRST] += " # TODO later"),
        failing("a-todo-is-no-excuse", NoVerdict, BELIEVED, |log| {
            log[FIRST] = "    not ok 1 one # TODO later".into();
        }),
        ended("output-behind-the-end", NoVerdict, BELIEVED, |log| log.push("# more".into())),
        ended("two-lines-in-one", NoVerdict, BELIEVED, |log| {
            log[FIRST] = "    ok 1     ok 2 twoone".into();
        }),
        ended("a-line-riddled-with-nul", NoVerdict, BELIEVED, |log| log[FIRST].push('\0')),
    ]);
    all
}

/// The ways in which a guest can end.
fn ends(seconds: Duration) -> Vec<Break> {
    let with =
        |name, exit, says, end, doctor| Break { wanted: Wanted { name, exit, says }, doctor, end };
    let half: fn(&mut Vec<String>) = |log| log.truncate(SECOND);
    vec![
        with("a-timeout", Hung, "nothing for 9.0 s while two ran", End::Silent(seconds), half),
        with("a-guest-that-talks-for-ever", Hung, "more than 9 s", End::Overdue(seconds), half),
        with("a-guest-that-lingers", Hung, "did not end", End::Lingered, |_| {}),
        with("a-killed-qemu", NoVerdict, "signal 9 while two ran", End::Killed(9), half),
        with("a-flood", NoVerdict, "more than any log can be", End::Flood, half),
        with("an-interrupted-run", NoVerdict, "interrupted", End::Interrupted, half),
        with("a-panic-between-tests", Crashed, "panic: in between", End::Exited(3), |log| {
            log.truncate(SECOND);
            log.push("Bail out! panic: in between".into());
        }),
        with("a-panic-behind-the-last-result", Crashed, "panic: late", End::Exited(3), |log| {
            log.push("Bail out! panic: late".into());
        }),
        with("results-behind-a-bail-out", Crashed, "in between", End::Exited(3), |log| {
            log.insert(SECOND, "Bail out! panic: in between".into());
        }),
    ]
}

impl Break {
    fn outcome(&self) -> Outcome {
        let mut log = good();
        (self.doctor)(&mut log);
        let mut session = Session::new(&[("s".into(), "one".into()), ("s".into(), "two".into())]);
        for line in &log {
            session.line(line.as_bytes());
        }
        session.finish(&self.end, "")
    }
}

/// A log of two tests that passed, as the guest writes it.
fn good() -> Vec<String> {
    let mut lines = Vec::new();
    let mut out = |line: Arguments<'_>| lines.push(line.to_string());
    write::open(&mut out, 1);
    write::begin_suite(&mut out, "s", 2);
    write::result(&mut out, 1, "one", Verdict::Ok);
    write::result(&mut out, 2, "two", Verdict::Ok);
    write::suite_result(&mut out, 1, "s", true);
    lines
}

fn fail(log: &mut [String]) {
    log[FIRST] = "    not ok 1 one".into();
    log[SUITE] = "not ok 1 s".into();
}

fn skip(log: &mut [String]) {
    log[FIRST] += " # SKIP no";
    log[SECOND] += " # SKIP no";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Status;

    #[test]
    fn every_doctored_log_is_caught_with_its_code_and_words() {
        for each in breaks() {
            let Outcome { exit, why, .. } = each.outcome();
            let status = each.wanted.record("log", exit, &why).status;
            assert_eq!(status, Status::Passed, "{}", each.wanted.name);
        }
    }

    #[test]
    fn only_the_sound_log_passes() {
        let passing = breaks().into_iter().filter(|each| each.wanted.exit == Passed);
        assert!(passing.map(|each| each.wanted.name).eq(["a-sound-log-passes"]));
    }
}

//! Whether a boot of its own ended as its item says it must.

use ktap::item::Expect;
use ktap::parse::Status;

use crate::exit::Exit;
use crate::session::Outcome;

/// Judges an outcome by an expectation.
///
/// # Errors
/// What came instead.
pub fn judge(expect: &Expect, outcome: &Outcome) -> Result<(), String> {
    let met = match expect {
        Expect::Pass => outcome.why.is_empty(),
        // In the midst of the item: one that has a result has outlived what was to end it.
        Expect::Oops(text) => {
            outcome.exit == Exit::Crashed
                && outcome.results.is_empty()
                && outcome.bail.as_deref().is_some_and(|bail| says(bail, text))
        }
        Expect::Deadlock(text) => failed_with(outcome, &format!("deadlock: {text}")),
        Expect::Fail(text) => failed_with(outcome, text),
    };
    if met { Ok(()) } else { Err(format!("expected {}; {}", describe(expect), came(outcome))) }
}

/// Whether the item failed, in an otherwise sound log, and said `text`.
fn failed_with(outcome: &Outcome, text: &str) -> bool {
    outcome.exit == Exit::Failed
        && outcome.results.iter().any(|result| {
            result.status == Status::NotOk && result.output.iter().any(|line| says(line, text))
        })
}

/// Whether a line has the parts of `text` that `*` separates, one after the other.
fn says(line: &str, text: &str) -> bool {
    let mut rest = Some(line);
    for part in text.split('*') {
        rest = rest.and_then(|line| line.split_once(part)).map(|(_, behind)| behind);
    }
    rest.is_some()
}

fn describe(expect: &Expect) -> String {
    match expect {
        Expect::Pass => "it to pass".into(),
        Expect::Oops(text) => format!("an oops that says \"{text}\""),
        Expect::Deadlock(text) => format!("a deadlock report that says \"{text}\""),
        Expect::Fail(text) => format!("it to be caught, saying \"{text}\""),
    }
}

fn came(outcome: &Outcome) -> String {
    match outcome.why.as_str() {
        "" => "it passed".into(),
        why => format!("the guest {}: {why}", outcome.exit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::TestResult;

    fn outcome(exit: Exit, why: &str) -> Outcome {
        Outcome {
            results: Vec::new(),
            cut_short: None,
            not_started: Vec::new(),
            exit,
            why: why.into(),
            only_skips: false,
            bail: None,
            tail: Vec::new(),
        }
    }

    #[test]
    fn a_star_stands_for_anything() {
        assert!(says("fault, level 2; write at 0x10, in RAM", "level *; write at 0x10"));
        assert!(says("fault, level 3; write", "fault, level 3; write"));
        assert!(!says("fault, level 2; read at 0x10", "level *; write at 0x10"));
        assert!(!says("write at 0x10; level 2", "level *; write at 0x10"));
    }

    /// A boot whose one item has a result.
    fn reported(exit: Exit, status: Status, said: &str) -> Outcome {
        let result = TestResult {
            suite: "s".into(),
            name: "n".into(),
            status,
            output: vec!["before".into(), said.into()],
        };
        let why = if exit == Exit::Passed { "" } else { "why" };
        Outcome { results: vec![result], ..outcome(exit, why) }
    }

    fn crashed(exit: Exit, bail: &str) -> Outcome {
        Outcome { bail: Some(bail.into()), ..outcome(exit, bail) }
    }

    #[test]
    fn what_must_pass_must_pass_in_every_respect() {
        assert_eq!(judge(&Expect::Pass, &outcome(Exit::Passed, "")), Ok(()));
        for exit in [Exit::Failed, Exit::Usage, Exit::Crashed, Exit::Hung, Exit::NoVerdict] {
            let error = judge(&Expect::Pass, &outcome(exit, "the reason")).unwrap_err();
            assert!(error.starts_with("expected it to pass; the guest"), "{error}");
            assert!(error.ends_with(": the reason"), "{error}");
        }
    }

    #[test]
    fn an_oops_must_be_the_one_that_was_expected() {
        let expect = Expect::Oops("near null".into());
        let met = |outcome: &Outcome| judge(&expect, outcome).is_ok();
        assert!(met(&crashed(Exit::Crashed, "oops: read at 0x8, near null")));
        assert!(met(&crashed(Exit::Crashed, "panic: near null")));
        assert!(!met(&crashed(Exit::Crashed, "oops: read at 0x8, in RAM")));
        assert!(!met(&crashed(Exit::Usage, "command line: near null")));
        assert!(!met(&outcome(Exit::Passed, "")));
        let error = judge(&expect, &outcome(Exit::Passed, "")).unwrap_err();
        assert_eq!(error, "expected an oops that says \"near null\"; it passed");
    }

    /// Was green: a guest that oopsed as it must and then hung, or exited with another code.
    #[test]
    fn an_oops_that_does_not_end_as_a_crash_is_not_the_expected_one() {
        let expect = Expect::Oops("near null".into());
        for exit in [Exit::Hung, Exit::NoVerdict] {
            assert!(judge(&expect, &crashed(exit, "oops: near null")).is_err(), "{exit}");
        }
    }

    /// Was green: a test that survived what must end it, and crashed on its way out.
    #[test]
    fn an_oops_behind_the_test_s_own_result_is_not_the_expected_one() {
        let expect = Expect::Oops("near null".into());
        let survived = reported(Exit::Crashed, Status::NotOk, "FAIL: survived");
        let outcome = Outcome { bail: Some("oops: near null".into()), ..survived };
        assert!(judge(&expect, &outcome).is_err());
    }

    #[test]
    fn a_deadlock_must_be_reported_as_one_by_a_test_that_failed() {
        let expect = Expect::Deadlock("lock arena held".into());
        let met = |exit, status, said: &str| judge(&expect, &reported(exit, status, said)).is_ok();
        let report = "deadlock: lock arena held by cpu0";
        assert!(met(Exit::Failed, Status::NotOk, report));
        assert!(!met(Exit::Failed, Status::NotOk, "lock arena held by cpu0"));
        assert!(!met(Exit::Failed, Status::NotOk, "deadlock: lock heap held by cpu0"));
        assert!(!met(Exit::Failed, Status::Ok, report));
        for exit in [Exit::Passed, Exit::Crashed, Exit::Hung, Exit::NoVerdict] {
            assert!(!met(exit, Status::NotOk, report), "{exit}");
        }
    }

    #[test]
    fn a_broken_variant_must_be_caught_by_the_claim_that_is_about_it() {
        let expect = Expect::Fail("alloc over scratch".into());
        let met = |exit, status, said: &str| judge(&expect, &reported(exit, status, said)).is_ok();
        assert!(met(Exit::Failed, Status::NotOk, "FAIL: alloc over scratch: in use"));
        assert!(!met(Exit::Failed, Status::NotOk, "FAIL: something else"));
        assert!(!met(Exit::Failed, Status::Ok, "FAIL: alloc over scratch: in use"));
        assert!(!met(Exit::Passed, Status::Ok, "nothing"));
        let outcome = reported(Exit::Failed, Status::NotOk, "x");
        let error = judge(&expect, &outcome).unwrap_err();
        assert!(error.starts_with("expected it to be caught, saying \"alloc over scratch\""));
    }
}

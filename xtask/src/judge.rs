//! Whether a boot of its own ended as its item says it must.

use ktap::item::Expect;
use ktap::parse::Status;

use crate::session::{Outcome, is_crash};

/// Judges an outcome by an expectation.
///
/// # Errors
/// What came instead.
pub fn judge(expect: &Expect, outcome: &Outcome) -> Result<(), String> {
    let met = match expect {
        Expect::Pass => outcome.why.is_empty(),
        Expect::Oops(text) => {
            outcome.bail.as_deref().is_some_and(|bail| is_crash(bail) && bail.contains(text))
        }
        Expect::Deadlock(text) => failed_with(outcome, &format!("deadlock: {text}")),
        Expect::Fail(text) => failed_with(outcome, text),
    };
    if met { Ok(()) } else { Err(format!("expected {}; {}", describe(expect), came(outcome))) }
}

/// Whether the item failed, in an otherwise sound log, and said `text`.
fn failed_with(outcome: &Outcome, text: &str) -> bool {
    outcome.exit == crate::exit::Exit::Failed
        && outcome.results.iter().any(|result| {
            result.status == Status::NotOk && result.output.iter().any(|line| line.contains(text))
        })
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

//! Running a model: how far, and what was seen.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs every execution of `model`; prints how many there were.
pub fn holds(name: &str, model: impl Fn() + Sync + Send + 'static) {
    holds_within(name, None, model);
}

/// Runs every execution of `model` with at most so many preemptions, unless `FAULTLINE_LOOM_BOUND` says
/// otherwise: for scenarios whose executions take minutes.
pub fn holds_within(name: &str, most: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let bound = given_bound().or(most);
    let (executions, outcome) = explore(bound, model);
    match outcome {
        Ok(()) => println!(
            "loom: {name}: holds in all {executions} executions of two threads, {}",
            match bound {
                None => "any number of preemptions: complete for this scenario".into(),
                Some(bound) => format!("at most {bound} preemptions"),
            }
        ),
        Err(why) => panic!("{name}: execution {executions}: {why}"),
    }
}

/// Runs `model`, which must fail; prints which execution did.
pub fn fails(name: &str, model: impl Fn() + Sync + Send + 'static) {
    let (executions, outcome) = explore(given_bound(), model);
    match outcome {
        Ok(()) => panic!("{name}: held in all {executions} executions"),
        Err(why) => println!("loom: {name}: caught by execution {executions}: {why}"),
    }
}

/// Preemptions of an execution, if `FAULTLINE_LOOM_BOUND` says how many.
fn given_bound() -> Option<usize> {
    let given = std::env::var("FAULTLINE_LOOM_BOUND").ok()?;
    Some(given.parse().expect("FAULTLINE_LOOM_BOUND is a number"))
}

fn explore(
    bound: Option<usize>,
    model: impl Fn() + Sync + Send + 'static,
) -> (usize, Result<(), String>) {
    let executions = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&executions);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = bound;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        builder.check(move || {
            count.fetch_add(1, Ordering::Relaxed);
            model();
        });
    }));
    let why = |payload: Box<dyn std::any::Any + Send>| {
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_string()));
        text.unwrap_or_else(|| "a panic without a text".into())
    };
    (executions.load(Ordering::Relaxed), outcome.map_err(why))
}

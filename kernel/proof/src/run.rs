//! Running a model: how far, and what was seen.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs every execution of `model` within the bound, if there is one; prints how many there were.
pub fn holds(name: &str, model: impl Fn() + Sync + Send + 'static) {
    let (executions, outcome) = explore(model);
    match outcome {
        Ok(()) => println!(
            "loom: {name}: holds in all {executions} executions of two threads, {}",
            match bound() {
                None => "any number of preemptions: complete for this scenario".into(),
                Some(bound) => format!("at most {bound} preemptions"),
            }
        ),
        Err(why) => panic!("{name}: execution {executions}: {why}"),
    }
}

/// Runs `model`, which must fail; prints which execution did.
pub fn fails(name: &str, model: impl Fn() + Sync + Send + 'static) {
    let (executions, outcome) = explore(model);
    match outcome {
        Ok(()) => panic!("{name}: held in all {executions} executions"),
        Err(why) => println!("loom: {name}: caught by execution {executions}: {why}"),
    }
}

/// Preemptions of an execution, as `FAULTLINE_LOOM_BOUND` says; any number without it.
fn bound() -> Option<usize> {
    let given = std::env::var("FAULTLINE_LOOM_BOUND").ok()?;
    Some(given.parse().expect("FAULTLINE_LOOM_BOUND is a number"))
}

fn explore(model: impl Fn() + Sync + Send + 'static) -> (usize, Result<(), String>) {
    let executions = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&executions);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = bound();
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

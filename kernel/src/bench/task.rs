//! A task's accesses to its arena, counted at EL0: exception, answer and retry are all in the figure.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use arena::addr::VirtAddr;

use super::{Measured, ROUNDS, WARM, quietly};
use crate::arch::user::let_el0_count;
use crate::mem::arena::KernelArena;
use crate::runner::{Ctx, Failure, Outcome, claim, item};
use crate::task::schedule::Schedule;
use crate::task::{End, Task, user};

item! {
    name: "bench-tasks",
    suite: "bench",
    about: "a task's first touch of a page, and its touch of one that is mapped",
    run: tasks,
}

/// Counts of `isb; mrs` twice with nothing between.
const EMPTY_BRACKET: u64 = 2;

fn tasks(_: &Ctx) -> Outcome {
    let arena = KernelArena::create(64).map_err(Failure::of("arena"))?;
    let page = arena.window().page(9);
    let user = arena.window().to_user(page);
    let untouched = || arena.free(page, 1).map_err(Failure::of("free"));
    let (first, again) = quietly_counting(|| {
        let first = touches(&arena, user, untouched)?;
        Ok((first, touches(&arena, user, || Ok(()))?))
    })?;
    // Else what is counted is no fault. (Under -icount the second is 1.)
    let (touch, load) = (first.count, again.count);
    claim!(load < touch, "a first touch counts {touch}, a load of a mapped page {load}");
    first.print("user-first-touch", 1);
    Ok(())
}

/// Calls `figures` with the tick off and the counter open to EL0.
fn quietly_counting<R>(figures: impl FnOnce() -> Result<R, Failure>) -> Result<R, Failure> {
    let mut outcome = None;
    quietly(|| {
        let_el0_count(true);
        outcome = Some(figures());
        let_el0_count(false);
        Ok(())
    })?;
    outcome.ok_or_else(|| Failure::new("nothing was measured".into()))?
}

/// A load from `at` by a task a round, each behind `prepare`.
fn touches(
    arena: &Arc<KernelArena>,
    at: VirtAddr,
    prepare: impl Fn() -> Outcome,
) -> Result<Measured, Failure> {
    let mut counts = Vec::with_capacity(ROUNDS);
    for round in 0..WARM + ROUNDS {
        prepare()?;
        let count = timed_load(arena, at)?;
        if round >= WARM {
            counts.push(count);
        }
    }
    Ok(Measured::of(counts))
}

/// What one load from `at` takes a task.
fn timed_load(arena: &Arc<KernelArena>, at: VirtAddr) -> Result<u64, Failure> {
    let task = Task::create("bench", &user::TIMED_LOAD, at.get(), Some(arena.clone()));
    let mut schedule = Schedule::new();
    schedule.add(task.map_err(Failure::of("task"))?).map_err(Failure::of("schedule"))?;
    match schedule.run().first().map(|task| task.end) {
        Some(End::Exited(count)) => Ok(count.saturating_sub(EMPTY_BRACKET)),
        other => Err(Failure::new(format!("the task did not exit: {other:?}"))),
    }
}

//! `irq-enabled-lock.explored`: the schedule raises a timer interrupt at any step of an allocation.
//!
//! Actors: L (CPU 0) and B (CPU 1) each allocate a page and free it; T, a program on `sched_tick`,
//! allocates and frees a page of its own on whichever CPU the tick comes.
//! Right: under the lock the tick waits, so T gets its page each time, late or at once.
//! Wrong (`irqs-on`): a tick inside the critical section meets its own CPU's lock: A-A.

use core::sync::atomic::{AtomicU64, Ordering};

use arena::arena::AllocError;
use arena::hw::LockError;

use super::stage::Stage;
use super::{load, page, tear_down};
use crate::lab::race::Race;
use crate::lab::{engine, explore};
use crate::prog::kfunc;
use crate::prog::program::{Code, Program};
use crate::prog::tracepoint::SCHED_TICK;
use crate::runner::item::variant;
use crate::runner::{Ctx, Failure, Outcome, claim, item};

item! {
    name: "irq-enabled-lock.explored",
    suite: "scenario",
    about: "a timer program enters the arena at any step of an allocation",
    variants: &[
        variant("irqs-on", "the lock leaves IRQs on", "fail: A-A through the interrupt"),
    ],
    min_cpus: 2,
    explored: true,
    run: irq_enabled_lock,
}

/// Ticks of one schedule.
const TICKS: u32 = 2;

/// T. The counts are of one schedule.
struct AllocOnTick {
    runs: AtomicU64,
    refused_aa: AtomicU64,
    other_errors: AtomicU64,
}

static TICK: AllocOnTick = AllocOnTick {
    runs: AtomicU64::new(0),
    refused_aa: AtomicU64::new(0),
    other_errors: AtomicU64::new(0),
};

impl Code for AllocOnTick {
    fn run(&self, program: &Program, _: u64) -> u64 {
        // Ticks of the timer's own come before and behind the exploration.
        if !engine::is_acting() {
            return 0;
        }
        self.runs.fetch_add(1, Ordering::Relaxed);
        let outcome = kfunc::arena_alloc_pages(program, None, 1)
            .map(|page| kfunc::arena_free_pages(program, page, 1).is_ok());
        let counter = match outcome {
            Ok(true) => return 0,
            Err(AllocError::Lock(LockError::Aa)) => &self.refused_aa,
            Ok(false) | Err(_) => &self.other_errors,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        0
    }
}

struct Actors {
    stage: Stage,
    failed: AtomicU64,
}

impl Race for Actors {
    fn reset(&self) -> Outcome {
        self.failed.store(0, Ordering::Relaxed);
        for count in [&TICK.runs, &TICK.refused_aa, &TICK.other_errors] {
            count.store(0, Ordering::Relaxed);
        }
        self.stage.clear()
    }

    fn act(&self, cpu: usize) {
        let at = if cpu == 0 { self.stage.target } else { self.stage.second() };
        let arena = &self.stage.arena;
        if arena.alloc(Some(at), 1).is_err() || arena.free(at, 1).is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn check(&self) -> Outcome {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (runs, refused) = (read(&TICK.runs), read(&TICK.refused_aa));
        claim!(
            refused == 0,
            "A-A through the interrupt: {refused} of {runs} ticks met the lock held by their own CPU"
        );
        let other = read(&TICK.other_errors) + read(&self.failed);
        claim!(other == 0, "{other} allocations failed");
        if runs > 0 {
            self.stage.meet();
        }
        Ok(())
    }

    fn ticks(&self) -> u32 {
        TICKS
    }
}

fn irq_enabled_lock(ctx: &Ctx) -> Outcome {
    let stage = Stage::new(ctx)?;
    let ticker = load("alloc-on-tick", &TICK, &stage.arena)?;
    SCHED_TICK.attach(ticker.clone()).map_err(Failure::of_debug("attach"))?;
    let mut ground = stage.ground(2);
    // Where ticks find their pages: the tightest range that is free.
    ground.pages.extend([page(&stage.arena, 0), page(&stage.arena, 1)]);
    let actors = Actors { stage, failed: AtomicU64::new(0) };
    let outcome = explore::run(ctx, &ground, &actors);
    drop(SCHED_TICK.detach());
    outcome?;
    actors.stage.met(ctx, "a tick came")?;
    drop(ground);
    ticker.tear_down().map_err(Failure::of_debug("teardown"))?;
    drop(ticker);
    tear_down(ctx, actors.stage.program, actors.stage.arena)
}

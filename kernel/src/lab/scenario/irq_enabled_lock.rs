//! `irq-enabled-lock`: a timer program enters the arena while its CPU holds the arena's lock.
//!
//! Actors: L, an allocation; W, a program on `mm_page_alloc`, which waits under the lock until
//! this CPU's timer interrupt is pending; T, a program on `sched_tick`, which allocates.
//! Right: IRQs are masked under the lock, so the tick waits, and T gets its page afterwards.
//! Wrong (`irqs-on`): the interrupt lands inside the critical section and T meets its own CPU's
//! lock: A-A through the interrupt.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arena::arena::AllocError;
use arena::hw::LockError;

use super::{load, new_arena, tear_down};
use crate::arch::barrier;
use crate::arch::percpu::CpuId;
use crate::arch::timer;
use crate::prog::program::{Code, Program};
use crate::prog::tracepoint::{MM_PAGE_ALLOC, SCHED_TICK};
use crate::prog::{kfunc, running};
use crate::runner::item::variant;
use crate::runner::{Ctx, Failure, Outcome, claim, item};

item! {
    name: "irq-enabled-lock",
    suite: "scenario",
    about: "a timer program enters the arena while its CPU holds the lock",
    variants: &[
        variant("irqs-on", "the lock leaves IRQs on", "fail: A-A through the interrupt"),
    ],
    run: irq_enabled_lock,
}

/// W: waits until the tick is due. Only for L: T's own allocation runs it as well, and a tick that
/// waits for the next would leave no time to anyone. `ticks_inside` counts those that came while
/// it waited.
struct WaitForTick {
    ticks_inside: AtomicU64,
}

/// T: allocates a page on the scenario's CPU and frees it.
struct AllocOnTick {
    cpu: AtomicU32,
    runs: AtomicU64,
    refused_aa: AtomicU64,
    other_errors: AtomicU64,
}

static WAIT: WaitForTick = WaitForTick { ticks_inside: AtomicU64::new(0) };
static TICK: AllocOnTick = AllocOnTick {
    cpu: AtomicU32::new(0),
    runs: AtomicU64::new(0),
    refused_aa: AtomicU64::new(0),
    other_errors: AtomicU64::new(0),
};

impl Code for WaitForTick {
    fn run(&self, _: &Program, _: u64) -> u64 {
        if running::depth() > 1 {
            return 0;
        }
        let before = TICK.runs.load(Ordering::Relaxed);
        // Either the tick is pending and masked, or it came.
        while !timer::is_pending() && TICK.runs.load(Ordering::Relaxed) == before {
            barrier::wait_hint();
        }
        let inside = TICK.runs.load(Ordering::Relaxed) - before;
        self.ticks_inside.fetch_add(inside, Ordering::Relaxed);
        0
    }
}

impl Code for AllocOnTick {
    fn run(&self, program: &Program, _: u64) -> u64 {
        if this_cpu() != self.cpu.load(Ordering::Relaxed) {
            return 0;
        }
        match kfunc::arena_alloc_pages(program, None, 1) {
            Ok(page) => {
                if kfunc::arena_free_pages(program, page, 1).is_err() {
                    self.other_errors.fetch_add(1, Ordering::Relaxed);
                }
            }
            Err(AllocError::Lock(LockError::Aa)) => {
                self.refused_aa.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {
                self.other_errors.fetch_add(1, Ordering::Relaxed);
            }
        }
        // Last: whoever waits for a run sees what it did.
        self.runs.fetch_add(1, Ordering::Release);
        0
    }
}

fn irq_enabled_lock(ctx: &Ctx) -> Outcome {
    let arena = new_arena(ctx)?;
    TICK.cpu.store(this_cpu(), Ordering::Relaxed);
    let waiter = load("wait-for-tick", &WAIT, &arena)?;
    let ticker = load("alloc-on-tick", &TICK, &arena)?;
    MM_PAGE_ALLOC.attach(waiter.clone()).map_err(Failure::of_debug("attach"))?;
    SCHED_TICK.attach(ticker.clone()).map_err(Failure::of_debug("attach"))?;
    let outcome = arena.alloc(None, 1);
    drop(MM_PAGE_ALLOC.detach());
    let runs = TICK.runs.load(Ordering::Acquire);
    while TICK.runs.load(Ordering::Acquire) == runs {
        barrier::wait_hint();
    }
    drop(SCHED_TICK.detach());

    let inside = WAIT.ticks_inside.load(Ordering::Relaxed);
    let refused = TICK.refused_aa.load(Ordering::Relaxed);
    claim!(
        inside == 0 && refused == 0,
        "A-A through the interrupt: {inside} ticks under the lock, {refused} met it held by their own CPU"
    );
    let got = outcome.map_err(Failure::of("alloc"))?;
    let errors = TICK.other_errors.load(Ordering::Relaxed);
    claim!(errors == 0, "{errors} ticks failed otherwise");
    ctx.story(format_args!("the tick waited for the lock's release and got its page then"));
    arena.free(got, 1).map_err(Failure::of("free"))?;
    ticker.tear_down().map_err(Failure::of_debug("teardown"))?;
    drop(ticker);
    tear_down(ctx, waiter, arena)
}

fn this_cpu() -> u32 {
    CpuId::current().index() as u32
}

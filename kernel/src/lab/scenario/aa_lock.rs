//! `aa-lock`: the program that an allocation runs under the arena's lock allocates from that arena.
//!
//! Actors: L (CPU 0) and M (CPU 1) each allocate a page; P, a program on `mm_page_alloc`, allocates
//! from the same arena on whichever CPU it runs.
//! Right: P is refused at once (`Aa`) and sees a failed allocation; L and M get their pages.
//! Wrong: P waits for the lock of its own CPU. A lock that cannot tell hangs; ours does tell.

use core::sync::atomic::{AtomicU64, Ordering};

use arena::arena::AllocError;
use arena::hw::LockError;

use super::stage::{Stage, renew};
use crate::lab::explore;
use crate::lab::race::Race;
use crate::prog::kfunc;
use crate::prog::program::{Code, Program};
use crate::prog::tracepoint::MM_PAGE_ALLOC;
use crate::runner::item::variant;
use crate::runner::{Ctx, Outcome, claim, item};

item! {
    name: "aa-lock",
    suite: "scenario",
    about: "a program under the arena's lock allocates from that arena",
    variants: &[variant("plain-spin", "the lock cannot tell and spins", "fail: deadlock")],
    min_cpus: 2,
    explored: true,
    run: aa_lock,
}

/// P. The counts are of one schedule.
struct AllocUnderLock {
    refused: AtomicU64,
    otherwise: AtomicU64,
}

static CODE: AllocUnderLock =
    AllocUnderLock { refused: AtomicU64::new(0), otherwise: AtomicU64::new(0) };

impl Code for AllocUnderLock {
    fn run(&self, program: &Program, _: u64) -> u64 {
        let counter = match kfunc::arena_alloc_pages(program, None, 1) {
            Err(AllocError::Lock(LockError::Aa)) => &self.refused,
            _ => &self.otherwise,
        };
        counter.fetch_add(1, Ordering::Relaxed)
    }
}

struct Actors {
    stage: Stage,
    allocated: AtomicU64,
}

impl Race for Actors {
    fn reset(&self) -> Outcome {
        drop(MM_PAGE_ALLOC.detach());
        self.stage.clear()?;
        for counter in [&CODE.refused, &CODE.otherwise, &self.allocated] {
            counter.store(0, Ordering::Relaxed);
        }
        renew(&MM_PAGE_ALLOC, "alloc-under-lock", &CODE, &self.stage.arena)
    }

    fn act(&self, cpu: usize) {
        let at = if cpu == 0 { self.stage.target } else { self.stage.second() };
        let got = self.stage.arena.alloc(Some(at), 1).is_ok();
        self.allocated.fetch_add(u64::from(got), Ordering::Relaxed);
    }

    fn check(&self) -> Outcome {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (refused, otherwise) = (read(&CODE.refused), read(&CODE.otherwise));
        claim!(otherwise == 0, "{otherwise} allocations under the lock were not refused as A-A");
        claim!(refused == 2, "{refused} allocations under the lock were refused, of 2");
        claim!(read(&self.allocated) == 2, "{} of 2 allocations", read(&self.allocated));
        Ok(())
    }
}

fn aa_lock(ctx: &Ctx) -> Outcome {
    let actors = Actors { stage: Stage::new(ctx)?, allocated: AtomicU64::new(0) };
    let outcome = explore::run(ctx, &actors.stage.ground(2), &actors);
    drop(MM_PAGE_ALLOC.detach());
    outcome
}

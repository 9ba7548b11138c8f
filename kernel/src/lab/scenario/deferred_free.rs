//! `deferred-free`: a free from a context that may not take the lock is queued and done by the worker,
//! while others allocate and free.
//!
//! Actors: A (CPU 0) allocates the target, and P, a program on `mm_page_alloc`, frees the page behind it
//! under the lock; B (CPU 1) is the worker, and then tries to allocate that page.
//! Right: the page is not given out before it is unmapped and flushed, and goes back once.
//! Wrong (`drops-deferred`): the page stays mapped for ever.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arena::addr::VirtAddr;

use super::stage::{Stage, renew};
use crate::arch::percpu::CpuId;
use crate::lab::explore;
use crate::lab::race::Race;
use crate::mem::worker;
use crate::prog::kfunc;
use crate::prog::program::{Code, Program};
use crate::prog::tracepoint::MM_PAGE_ALLOC;
use crate::runner::item::variant;
use crate::runner::{Ctx, Failure, Outcome, claim, item};

item! {
    name: "deferred-free",
    suite: "scenario",
    about: "a page is freed under the lock, by way of the worker, while another takes it",
    variants: &[variant("drops-deferred", "a free that has to wait is forgotten", "fail: claim")],
    min_cpus: 2,
    explored: true,
    run: deferred_free,
}

/// P: frees its page, in A's allocation.
struct FreeUnderLock(AtomicU64);

static CODE: FreeUnderLock = FreeUnderLock(AtomicU64::new(0));

impl Code for FreeUnderLock {
    fn run(&self, program: &Program, _: u64) -> u64 {
        if CpuId::current() != CpuId::BOOT {
            return 0;
        }
        let at = VirtAddr::new(self.0.load(Ordering::Relaxed));
        u64::from(kfunc::arena_free_pages(program, at, 1).is_err())
    }
}

struct Actors {
    stage: Stage,
    allocated: AtomicBool,
    /// B got the page behind the target.
    taken: AtomicBool,
}

impl Race for Actors {
    fn reset(&self) -> Outcome {
        drop(MM_PAGE_ALLOC.detach());
        worker::work();
        self.stage.clear()?;
        let second = self.stage.second();
        self.stage.arena.alloc(Some(second), 1).map_err(Failure::of("alloc"))?;
        self.allocated.store(false, Ordering::Relaxed);
        self.taken.store(false, Ordering::Relaxed);
        renew(&MM_PAGE_ALLOC, "free-under-lock", &CODE, &self.stage.arena)
    }

    fn act(&self, cpu: usize) {
        let Stage { arena, target, .. } = &self.stage;
        if cpu == 0 {
            self.allocated.store(arena.alloc(Some(*target), 1).is_ok(), Ordering::Relaxed);
            return;
        }
        worker::work();
        let taken = arena.alloc(Some(self.stage.second()), 1).is_ok();
        self.taken.store(taken, Ordering::Relaxed);
    }

    fn check(&self) -> Outcome {
        drop(MM_PAGE_ALLOC.detach());
        claim!(self.allocated.load(Ordering::Relaxed), "the allocation failed");
        if self.stage.arena.has_deferred() {
            self.stage.meet();
        }
        worker::work();
        claim!(!self.stage.arena.has_deferred(), "the worker left a note");
        // P freed the page; whoever has it now got it behind that.
        let stats = self.stage.arena.stats().map_err(Failure::of_debug("arena lock"))?;
        let right = 1 + u32::from(self.taken.load(Ordering::Relaxed));
        claim!(stats.mapped_pages == right, "{} pages are mapped, of {right}", stats.mapped_pages);
        Ok(())
    }
}

fn deferred_free(ctx: &Ctx) -> Outcome {
    let stage = Stage::new(ctx)?;
    CODE.0.store(stage.second().get(), Ordering::Relaxed);
    let (allocated, taken) = (AtomicBool::new(false), AtomicBool::new(false));
    let actors = Actors { stage, allocated, taken };
    let outcome = explore::run(ctx, &actors.stage.ground(2), &actors);
    drop(MM_PAGE_ALLOC.detach());
    worker::work();
    outcome?;
    actors.stage.met(ctx, "a page waited for the worker at the end")
}

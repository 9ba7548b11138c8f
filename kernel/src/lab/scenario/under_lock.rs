//! What the founding case and its relatives share: an allocation that runs a faulting program under
//! its lock, while another CPU faults on the same page.
//!
//! L (CPU 0) allocates with P attached to `mm_page_alloc`, so that P's wild accesses come with the
//! arena's lock held; B (CPU 1), a kernel function on behalf of another program, writes to P's page.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arena::addr::{PAGE_SIZE, VirtAddr};
use arena::lifecycle::State as Life;

use super::stage::{Stage, renew};
use crate::lab::explore;
use crate::lab::race::{self, Race};
use crate::prog::program::{Code, Program};
use crate::prog::tracepoint::MM_PAGE_ALLOC;
use crate::runner::{Ctx, Failure, Outcome, claim};

/// What differs between the relatives.
pub struct Plan {
    /// Pages that L allocates, from the target on.
    pub pages: u32,
    /// Whether P and B are after the page behind the target, and not after the target.
    pub wild_is_second: bool,
    /// Whether an old violation left scratch in the target.
    pub old_scratch: bool,
}

/// P: writes to its wild address and reads there.
struct WriteAndRead(AtomicU64);

static CODE: WriteAndRead = WriteAndRead(AtomicU64::new(0));

impl Code for WriteAndRead {
    fn run(&self, _: &Program, _: u64) -> u64 {
        let wild = VirtAddr::new(self.0.load(Ordering::Relaxed));
        race::write(wild, u64::MAX);
        race::read(wild)
    }
}

struct Actors {
    stage: Stage,
    plan: Plan,
    wild: VirtAddr,
    allocated: AtomicBool,
}

impl Race for Actors {
    fn reset(&self) -> Outcome {
        self.allocated.store(false, Ordering::Relaxed);
        if self.plan.old_scratch {
            self.stage.clear_to_scratch()?;
        } else {
            self.stage.clear()?;
        }
        renew(&MM_PAGE_ALLOC, "under-lock", &CODE, &self.stage.arena)
    }

    fn act(&self, cpu: usize) {
        if cpu == 0 {
            let outcome = self.stage.arena.alloc(Some(self.stage.target), self.plan.pages);
            self.allocated.store(outcome.is_ok(), Ordering::Relaxed);
        } else {
            self.stage.wild(|| race::write(self.wild, 1));
        }
    }

    fn check(&self) -> Outcome {
        let program = MM_PAGE_ALLOC.detach();
        let program = program.ok_or_else(|| Failure::new("the program is gone".into()))?;
        claim!(self.allocated.load(Ordering::Relaxed), "the allocation failed");
        for n in 0..self.plan.pages {
            let at = self.stage.target.offset(u64::from(n) * PAGE_SIZE);
            claim!(!self.stage.holds_scratch(at), "scratch is still mapped at page {n}");
        }
        let is_allocated = !self.plan.wild_is_second || self.plan.pages > 1;
        claim!(is_allocated || self.stage.holds_scratch(self.wild), "no scratch was installed");
        let faulted = program.life().has_faulted();
        let aborted = program.life().state() == Life::Aborted;
        claim!(faulted == aborted, "a program that faulted={faulted} was aborted={aborted}");
        let seen = self.stage.each_reported(Some(&program))?;
        claim!(is_allocated || seen.installed == 1, "{} installs", seen.installed);
        if faulted && seen.aborts > 1 {
            self.stage.meet();
        }
        Ok(())
    }
}

/// Explores `plan`.
///
/// # Errors
/// As [`explore::run`].
pub fn explore(ctx: &Ctx, plan: Plan) -> Outcome {
    let stage = Stage::new(ctx)?;
    let wild = if plan.wild_is_second { stage.second() } else { stage.target };
    CODE.0.store(wild.get(), Ordering::Relaxed);
    let ground = stage.ground(2);
    let actors = Actors { stage, plan, wild, allocated: AtomicBool::new(false) };
    explore::run(ctx, &ground, &actors)?;
    actors.stage.met(ctx, "both the program under the lock and the other CPU faulted")
}

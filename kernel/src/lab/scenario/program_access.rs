//! `program-access`: the program's own store and load, not a kernel function's, hit a page that an
//! allocation is about to map.
//!
//! Actors: L (CPU 0) allocates the page; P (CPU 1) writes there by its own store and reads by its own
//! load, both of which have a fixup.
//! Right: an access that finds nothing is skipped with a zero and reported, and P goes on; one whose
//! page came before the handler looked is made after all. No scratch is ever installed.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::stage::{Stage, violations};
use crate::fault;
use crate::lab::explore;
use crate::lab::race::{self, Race};
use crate::runner::{Ctx, Outcome, claim, item};

item! {
    name: "program-access",
    suite: "scenario",
    about: "the program's own accesses hit a page that is about to be mapped",
    min_cpus: 2,
    explored: true,
    run: program_access,
}

/// What P writes.
const WRITTEN: u64 = 0x0e11;

struct Actors {
    stage: Stage,
    allocated: AtomicBool,
    /// Whether P's store was made.
    wrote: AtomicBool,
    /// Accesses of P that were skipped.
    skipped: AtomicU64,
    /// Spurious faults of the machine when the schedule began.
    spurious: AtomicU64,
}

impl Race for Actors {
    fn reset(&self) -> Outcome {
        self.allocated.store(false, Ordering::Relaxed);
        self.spurious.store(spurious(), Ordering::Relaxed);
        self.stage.clear()
    }

    fn act(&self, cpu: usize) {
        let target = self.stage.target;
        if cpu == 0 {
            let outcome = self.stage.arena.alloc(Some(target), 1);
            self.allocated.store(outcome.is_ok(), Ordering::Relaxed);
            return;
        }
        self.stage.wild(|| {
            let wrote = race::try_write(target, WRITTEN);
            let read = race::try_read(target).is_some();
            self.wrote.store(wrote, Ordering::Relaxed);
            self.skipped.store(u64::from(!wrote) + u64::from(!read), Ordering::Relaxed);
        });
    }

    fn check(&self) -> Outcome {
        claim!(self.allocated.load(Ordering::Relaxed), "the allocation failed");
        let seen = self.stage.seen()?;
        claim!(seen.installed == 0 && seen.lost == 0, "scratch for a program's access: {seen:?}");
        let skipped = self.skipped.load(Ordering::Relaxed);
        let reports = violations(&self.stage.program).len() as u64;
        claim!(reports == skipped, "{reports} reports of {skipped} accesses that were skipped");
        let expected = if self.wrote.load(Ordering::Relaxed) { WRITTEN } else { 0 };
        let stored = race::stored(&self.stage.arena, self.stage.target);
        claim!(stored == Some(expected), "the page holds {stored:x?} and not {expected:#x}");
        if spurious() > self.spurious.load(Ordering::Relaxed) {
            self.stage.meet();
        }
        Ok(())
    }
}

fn program_access(ctx: &Ctx) -> Outcome {
    let stage = Stage::new(ctx)?;
    let ground = stage.ground(2);
    let actors = Actors {
        stage,
        allocated: AtomicBool::new(false),
        wrote: AtomicBool::new(false),
        skipped: AtomicU64::new(0),
        spurious: AtomicU64::new(0),
    };
    explore::run(ctx, &ground, &actors)?;
    actors.stage.met(ctx, "the page came between the fault and the handler's look")
}

fn spurious() -> u64 {
    fault::COUNTS.spurious.load(Ordering::Relaxed)
}

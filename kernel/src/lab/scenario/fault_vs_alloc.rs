//! `fault-vs-alloc`: F finds the slot empty, L installs its page, F's compare-and-swap fails.
//!
//! Actors: L (CPU 0) allocates the page; F (CPU 1), a kernel function on behalf of a program, writes
//! there.
//! Right: the loss is no error. The retry reaches L's page; the access was wild when it was made,
//! and is reported.
//! Wrong (`loss-is-error`): the handler gives the fault up, and nothing is reported.

use core::sync::atomic::{AtomicBool, Ordering};

use super::stage::Stage;
use crate::lab::explore;
use crate::lab::race::{self, Race};
use crate::runner::item::variant;
use crate::runner::{Ctx, Outcome, claim, item};

item! {
    name: "fault-vs-alloc",
    suite: "scenario",
    about: "an allocation wins against a fault that saw the slot empty",
    variants: &[
        variant("loss-is-error", "the handler gives a lost install up", "fail: 0 reports of 1"),
        variant("blind-scratch", "the handler stores scratch unseen", "fail: valid-to-valid"),
        variant("maps-twice", "L's page is mapped at two addresses", "fail: two-owners"),
        variant("maps-freed", "L's frame has gone back", "fail: maps-free-frame"),
    ],
    min_cpus: 2,
    explored: true,
    run: fault_vs_alloc,
}

/// What F writes.
const WRITTEN: u64 = 0xfa;

struct Actors {
    stage: Stage,
    allocated: AtomicBool,
}

impl Race for Actors {
    fn reset(&self) -> Outcome {
        self.allocated.store(false, Ordering::Relaxed);
        self.stage.clear()
    }

    fn act(&self, cpu: usize) {
        let target = self.stage.target;
        if cpu == 0 {
            let outcome = self.stage.arena.alloc(Some(target), 1);
            self.allocated.store(outcome.is_ok(), Ordering::Relaxed);
        } else {
            self.stage.wild(|| race::write(target, WRITTEN));
        }
    }

    fn check(&self) -> Outcome {
        claim!(self.allocated.load(Ordering::Relaxed), "the allocation failed");
        let seen = self.stage.each_reported(None)?;
        // F never found scratch that it had not put there: what it lost to is L's page.
        if seen.lost > 0 {
            self.stage.meet();
            let stored = race::stored(&self.stage.arena, self.stage.target);
            claim!(stored == Some(WRITTEN), "the retry did not reach the page: {stored:x?}");
        }
        Ok(())
    }
}

fn fault_vs_alloc(ctx: &Ctx) -> Outcome {
    let stage = Stage::new(ctx)?;
    let ground = stage.ground(2);
    let actors = Actors { stage, allocated: AtomicBool::new(false) };
    explore::run(ctx, &ground, &actors)?;
    actors.stage.met(ctx, "the fault lost to the allocation")
}

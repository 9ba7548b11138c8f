//! `spurious`: F faults, and the slot is valid before the handler looks.
//!
//! Actors: L (CPU 0) allocates the page over the scratch of an old violation; F (CPU 1), a kernel
//! function on behalf of a program, writes there.
//! Right: F faults because L has broken scratch; the handler finds L's page, returns, and F's write
//! is in it. Nothing is installed, nothing is reported.
//! Wrong (`blind-scratch`): the handler acts on what it saw before: scratch over the page.

use core::sync::atomic::{AtomicBool, Ordering};

use super::stage::Stage;
use crate::lab::explore;
use crate::lab::race::{self, Race};
use crate::runner::item::variant;
use crate::runner::{Ctx, Outcome, claim, item};

item! {
    name: "spurious",
    suite: "scenario",
    about: "the slot becomes valid between the fault and the handler's look",
    variants: &[
        variant("blind-scratch", "the handler stores scratch unseen", "fail: valid-to-valid"),
    ],
    min_cpus: 2,
    explored: true,
    run: spurious,
}

/// What F writes.
const WRITTEN: u64 = 0x5b;

struct Actors {
    stage: Stage,
    allocated: AtomicBool,
}

impl Race for Actors {
    fn reset(&self) -> Outcome {
        self.allocated.store(false, Ordering::Relaxed);
        self.stage.clear_to_scratch()
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
        if seen.spurious > 0 {
            self.stage.meet();
            let stored = race::stored(&self.stage.arena, self.stage.target);
            claim!(stored == Some(WRITTEN), "the retry did not reach the page: {stored:x?}");
        }
        Ok(())
    }
}

fn spurious(ctx: &Ctx) -> Outcome {
    let stage = Stage::new(ctx)?;
    let ground = stage.ground(2);
    let actors = Actors { stage, allocated: AtomicBool::new(false) };
    explore::run(ctx, &ground, &actors)?;
    actors.stage.met(ctx, "the handler found the page mapped")
}

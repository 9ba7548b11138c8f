//! `clear-refault`: A clears a slot; a wild fault on B comes before A's flush.
//!
//! Actors: A (CPU 0) frees the page; B (CPU 1), a kernel function on behalf of a program, writes there.
//! Right: the tombstone makes B flush before it installs scratch.
//! Wrong (`flush-first`, `linux-7.2-order`): B finds an empty slot and fills it: page, nothing, scratch
//! with no TLB invalidation between, and two translations live at once.

use super::stage::Stage;
use crate::lab::explore;
use crate::lab::race::{self, Race};
use crate::runner::item::variant;
use crate::runner::{Ctx, Outcome, claim, item};

item! {
    name: "clear-refault",
    suite: "scenario",
    about: "a fault fills a slot between its clearing and its flush",
    variants: &[
        variant("flush-first", "cleared slots look empty", "fail: make-before-tlbi"),
        variant("linux-7.2-order", "and are flushed later still", "fail: make-before-tlbi"),
    ],
    min_cpus: 2,
    explored: true,
    run: clear_refault,
}

struct Actors {
    stage: Stage,
}

impl Race for Actors {
    fn reset(&self) -> Outcome {
        self.stage.clear_to_page()
    }

    fn act(&self, cpu: usize) {
        let target = self.stage.target;
        if cpu == 0 {
            let _ = self.stage.arena.free(target, 1);
        } else {
            self.stage.wild(|| race::write(target, 7));
        }
    }

    fn check(&self) -> Outcome {
        let seen = self.stage.each_reported(None)?;
        claim!(seen.aborts <= 1, "{} aborts for one access", seen.aborts);
        if seen.installed > 0 {
            self.stage.meet();
            claim!(self.stage.holds_scratch(self.stage.target), "scratch is gone");
        }
        Ok(())
    }
}

fn clear_refault(ctx: &Ctx) -> Outcome {
    let actors = Actors { stage: Stage::new(ctx)? };
    explore::run(ctx, &actors.stage.ground(2), &actors)?;
    actors.stage.met(ctx, "B installed scratch behind A's clear")
}

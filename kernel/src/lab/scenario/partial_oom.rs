//! `partial-oom`: frames run out in the middle of a batch, while another CPU faults on its pages.
//!
//! Actors: L (CPU 0) allocates two pages, for which there is one frame; F (CPU 1), a kernel function on
//! behalf of a program, writes to the first.
//! Right: what was mapped is undone, the whole range is free, nothing is leaked.

use super::stage::Stage;
use crate::lab::explore;
use crate::lab::race::{self, Ground, Race};
use crate::runner::item::variant;
use crate::runner::{Ctx, Outcome, claim, item};

item! {
    name: "partial-oom",
    suite: "scenario",
    about: "frames run out in the middle of a batch",
    variants: &[
        variant("plain-store", "a page is stored over scratch", "fail: valid-to-valid"),
    ],
    min_cpus: 2,
    explored: true,
    run: partial_oom,
}

struct Actors {
    stage: Stage,
}

impl Race for Actors {
    fn reset(&self) -> Outcome {
        self.stage.clear()
    }

    fn act(&self, cpu: usize) {
        let target = self.stage.target;
        if cpu > 0 {
            self.stage.wild(|| race::write(target, 7));
        } else if self.stage.arena.alloc(Some(target), 2).is_err() {
            self.stage.meet();
        }
    }

    fn check(&self) -> Outcome {
        let stats = self.stage.arena.stats();
        let free = stats.map(|stats| stats.free_pages).unwrap_or(0);
        claim!(free == super::PAGES, "{free} of {} pages are free", super::PAGES);
        self.stage.each_reported(None)?;
        let one = self.stage.arena.alloc(Some(self.stage.target), 1);
        claim!(one.is_ok(), "the page is not free: {one:?}");
        Ok(())
    }
}

fn partial_oom(ctx: &Ctx) -> Outcome {
    let actors = Actors { stage: Stage::new(ctx)? };
    let ground = Ground { frames: 1, ..actors.stage.ground(2) };
    explore::run(ctx, &ground, &actors)?;
    actors.stage.met(ctx, "the allocation failed half-way")
}

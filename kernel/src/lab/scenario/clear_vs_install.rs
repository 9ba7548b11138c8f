//! `clear-vs-install`: A frees a range while F installs scratch in it.
//!
//! Actors: A (CPU 0) frees the page, which is mapped nowhere; F (CPU 1), a kernel function on behalf
//! of a program, writes there twice.
//! Right: an exchange: one of the two orders, nothing lost.
//! Wrong (`load-store-clear`): F's entry is overwritten unseen, and no TLB is flushed for it.

use super::stage::Stage;
use crate::lab::explore;
use crate::lab::race::{self, Race};
use crate::runner::item::variant;
use crate::runner::{Ctx, Outcome, item};

item! {
    name: "clear-vs-install",
    suite: "scenario",
    about: "a range is freed while a fault installs scratch in it",
    variants: &[
        variant("load-store-clear", "a load and a store", "fail: never-flushed"),
    ],
    min_cpus: 2,
    explored: true,
    run: clear_vs_install,
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
        if cpu == 0 {
            let _ = self.stage.arena.free(target, 1);
        } else {
            self.stage.wild(|| race::write(target, 7));
            self.stage.wild(|| race::write(target, 8));
        }
    }

    fn check(&self) -> Outcome {
        let seen = self.stage.each_reported(None)?;
        if seen.installed > 1 {
            self.stage.meet();
        }
        Ok(())
    }
}

fn clear_vs_install(ctx: &Ctx) -> Outcome {
    let actors = Actors { stage: Stage::new(ctx)? };
    explore::run(ctx, &actors.stage.ground(2), &actors)?;
    actors.stage.met(ctx, "A cleared the scratch that F had installed")
}

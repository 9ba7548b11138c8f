//! `free-scratch.explored`: a range is freed in which one slot holds scratch, while another CPU faults
//! on it.
//!
//! Actors: A (CPU 0) frees two pages, of which the first holds scratch; F (CPU 1), a kernel function on
//! behalf of a program, writes to the first.
//! Right: scratch is skipped, the slot is empty or F's again, the range is free.
//! Wrong (`frees-scratch`): the scratch frame goes to the allocator.

use super::stage::Stage;
use crate::lab::explore;
use crate::lab::race::{self, Race};
use crate::runner::item::variant;
use crate::runner::{Ctx, Failure, Outcome, claim, item};

item! {
    name: "free-scratch.explored",
    suite: "scenario",
    about: "a range with scratch in it is freed while another CPU faults there",
    variants: &[
        variant("frees-scratch", "whatever a slot held is freed", "fail: scratch-freed"),
    ],
    min_cpus: 2,
    explored: true,
    run: free_scratch,
}

struct Actors {
    stage: Stage,
}

impl Race for Actors {
    fn reset(&self) -> Outcome {
        self.stage.clear_to_scratch()?;
        self.stage.arena.alloc(Some(self.stage.second()), 1).map_err(Failure::of("alloc"))?;
        Ok(())
    }

    fn act(&self, cpu: usize) {
        let target = self.stage.target;
        if cpu == 0 {
            let _ = self.stage.arena.free(target, 2);
        } else {
            self.stage.wild(|| race::write(target, 7));
        }
    }

    fn check(&self) -> Outcome {
        let seen = self.stage.each_reported(None)?;
        if seen.installed > 0 {
            self.stage.meet();
        }
        let again = self.stage.arena.alloc(Some(self.stage.target), 2);
        claim!(again.is_ok(), "the range is not free: {again:?}");
        Ok(())
    }
}

fn free_scratch(ctx: &Ctx) -> Outcome {
    let actors = Actors { stage: Stage::new(ctx)? };
    explore::run(ctx, &actors.stage.ground(2), &actors)?;
    actors.stage.met(ctx, "F put scratch back behind the free")
}

//! `reuse-before-flush`: A frees a page and its frame is allocated again; B still has the translation.
//!
//! Actors: A (CPU 0) frees the page and allocates another, which gets the same frame; B (CPU 1), which
//! has used the page, writes to it as long as it can.
//! Right: the frame is free only behind TLBI and DSB: no write of B's is in A's new page.
//! Wrong (`no-tlbi-free`): B writes into it.

use super::stage::Stage;
use crate::lab::explore;
use crate::lab::race::{self, Race};
use crate::runner::item::variant;
use crate::runner::{Ctx, Outcome, claim, item};

item! {
    name: "reuse-before-flush",
    suite: "scenario",
    about: "a frame is allocated again while another CPU may still translate to it",
    variants: &[
        variant("no-tlbi-free", "the frame is freed without flush", "fail: freed-while-mapped"),
        variant("linux-7.2-order", "the range is free first", "fail: make-before-tlbi"),
    ],
    min_cpus: 2,
    explored: true,
    run: reuse_before_flush,
}

struct Actors {
    stage: Stage,
}

impl Race for Actors {
    fn reset(&self) -> Outcome {
        self.stage.clear_to_page()
    }

    fn act(&self, cpu: usize) {
        let Stage { arena, target, .. } = &self.stage;
        if cpu == 0 {
            let _ = arena.free(*target, 1);
            let _ = arena.alloc(Some(self.stage.second()), 1);
            return;
        }
        if race::try_write(*target, 0xb0) {
            race::try_write(*target, 0xb1);
        }
        // A page of the same address, under the variants that give the range away early.
        let _ = arena.alloc(Some(*target), 1);
    }

    fn check(&self) -> Outcome {
        let stored = race::stored(&self.stage.arena, self.stage.second());
        claim!(stored == Some(0), "the new page holds {stored:x?}: a write through the old one");
        self.stage.meet();
        Ok(())
    }
}

fn reuse_before_flush(ctx: &Ctx) -> Outcome {
    let actors = Actors { stage: Stage::new(ctx)? };
    explore::run(ctx, &actors.stage.ground(2), &actors)?;
    actors.stage.met(ctx, "the frame was used again")
}

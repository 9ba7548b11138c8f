//! `double-free`: a program frees a range twice, and frees what another allocated since.
//!
//! Actors: A (CPU 0) frees the page twice; B (CPU 1) frees it too, and then allocates it.
//! Right: integrity holds: a free frees what is mapped then, and each frame goes back once.

use super::stage::Stage;
use crate::lab::explore;
use crate::lab::race::Race;
use crate::runner::item::variant;
use crate::runner::{Ctx, Failure, Outcome, claim, item};

item! {
    name: "double-free",
    suite: "scenario",
    about: "a range is freed twice, and by two",
    variants: &[
        variant("no-tlbi-free", "freed without flush", "fail: freed-while-mapped"),
        variant("frees-twice", "every frame goes back twice", "fail: double-free"),
        variant("leaks", "frames do not go back", "fail: leak"),
        variant("miscounts", "the books are not told", "fail: books-disagree"),
        variant("keeps-lock", "a free of nothing keeps the lock", "fail: lock-held"),
    ],
    min_cpus: 2,
    explored: true,
    run: double_free,
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
        let _ = arena.free(*target, 1);
        if cpu == 0 {
            let _ = arena.free(*target, 1);
        } else if arena.alloc(Some(*target), 1).is_ok() {
            self.stage.meet();
        }
    }

    fn check(&self) -> Outcome {
        // Whoever came last, the page is B's or nobody's, and can be had again.
        self.stage.arena.free(self.stage.target, 1).map_err(Failure::of("free"))?;
        let again = self.stage.arena.alloc(Some(self.stage.target), 1);
        claim!(again.is_ok(), "the range is not free: {again:?}");
        Ok(())
    }
}

fn double_free(ctx: &Ctx) -> Outcome {
    let actors = Actors { stage: Stage::new(ctx)? };
    explore::run(ctx, &actors.stage.ground(2), &actors)?;
    actors.stage.met(ctx, "B had the page between the frees")
}

//! `range-before-flush`: A frees a page; B allocates the same page of the arena at once, and writes.
//!
//! Actors: A (CPU 0) frees the page; B (CPU 1), which has used the page and so has its translation,
//! allocates it again and writes there.
//! Right: the range is free only behind the flush. B's write is in B's page.
//! Wrong (`linux-7.2-order`): the range is free before the flush. B installs its page while its own
//! TLB still has the old one: its write goes to the old frame, and is gone behind the flush.

use core::sync::atomic::{AtomicBool, Ordering};

use super::stage::Stage;
use crate::lab::explore;
use crate::lab::race::{self, Race};
use crate::runner::item::variant;
use crate::runner::{Ctx, Outcome, claim, item};

item! {
    name: "range-before-flush",
    suite: "scenario",
    about: "a range is allocated again while the page that it held is being flushed",
    variants: &[
        variant("linux-7.2-order", "the range is free before the flush", "fail: make-before-tlbi"),
        variant("no-tlbi-free", "no flush at all", "fail: freed-while-mapped"),
        variant("local-tlbi", "only A's TLB is flushed", "fail: stale-translation"),
    ],
    min_cpus: 2,
    explored: true,
    run: range_before_flush,
}

/// What B writes to its page.
const WRITTEN: u64 = 0xb0;

struct Actors {
    stage: Stage,
    allocated: AtomicBool,
}

impl Race for Actors {
    fn reset(&self) -> Outcome {
        self.allocated.store(false, Ordering::Relaxed);
        self.stage.clear_to_page()
    }

    fn act(&self, cpu: usize) {
        let Stage { arena, target, .. } = &self.stage;
        if cpu == 0 {
            // Its range is that of an allocation: it cannot be refused.
            let _ = arena.free(*target, 1);
            return;
        }
        let _ = race::try_read(*target);
        // Refused while A has not freed it.
        if arena.alloc(Some(*target), 1).is_ok() {
            self.allocated.store(true, Ordering::Relaxed);
            race::write(*target, WRITTEN);
        }
    }

    fn check(&self) -> Outcome {
        if self.allocated.load(Ordering::Relaxed) {
            self.stage.meet();
            let stored = race::stored(&self.stage.arena, self.stage.target);
            claim!(stored == Some(WRITTEN), "B's write is not in B's page: {stored:x?}");
        }
        Ok(())
    }
}

fn range_before_flush(ctx: &Ctx) -> Outcome {
    let stage = Stage::new(ctx)?;
    let ground = stage.ground(2);
    let actors = Actors { stage, allocated: AtomicBool::new(false) };
    explore::run(ctx, &ground, &actors)?;
    actors.stage.met(ctx, "B got the page that A freed")
}

//! `dirty-lost`: the hardware marks a page dirty while its entry is cleared.
//!
//! Actors: A (CPU 0) frees the page, whose entry is writable and clean: read-only, with the dirty bit
//! modifier; B (CPU 1), a kernel function on behalf of a program, writes there, and the hardware marks
//! the entry before it lets the write through (FEAT_HAFDBS).
//! Right: an exchange returns the mark (litmus `D2`).
//! Wrong (`load-store-bury`): a mark that was made between load and store is lost (litmus `D1`).

use arena::hw::Hw;
use arena::walk::leaf_slot;

use super::stage::Stage;
use crate::arch::features;
use crate::lab::explore;
use crate::lab::race::{self, Race};
use crate::mem::kmap;
use crate::mem::machine::{self, Machine};
use crate::runner::item::variant;
use crate::runner::{Ctx, Failure, Outcome, claim, item};

item! {
    name: "dirty-lost",
    suite: "scenario",
    about: "the hardware marks a page dirty while its entry is cleared",
    variants: &[
        variant("load-store-bury", "a load and a store", "fail: dirty-lost"),
    ],
    min_cpus: 2,
    explored: true,
    run: dirty_lost,
}

struct Actors {
    stage: Stage,
}

impl Race for Actors {
    fn reset(&self) -> Outcome {
        self.stage.clear_to_page()?;
        let target = self.stage.target;
        let slot = leaf_slot(&Machine, kmap::root(), target);
        let slot = slot.ok_or_else(|| Failure::new("no slot decides about the page".into()))?;
        let clean = slot.load(&Machine).writable_clean();
        // Permissions alone may change without break-before-make (Arm ARM D8.16.1).
        machine::lab::store_word(core::ptr::from_ref(slot).addr() as u64, clean.bits());
        Machine.tlbi_vaale1is(target);
        Machine.dsb_ish();
        Ok(())
    }

    fn act(&self, cpu: usize) {
        let target = self.stage.target;
        if cpu == 0 {
            let _ = self.stage.arena.free(target, 1);
            return;
        }
        self.stage.wild(|| race::write(target, 7));
        // The write went through at once: the mark was made before A cleared the entry.
        if self.stage.seen().is_ok_and(|seen| seen.aborts == 0) {
            self.stage.meet();
        }
    }

    fn check(&self) -> Outcome {
        let seen = self.stage.each_reported(None)?;
        claim!(seen.aborts <= 1, "{seen:?}");
        Ok(())
    }
}

fn dirty_lost(ctx: &Ctx) -> Outcome {
    if features::system().hafdbs < features::DIRTY_STATE {
        return Err(Failure::Skip("no dirty state by hardware: --cpu neoverse-n1 or max has it"));
    }
    let actors = Actors { stage: Stage::new(ctx)? };
    explore::run(ctx, &actors.stage.ground(2), &actors)?;
    actors.stage.met(ctx, "the hardware marked the page before it was freed")
}

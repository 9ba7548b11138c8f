//! `load-store-clear`: cleared by a load and a store.

use arena::addr::PageRange;
use arena::arena::Arena;
use arena::hw::{Lock, LockError, Platform};
use arena::protocol::Protocol;
use arena::pte::Pte;
use arena::slot::PteSlot;
use arena::step::StepPoint;

use super::clearing::{clear, count, flush, give_frames};

/// The entry is read and then overwritten with zero: what was installed in between is lost, and so is
/// what the hardware wrote (litmus `I11`, `C2`, `D1`).
pub struct LoadStoreClear;

impl Protocol for LoadStoreClear {
    const NAME: &'static str = "load-store-clear";

    fn free_batch<M: Platform>(arena: &Arena<Self, M>, batch: PageRange) -> Result<(), LockError> {
        let machine = arena.machine();
        machine.step(StepPoint::LockAcquire, arena.object());
        let mut inner = arena.lock().lock(Self::IRQS)?;
        let cleared = clear(arena, batch, |slot: &PteSlot| {
            let old = slot.load(machine);
            slot.overwrite(machine, Pte::EMPTY);
            old
        });
        flush(arena, &cleared);
        arena.give_back(&mut inner, batch, count(arena, &cleared));
        give_frames(arena, &cleared);
        machine.step(StepPoint::LockRelease, arena.object());
        drop(inner);
        Ok(())
    }
}

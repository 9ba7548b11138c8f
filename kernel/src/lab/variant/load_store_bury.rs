//! `load-store-bury`: buried by a load and a store.

use arena::addr::PageRange;
use arena::arena::Arena;
use arena::hw::{Lock, LockError, Platform};
use arena::protocol::Protocol;
use arena::pte::{Pte, State};
use arena::slot::PteSlot;
use arena::step::StepPoint;

use super::clearing::{clear, count, flush, give_frames};

/// As the default, but the entry is read, and then overwritten with the tombstone where it was valid:
/// what the hardware wrote in between is lost (litmus `D1`).
pub struct LoadStoreBury;

impl Protocol for LoadStoreBury {
    const NAME: &'static str = "load-store-bury";

    fn free_batch<M: Platform>(arena: &Arena<Self, M>, batch: PageRange) -> Result<(), LockError> {
        let machine = arena.machine();
        machine.step(StepPoint::LockAcquire, arena.object());
        let mut inner = arena.lock().lock(Self::IRQS)?;
        let stamp = arena.stamp();
        let cleared = clear(arena, batch, |slot: &PteSlot| {
            let old = slot.load(machine);
            if old.state() == State::Valid {
                slot.overwrite(machine, Pte::tombstone(stamp));
            }
            old
        });
        flush(arena, &cleared);
        for (page, _) in &cleared {
            if let Some(slot) = arena.slot(*page) {
                slot.retire(machine, stamp);
            }
        }
        arena.give_back(&mut inner, batch, count(arena, &cleared));
        give_frames(arena, &cleared);
        machine.step(StepPoint::LockRelease, arena.object());
        drop(inner);
        Ok(())
    }
}

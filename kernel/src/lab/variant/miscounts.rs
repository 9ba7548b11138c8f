//! `miscounts`: the books are not told what was freed.

use arena::addr::PageRange;
use arena::arena::Arena;
use arena::hw::{Lock, LockError, Platform};
use arena::protocol::Protocol;
use arena::slot::PteSlot;
use arena::step::StepPoint;

use super::clearing::{clear, flush, give_frames};

/// The count of mapped pages stays as it was.
pub struct Miscounts;

impl Protocol for Miscounts {
    const NAME: &'static str = "miscounts";

    fn free_batch<M: Platform>(arena: &Arena<Self, M>, batch: PageRange) -> Result<(), LockError> {
        let machine = arena.machine();
        machine.step(StepPoint::LockAcquire, arena.object());
        let mut inner = arena.lock().lock(Self::IRQS)?;
        let cleared = clear(arena, batch, |slot: &PteSlot| slot.take(machine));
        flush(arena, &cleared);
        arena.give_back(&mut inner, batch, 0);
        machine.step(StepPoint::LockRelease, arena.object());
        drop(inner);
        give_frames(arena, &cleared);
        Ok(())
    }
}

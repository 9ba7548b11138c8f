//! `leaks`: frames do not go back.

use arena::addr::PageRange;
use arena::arena::Arena;
use arena::hw::{Lock, LockError, Platform};
use arena::protocol::Protocol;
use arena::slot::PteSlot;
use arena::step::StepPoint;

use super::clearing::{clear, count, flush};

/// A page is unmapped and flushed, and its frame forgotten.
pub struct Leaks;

impl Protocol for Leaks {
    const NAME: &'static str = "leaks";

    fn free_batch<M: Platform>(arena: &Arena<Self, M>, batch: PageRange) -> Result<(), LockError> {
        let machine = arena.machine();
        machine.step(StepPoint::LockAcquire, arena.object());
        let mut inner = arena.lock().lock(Self::IRQS)?;
        let cleared = clear(arena, batch, |slot: &PteSlot| slot.take(machine));
        flush(arena, &cleared);
        arena.give_back(&mut inner, batch, count(arena, &cleared));
        machine.step(StepPoint::LockRelease, arena.object());
        Ok(())
    }
}

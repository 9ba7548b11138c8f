//! `flush-first`: flushed before the range goes back, but without tombstones.

use arena::addr::PageRange;
use arena::arena::Arena;
use arena::hw::{Lock, LockError, Platform};
use arena::protocol::Protocol;
use arena::slot::PteSlot;
use arena::step::StepPoint;

use super::clearing::{clear, count, flush, give_frames};

/// The obvious repair of `linux-7.2-order`: the flush comes before the range is free. A fault between
/// the clear and the flush still finds an empty slot, and fills it (litmus `T3`, `T1`).
pub struct FlushFirst;

impl Protocol for FlushFirst {
    const NAME: &'static str = "flush-first";

    fn free_batch<M: Platform>(arena: &Arena<Self, M>, batch: PageRange) -> Result<(), LockError> {
        let machine = arena.machine();
        machine.step(StepPoint::LockAcquire, arena.object());
        let mut inner = arena.lock().lock(Self::IRQS)?;
        let cleared = clear(arena, batch, |slot: &PteSlot| slot.take(machine));
        flush(arena, &cleared);
        arena.give_back(&mut inner, batch, count(arena, &cleared));
        machine.step(StepPoint::LockRelease, arena.object());
        drop(inner);
        give_frames(arena, &cleared);
        Ok(())
    }
}

//! `linux-7.2-order`: the range goes back before the flush.

use arena::addr::PageRange;
use arena::arena::Arena;
use arena::hw::{Lock, LockError, Platform};
use arena::protocol::Protocol;
use arena::slot::PteSlot;
use arena::step::StepPoint;

use super::clearing::{clear, count, flush, give_frames};

/// As `arena_free_pages()` and its worker do in Linux 7.2: under the lock the entries are emptied and
/// the range is free, then the lock goes, and only then the TLBs are flushed (litmus `T1`, `T2`).
pub struct Linux72Order;

impl Protocol for Linux72Order {
    const NAME: &'static str = "linux-7.2-order";

    fn free_batch<M: Platform>(arena: &Arena<Self, M>, batch: PageRange) -> Result<(), LockError> {
        let machine = arena.machine();
        machine.step(StepPoint::LockAcquire, arena.object());
        let mut inner = arena.lock().lock(Self::IRQS)?;
        let cleared = clear(arena, batch, |slot: &PteSlot| slot.take(machine));
        arena.give_back(&mut inner, batch, count(arena, &cleared));
        machine.step(StepPoint::LockRelease, arena.object());
        drop(inner);
        flush(arena, &cleared);
        give_frames(arena, &cleared);
        Ok(())
    }
}

//! `no-tlbi-free`: freed without any TLB maintenance.

use arena::addr::PageRange;
use arena::arena::Arena;
use arena::hw::{Lock, LockError, Platform};
use arena::protocol::Protocol;
use arena::slot::PteSlot;
use arena::step::StepPoint;

use super::clearing::{clear, count, give_frames};

/// A page is unmapped and its frame freed, and no TLB hears of it (litmus `R2`, `R8`).
pub struct NoTlbiFree;

impl Protocol for NoTlbiFree {
    const NAME: &'static str = "no-tlbi-free";

    fn free_batch<M: Platform>(arena: &Arena<Self, M>, batch: PageRange) -> Result<(), LockError> {
        let machine = arena.machine();
        machine.step(StepPoint::LockAcquire, arena.object());
        let mut inner = arena.lock().lock(Self::IRQS)?;
        let cleared = clear(arena, batch, |slot: &PteSlot| slot.take(machine));
        arena.give_back(&mut inner, batch, count(arena, &cleared));
        give_frames(arena, &cleared);
        machine.step(StepPoint::LockRelease, arena.object());
        drop(inner);
        Ok(())
    }
}

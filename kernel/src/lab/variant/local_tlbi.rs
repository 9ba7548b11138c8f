//! `local-tlbi`: only the freeing CPU's TLB is flushed.

use arena::addr::PageRange;
use arena::arena::Arena;
use arena::hw::{Lock, LockError, Platform};
use arena::protocol::Protocol;
use arena::slot::PteSlot;
use arena::step::StepPoint;

use super::clearing::{clear, count, give_frames};

/// TLBI VAALE1 in place of VAALE1IS: every other CPU keeps its translation (litmus `R5`).
pub struct LocalTlbi;

impl Protocol for LocalTlbi {
    const NAME: &'static str = "local-tlbi";

    fn free_batch<M: Platform>(arena: &Arena<Self, M>, batch: PageRange) -> Result<(), LockError> {
        let machine = arena.machine();
        machine.step(StepPoint::LockAcquire, arena.object());
        let mut inner = arena.lock().lock(Self::IRQS)?;
        let cleared = clear(arena, batch, |slot: &PteSlot| slot.take(machine));
        if let Some((first, _)) = cleared.first() {
            machine.step(StepPoint::Tlbi, first.get());
            machine.dsb_ishst();
            cleared.iter().for_each(|(page, _)| machine.tlbi_local(*page));
            machine.dsb_ish();
            machine.isb();
        }
        arena.give_back(&mut inner, batch, count(arena, &cleared));
        machine.step(StepPoint::LockRelease, arena.object());
        drop(inner);
        give_frames(arena, &cleared);
        Ok(())
    }
}

//! `plain-spin`: whoever wants the lock spins until it is free, whoever holds it.

use arena::addr::VirtAddr;
use arena::arena::{Arena, Inner, Recovery};
use arena::hw::{Irqs, Lock, LockError, Platform};
use arena::protocol::{Protocol, install_scratch};
use arena::pte::Pte;
use arena::slot::PteSlot;

use crate::lab::engine;

/// The lock is one that cannot tell. If a CPU wants what it holds itself (A-A), in the abort handler or
/// in a program under the lock, or two want each what the other holds (ABBA), nobody can go on.
pub struct PlainSpin;

impl Protocol for PlainSpin {
    const NAME: &'static str = "plain-spin";

    fn lock<M: Platform>(
        arena: &Arena<Self, M>,
    ) -> Result<<M::Lock<Inner> as Lock<Inner>>::Guard<'_>, LockError> {
        Ok(spin(arena))
    }

    fn recover<M: Platform>(
        arena: &Arena<Self, M>,
        slot: &PteSlot,
        page: VirtAddr,
        before: Pte,
    ) -> Recovery {
        let _guard = spin(arena);
        install_scratch(arena, slot, page, before)
    }
}

fn spin<M: Platform>(arena: &Arena<PlainSpin, M>) -> <M::Lock<Inner> as Lock<Inner>>::Guard<'_> {
    loop {
        if let Some(guard) = arena.lock().try_lock(Irqs::Masked) {
            return guard;
        }
        engine::pause();
    }
}

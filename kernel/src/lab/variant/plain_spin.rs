//! `plain-spin`: the abort handler waits for the lock, whoever holds it.

use arena::addr::VirtAddr;
use arena::arena::{Arena, Recovery};
use arena::hw::{Irqs, Lock, Platform};
use arena::protocol::{Protocol, install_scratch};
use arena::pte::Pte;
use arena::slot::PteSlot;

use crate::lab::engine;

/// The handler takes the arena's lock as any code does. If its own CPU holds it, nobody can go on
/// (A-A); a lock that cannot tell spins for ever.
pub struct PlainSpin;

impl Protocol for PlainSpin {
    const NAME: &'static str = "plain-spin";

    fn recover<M: Platform>(
        arena: &Arena<Self, M>,
        slot: &PteSlot,
        page: VirtAddr,
        before: Pte,
    ) -> Recovery {
        loop {
            if let Some(_guard) = arena.lock().try_lock(Irqs::Masked) {
                return install_scratch(arena, slot, page, before);
            }
            engine::pause();
        }
    }
}

//! `trylock-retry`: the abort handler waits for the lock.

use arena::addr::VirtAddr;
use arena::arena::{Arena, Recovery};
use arena::hw::{Irqs, Lock, Platform};
use arena::protocol::{Protocol, install_scratch};
use arena::pte::Pte;
use arena::slot::PteSlot;

/// The abort handler takes the arena's lock, and retries if it cannot: with the lock held by the
/// code that faulted, it retries for ever (A-A). Answers to the proposal that the scratch page
/// replaced.
pub struct TrylockRetry;

impl Protocol for TrylockRetry {
    const NAME: &'static str = "trylock-retry";

    fn recover<M: Platform>(
        arena: &Arena<Self, M>,
        slot: &PteSlot,
        page: VirtAddr,
        before: Pte,
    ) -> Recovery {
        let Some(_guard) = arena.lock().try_lock(Irqs::Masked) else { return Recovery::Again };
        install_scratch(arena, slot, page, before)
    }
}

//! `plain-store`: a look and a store in place of a compare-and-swap.

use arena::addr::VirtAddr;
use arena::arena::Arena;
use arena::hw::Platform;
use arena::protocol::Protocol;
use arena::pte::{Pte, State};
use arena::slot::PteSlot;

/// The page is installed by a plain store behind a look. Answers to `set_pte_at()` on a live slot.
pub struct PlainStore;

impl Protocol for PlainStore {
    const NAME: &'static str = "plain-store";

    fn install<M: Platform>(
        arena: &Arena<Self, M>,
        slot: &PteSlot,
        page: VirtAddr,
        new: Pte,
    ) -> Result<(), Pte> {
        let found = slot.load(arena.machine());
        if found.frame() == Some(arena.scratch()) {
            // What the look finds goes the right way: what is wrong comes behind the look.
            slot.replace(arena.machine(), page, new, || arena.stamp());
            return Ok(());
        }
        if found.state() == State::Valid {
            return Err(found);
        }
        slot.overwrite(arena.machine(), new);
        Ok(())
    }
}

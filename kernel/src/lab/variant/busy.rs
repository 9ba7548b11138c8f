//! `busy`: scratch in the way is an error.

use arena::addr::VirtAddr;
use arena::arena::Arena;
use arena::hw::Platform;
use arena::protocol::Protocol;
use arena::pte::Pte;
use arena::slot::PteSlot;

/// An allocation that finds scratch in its slot fails, and fails again for ever. Answers to Linux
/// 7.2, whose `apply_range_set_cb()` takes a slot in use for an error.
pub struct Busy;

impl Protocol for Busy {
    const NAME: &'static str = "busy";

    fn install<M: Platform>(
        arena: &Arena<Self, M>,
        slot: &PteSlot,
        page: VirtAddr,
        new: Pte,
    ) -> Result<(), Pte> {
        slot.try_set_unpublished(arena.machine(), page, new)
    }
}

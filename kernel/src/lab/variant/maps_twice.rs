//! `maps-twice`: a page is mapped at two addresses.

use arena::addr::{PAGE_SIZE, VirtAddr};
use arena::arena::Arena;
use arena::hw::Platform;
use arena::protocol::Protocol;
use arena::pte::Pte;
use arena::slot::PteSlot;

/// An install writes the neighbour's slot as well.
pub struct MapsTwice;

impl Protocol for MapsTwice {
    const NAME: &'static str = "maps-twice";

    fn install<M: Platform>(
        arena: &Arena<Self, M>,
        slot: &PteSlot,
        page: VirtAddr,
        new: Pte,
    ) -> Result<(), Pte> {
        let next = page.offset(PAGE_SIZE);
        if let Some(next_slot) = arena.slot(next) {
            let _ = next_slot.try_set(arena.machine(), next, new);
        }
        slot.try_set_unpublished(arena.machine(), page, new)
    }
}

//! `maps-freed`: a page is mapped whose frame has gone back.

use arena::addr::VirtAddr;
use arena::arena::Arena;
use arena::hw::Platform;
use arena::protocol::Protocol;
use arena::pte::Pte;
use arena::slot::PteSlot;

/// The frame is given back before it is mapped, as by an error path that is taken and then left.
pub struct MapsFreed;

impl Protocol for MapsFreed {
    const NAME: &'static str = "maps-freed";

    fn install<M: Platform>(
        arena: &Arena<Self, M>,
        slot: &PteSlot,
        page: VirtAddr,
        new: Pte,
    ) -> Result<(), Pte> {
        if let Some(frame) = new.frame() {
            arena.machine().free(frame);
        }
        slot.try_set_unpublished(arena.machine(), page, new)
    }
}

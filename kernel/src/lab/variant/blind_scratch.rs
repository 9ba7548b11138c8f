//! `blind-scratch`: the abort handler stores scratch without a compare.

use arena::addr::VirtAddr;
use arena::arena::{Arena, Recovery};
use arena::hw::Platform;
use arena::protocol::Protocol;
use arena::pte::{Attributes, Pte};
use arena::slot::{PteSlot, publish};

/// The handler trusts its first look at the slot: it stores scratch there whatever came meanwhile,
/// a page of the allocator or another fault's scratch. Answers to `set_pte_at()` in a handler.
pub struct BlindScratch;

impl Protocol for BlindScratch {
    const NAME: &'static str = "blind-scratch";

    fn recover<M: Platform>(
        arena: &Arena<Self, M>,
        slot: &PteSlot,
        _: VirtAddr,
        before: Pte,
    ) -> Recovery {
        let scratch = Pte::page(arena.scratch(), Attributes::KERNEL_DATA);
        slot.overwrite(arena.machine(), scratch);
        publish(arena.machine());
        Recovery::Scratch { before, after: scratch }
    }
}

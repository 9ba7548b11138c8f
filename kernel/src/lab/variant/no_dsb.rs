//! `no-dsb`: the abort handler returns before its install is complete.

use arena::addr::VirtAddr;
use arena::arena::{Arena, Recovery};
use arena::hw::Platform;
use arena::protocol::Protocol;
use arena::pte::{Attributes, Pte};
use arena::slot::PteSlot;

/// The handler installs scratch and returns without a DSB: the retried access may be translated
/// before the store reaches the walker, and fault again (litmus `H5`).
pub struct NoDsb;

impl Protocol for NoDsb {
    const NAME: &'static str = "no-dsb";

    fn recover<M: Platform>(
        arena: &Arena<Self, M>,
        slot: &PteSlot,
        page: VirtAddr,
        before: Pte,
    ) -> Recovery {
        let scratch = Pte::page(arena.scratch(), Attributes::KERNEL_DATA);
        match slot.try_set_unpublished(arena.machine(), page, scratch) {
            Ok(()) => Recovery::Scratch { before, after: scratch },
            Err(winner) => Recovery::Lost { before, winner },
        }
    }
}

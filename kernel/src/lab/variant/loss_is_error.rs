//! `loss-is-error`: a fault that loses its install gives up.

use arena::addr::VirtAddr;
use arena::arena::{Arena, Recovery};
use arena::hw::Platform;
use arena::protocol::{Protocol, install_scratch};
use arena::pte::Pte;
use arena::slot::PteSlot;

/// The handler takes a compare-and-swap that failed for a fault that is not its own. The general
/// abort path finds the page mapped by then and retries, so nobody ever hears of the wild access.
pub struct LossIsError;

impl Protocol for LossIsError {
    const NAME: &'static str = "loss-is-error";

    fn recover<M: Platform>(
        arena: &Arena<Self, M>,
        slot: &PteSlot,
        page: VirtAddr,
        before: Pte,
    ) -> Recovery {
        match install_scratch(arena, slot, page, before) {
            Recovery::Lost { .. } => Recovery::NotOurs,
            recovery => recovery,
        }
    }
}

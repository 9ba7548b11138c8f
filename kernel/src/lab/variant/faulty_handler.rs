//! `faulty-handler`: the abort handler touches memory that may fault.

use arena::addr::{PAGE_SIZE, VirtAddr};
use arena::arena::{Arena, Recovery};
use arena::hw::Platform;
use arena::protocol::{Protocol, install_scratch};
use arena::pte::Pte;
use arena::slot::PteSlot;

use crate::prog::kfunc;

/// The handler reads the page behind the one that faulted. If its own fault were recovered like any
/// other, it would fault again in that recovery, and so on to the end of the stack.
pub struct FaultyHandler;

impl Protocol for FaultyHandler {
    const NAME: &'static str = "faulty-handler";

    fn recover<M: Platform>(
        arena: &Arena<Self, M>,
        slot: &PteSlot,
        page: VirtAddr,
        before: Pte,
    ) -> Recovery {
        kfunc::read_word(page.offset(PAGE_SIZE));
        install_scratch(arena, slot, page, before)
    }
}

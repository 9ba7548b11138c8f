//! `relaxed-install`: the page is published without release.

use arena::addr::VirtAddr;
use arena::arena::Arena;
use arena::hw::Platform;
use arena::protocol::Protocol;
use arena::pte::Pte;
use arena::slot::PteSlot;
use arena::sync::Ordering;

/// The allocator's compare-and-swap has no release: the frame's zeroes may become visible behind its
/// mapping (litmus `Z5`).
pub struct RelaxedInstall;

impl Protocol for RelaxedInstall {
    const NAME: &'static str = "relaxed-install";

    fn install<M: Platform>(
        arena: &Arena<Self, M>,
        slot: &PteSlot,
        page: VirtAddr,
        new: Pte,
    ) -> Result<(), Pte> {
        let machine = arena.machine();
        match slot.swap_if(machine, Pte::EMPTY, new, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            Err(_) => {
                slot.replace(machine, page, new, || arena.stamp());
                Ok(())
            }
        }
    }
}

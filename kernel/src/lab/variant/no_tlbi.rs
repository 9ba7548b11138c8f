//! `no-tlbi`: scratch is replaced without TLB maintenance.

use arena::addr::VirtAddr;
use arena::arena::Arena;
use arena::hw::Platform;
use arena::protocol::Protocol;
use arena::pte::Pte;
use arena::slot::PteSlot;
use arena::sync::Ordering;

/// The entry of scratch is cleared and the page's set, and nobody tells the TLBs. Answers to
/// `ptep_get_and_clear()` and `set_pte_at()` without `flush_tlb_kernel_range()` between them.
pub struct NoTlbi;

impl Protocol for NoTlbi {
    const NAME: &'static str = "no-tlbi";

    fn install<M: Platform>(
        arena: &Arena<Self, M>,
        slot: &PteSlot,
        page: VirtAddr,
        new: Pte,
    ) -> Result<(), Pte> {
        let hw = arena.machine();
        match slot.try_set_unpublished(hw, page, new) {
            Err(found) if found.frame() == Some(arena.scratch()) => {
                slot.take(hw);
                // A fault may have refilled the slot; its scratch goes the same way.
                while slot.swap_if(hw, Pte::EMPTY, new, Ordering::Release).is_err() {
                    slot.take(hw);
                }
                Ok(())
            }
            outcome => outcome,
        }
    }
}

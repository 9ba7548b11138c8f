//! The PTE protocol: one live descriptor, and the only ways to change it.
//!
//! A slot is *empty*, *valid* or a *tombstone* (see [`State`]). Allowed edges:
//!
//! ```text
//!   empty     --CAS------------------------------> valid      try_set
//!   tombstone --DSB, TLBI, DSB, ISB, then CAS----> valid      try_set helps
//!   any       --exchange-------------------------> tombstone  bury
//!   tombstone --CAS, after the burier's flush----> empty      retire
//! ```
//!
//! There is no edge from valid to valid, and none from a cleared slot to a valid one without a
//! completed TLB invalidation between: whoever meets a tombstone does the maintenance itself.
//! Nobody waits for anybody, so every function here may run in the abort handler, with any lock
//! held by anyone.
//!
//! The litmus tests named below are Arm VMSA tests; each fails in the model without the barrier
//! or ordering that cites it.

use crate::addr::VirtAddr;
use crate::hw::Hw;
use crate::pte::{Pte, Stamp, State};
use crate::step::step;
use crate::sync::{AtomicU64, Ordering};

/// A live descriptor in a translation table. 8 bytes, naturally aligned: the MMU reads it.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct PteSlot(AtomicU64);

/// What [`PteSlot::bury`] took out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "the old entry's frame and TLB maintenance are the caller's to settle"]
pub struct Buried {
    /// The entry before.
    pub old: Pte,
    /// The tombstone now in the slot, to be retired after the flush.
    pub stamp: Stamp,
}

impl PteSlot {
    /// An empty slot.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Empties the slot of a frame that no walk reaches, as zeroing the frame does.
    #[cfg(test)]
    pub(crate) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// What the lab knows the slot by.
    #[cfg(feature = "lab")]
    fn object(&self) -> u64 {
        core::ptr::from_ref(self).addr() as u64
    }

    /// Puts `new` into the slot whatever it holds, by a plain store: the broken way, which variants
    /// of the lab take.
    #[cfg(feature = "lab")]
    pub fn overwrite<H: Hw>(&self, hw: &H, new: Pte) {
        step!(hw, PteStore, self.object());
        hw.store(&self.0, new.bits());
    }

    /// Empties the slot by an exchange, without a tombstone: whoever looks next cannot know that a
    /// TLB may still hold the old entry. For variants of the lab. Answers to Linux
    /// `ptep_get_and_clear()`.
    #[cfg(feature = "lab")]
    pub fn take<H: Hw>(&self, hw: &H) -> Pte {
        step!(hw, PteSwap, self.object());
        Pte::from_bits(hw.swap(&self.0, Pte::EMPTY.bits(), Ordering::AcqRel))
    }

    /// A compare-and-swap of the slot by the order that the caller gives, for variants of the lab.
    ///
    /// # Errors
    /// What was found instead of `current`.
    #[cfg(feature = "lab")]
    pub fn swap_if<H: Hw>(
        &self,
        hw: &H,
        current: Pte,
        new: Pte,
        order: Ordering,
    ) -> Result<Pte, Pte> {
        step!(hw, PteCas, self.object());
        let outcome = hw.compare_exchange(&self.0, current.bits(), new.bits(), order);
        outcome.map(Pte::from_bits).map_err(Pte::from_bits)
    }

    /// A copy of the descriptor.
    ///
    /// Relaxed: after a fault the load is never older than what the walk saw (litmus `H4`), and
    /// whoever acts on the value does so by compare-and-swap.
    pub fn load<H: Hw>(&self, hw: &H) -> Pte {
        step!(hw, PteLoad, self.object());
        Pte::from_bits(hw.load(&self.0))
    }

    /// Installs `new` for `page` if the slot holds no valid entry, and publishes it: when this
    /// returns, this CPU's next access through `page` uses the new entry.
    ///
    /// Answers to Linux `ptep_try_set()`. Lock-free; any context.
    ///
    /// # Errors
    /// The valid entry that was there first. It is published as well before the return: another
    /// CPU's store may be visible to our load and not yet to our walker (`H3`, `P3`).
    pub fn try_set<H: Hw>(&self, hw: &H, page: VirtAddr, new: Pte) -> Result<(), Pte> {
        match self.install(hw, Pte::EMPTY, new) {
            // By itself, and not the first turn of a loop: mostly this is all.
            Ok(()) => {
                publish(hw);
                Ok(())
            }
            Err(found) => {
                let outcome = self.try_set_over(hw, page, found, new);
                publish(hw);
                outcome
            }
        }
    }

    /// [`try_set`](Self::try_set) without its barriers, for a batch that ends in one [`publish`].
    ///
    /// # Errors
    /// As `try_set`, not published.
    pub fn try_set_unpublished<H: Hw>(&self, hw: &H, page: VirtAddr, new: Pte) -> Result<(), Pte> {
        let outcome = self.install(hw, Pte::EMPTY, new);
        outcome.or_else(|found| self.try_set_over(hw, page, found, new))
    }

    /// [`try_set_unpublished`](Self::try_set_unpublished) after `found` was in the slot.
    #[inline(always)]
    fn try_set_over<H: Hw>(
        &self,
        hw: &H,
        page: VirtAddr,
        mut found: Pte,
        new: Pte,
    ) -> Result<(), Pte> {
        loop {
            match found.state() {
                State::Empty => {}
                State::Valid => return Err(found),
                // The burier's maintenance may not be complete: do it here before the entry can
                // become valid (`T5`; `T1` is the window that this closes).
                State::Tombstone(_) => flush_after_load(hw, page),
            }
            match self.install(hw, found, new) {
                Ok(()) => return Ok(()),
                Err(other) => found = other,
            }
        }
    }

    /// Puts `new` in the place of `expected`, which is not valid.
    #[inline(always)]
    fn install<H: Hw>(&self, hw: &H, expected: Pte, new: Pte) -> Result<(), Pte> {
        step!(hw, PteCas, self.object());
        // Release: the frame's zeroes are visible before its mapping (`Z4`; `Z5` without).
        let outcome = hw.compare_exchange(&self.0, expected.bits(), new.bits(), Ordering::Release);
        outcome.map(|_| ()).map_err(Pte::from_bits)
    }

    /// Puts the tombstone `stamp` into the slot and hands out the old entry. The caller owes a
    /// flush of the page, then [`retire`](Self::retire); the old frame may be freed only between
    /// the two or later.
    pub fn bury<H: Hw>(&self, hw: &H, stamp: Stamp) -> Buried {
        step!(hw, PteSwap, self.object());
        // An exchange, not load and store: an entry installed in between would be lost (`I11`,
        // `C2`), and so would a dirty bit set by hardware (`D1`). AcqRel: the earlier owner's
        // accesses to the frame come before its next owner's.
        let old = hw.swap(&self.0, Pte::tombstone(stamp).bits(), Ordering::AcqRel);
        Buried { old: Pte::from_bits(old), stamp }
    }

    /// Empties the slot if it still holds the tombstone `stamp`. Only after that burial's flush is
    /// complete: an empty slot promises that no TLB holds a translation.
    pub fn retire<H: Hw>(&self, hw: &H, stamp: Stamp) {
        step!(hw, PteCas, self.object());
        // A helper may have made the slot valid already, and a later clear may have buried that
        // in turn; the stamp tells its tombstone from ours. Relaxed: zero publishes nothing.
        let _ = hw.compare_exchange(
            &self.0,
            Pte::tombstone(stamp).bits(),
            Pte::EMPTY.bits(),
            Ordering::Relaxed,
        );
    }

    /// Clears the slot for `page`: when this returns, no CPU translates through the old entry,
    /// and its frame may go to the allocator.
    ///
    /// Answers to Linux `ptep_get_and_clear()` followed by `flush_tlb_kernel_range()`.
    pub fn clear<H: Hw>(&self, hw: &H, page: VirtAddr, stamp: Stamp) -> Pte {
        let buried = self.bury(hw, stamp);
        if buried.old.state() != State::Empty {
            flush(hw, page);
        }
        self.retire(hw, stamp);
        buried.old
    }

    /// Break-before-make: replaces the valid entry of `page` by `new` and publishes it. `next`
    /// gives a fresh stamp each time it is asked.
    ///
    /// A concurrent fault may refill the slot between break and make (litmus `I10`); then the
    /// entry that it installed is broken again. Each repeat is paid for by one such fault, so the
    /// loop ends when the faults do. Answers to nothing in Linux 7.2, which fails the allocation.
    ///
    /// Returns the first entry that was replaced.
    pub fn replace<H: Hw>(
        &self,
        hw: &H,
        page: VirtAddr,
        new: Pte,
        mut next: impl FnMut() -> Stamp,
    ) -> Pte {
        let first = self.bury(hw, next());
        let mut stamp = first.stamp;
        loop {
            flush(hw, page);
            step!(hw, PteCas, self.object());
            // Release as in `try_set_unpublished` (`Z4`).
            let made = hw.compare_exchange(
                &self.0,
                Pte::tombstone(stamp).bits(),
                new.bits(),
                Ordering::Release,
            );
            if made.is_ok() {
                publish(hw);
                return first.old;
            }
            stamp = self.bury(hw, next()).stamp;
        }
    }
}

/// Makes earlier installs usable by this CPU's walker: DSB ISHST so that the stores are complete,
/// ISB so that no later access was translated before them (`L2`; `L1`, `L3`, `L4` without one or
/// both; `H6` in the abort handler, `H5` without).
pub fn publish<H: Hw>(hw: &H) {
    step!(hw, Publish, 0);
    hw.dsb_ishst();
    hw.isb();
}

/// TLB maintenance after this CPU's own clear of `page`: on return no CPU holds the translation.
pub fn flush<H: Hw>(hw: &H, page: VirtAddr) {
    step!(hw, Tlbi, page.get());
    // The clear is complete before the TLBI (`R3e`; `R3b` and `R3c`: an atomic or a DMB is not
    // enough).
    hw.dsb_ishst();
    // Broadcast, last level (`R6`; `R5`: a local one is not enough).
    hw.tlbi_vaale1is(page);
    finish_flush(hw);
}

/// Waits for earlier TLB maintenance: a full DSB ISH (`R4`, `R4b`, `R4c` with less), then an ISB
/// for this CPU's own accesses (`L7`; `L6` without).
pub fn finish_flush<H: Hw>(hw: &H) {
    hw.dsb_ish();
    hw.isb();
}

/// TLB maintenance by a helper that only *read* the tombstone: a full DSB first, because the read,
/// not a store of its own, must come before the TLBI (`T5`; `T5d` is what a weaker one risks).
fn flush_after_load<H: Hw>(hw: &H, page: VirtAddr) {
    step!(hw, Tlbi, page.get());
    hw.dsb_ish();
    hw.tlbi_vaale1is(page);
    finish_flush(hw);
}

#[cfg(test)]
mod test;

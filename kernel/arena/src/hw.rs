//! The machine as the protocols see it: atomics on descriptor words, barriers, TLB maintenance,
//! table memory, frames and a lock. The kernel fills these traits with instructions; host tests
//! and model checkers fill them with models.

use core::ops::DerefMut;

use crate::addr::{Frame, VirtAddr};
use crate::slot::PteSlot;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Barriers, TLB maintenance and read-modify-write operations on descriptor words.
///
/// Callable in any context: with locks held, with IRQs on or off, inside the abort handler.
pub trait Hw {
    /// A relaxed load.
    fn load(&self, word: &AtomicU64) -> u64 {
        word.load(Ordering::Relaxed)
    }

    /// Compare-and-swap. `order` applies to success; a failure orders nothing.
    ///
    /// # Errors
    /// The word that was found instead of `current`.
    fn compare_exchange(
        &self,
        word: &AtomicU64,
        current: u64,
        new: u64,
        order: Ordering,
    ) -> Result<u64, u64> {
        word.compare_exchange(current, new, order, Ordering::Relaxed)
    }

    /// Atomic exchange; returns the old word.
    fn swap(&self, word: &AtomicU64, new: u64, order: Ordering) -> u64 {
        word.swap(new, order)
    }

    /// DSB ISHST: earlier stores, page-table writes included, are complete for the inner
    /// shareable domain.
    fn dsb_ishst(&self);

    /// DSB ISH: earlier accesses and TLB maintenance are complete for the inner shareable domain.
    fn dsb_ish(&self);

    /// ISB: what follows is fetched and translated anew.
    fn isb(&self);

    /// TLBI VAALE1IS: drop last-level translations of the page that holds `page`, for all ASIDs,
    /// on every CPU of the inner shareable domain. Complete only after a following DSB ISH.
    fn tlbi_vaale1is(&self, page: VirtAddr);

    /// TLBI VMALLE1IS: drop every stage-1 translation of EL1&0, walk caches included, on every
    /// CPU of the inner shareable domain. Complete only after a following DSB ISH.
    fn tlbi_vmalle1is(&self);

    /// A plain store to a descriptor word: what no sound protocol does, for variants that do.
    #[cfg(feature = "lab")]
    fn store(&self, word: &AtomicU64, new: u64) {
        word.store(new, Ordering::Relaxed);
    }

    /// TLBI VAALE1: as [`tlbi_vaale1is`](Self::tlbi_vaale1is) for this CPU alone, which is never
    /// enough here. For a variant.
    #[cfg(feature = "lab")]
    fn tlbi_local(&self, page: VirtAddr) {
        self.tlbi_vaale1is(page);
    }

    /// Where the lab stops a CPU between two steps of a protocol; see [`crate::step`].
    #[cfg(feature = "lab")]
    fn step(&self, _point: crate::step::StepPoint, _object: u64) {}
}

/// Slots of a translation table (4 KiB granule).
pub const TABLE_SLOTS: usize = 512;

/// Access to translation tables in memory.
pub trait Tables {
    /// The slots of the table in `table`.
    ///
    /// A translation table's memory stays a table for as long as any walk may reach it, so the
    /// references are to live atomic words.
    fn slots(&self, table: Frame) -> &[PteSlot; TABLE_SLOTS];

    /// Slot `index`, below [`TABLE_SLOTS`], of the table in `table`.
    #[inline(always)]
    fn slot(&self, table: Frame, index: usize) -> &PteSlot {
        &self.slots(table)[index]
    }
}

/// Where frames come from and go to.
pub trait Frames {
    /// A frame of unspecified contents, owned by the caller; `None` when memory is exhausted.
    /// May run a tracepoint program before it returns, under whatever lock the caller holds.
    fn alloc(&self) -> Option<Frame>;

    /// Takes a frame back. No slot and no TLB may still translate to it.
    fn free(&self, frame: Frame);

    /// Takes several frames back, as [`free`](Self::free) does one.
    #[inline(always)]
    fn free_all(&self, frames: impl Iterator<Item = Frame>) {
        frames.for_each(|frame| self.free(frame));
    }

    /// Fills a frame that the caller owns with zeroes.
    fn zero(&self, frame: Frame);
}

/// Whether a critical section runs with interrupts masked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Irqs {
    /// DAIF.I is set for the whole section and restored after it.
    Masked,
    /// DAIF is left alone: an interrupt may land inside the section.
    Unchanged,
}

/// Why a lock was not given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockError {
    /// This CPU holds the lock already, or waits for it below: waiting would never end (A-A).
    Aa,
    /// This CPU waits for one that waits for it, directly or through others (ABBA).
    Abba,
    /// The wait took too long.
    Timeout {
        /// The CPU that held the lock then; 255 if none did.
        holder: u8,
    },
}

/// The name of a lock in reports. A static of its own, so that a record of held locks is one
/// pointer, which another CPU can read without tearing.
#[derive(Debug)]
pub struct LockName(pub &'static str);

/// A mutual exclusion lock around a value.
pub trait Lock<T> {
    /// Unlocks when dropped.
    type Guard<'a>: DerefMut<Target = T>
    where
        Self: 'a,
        T: 'a;

    /// An unlocked lock; `name` appears in reports. `None` if there are as many as can be.
    fn new(name: &'static LockName, value: T) -> Option<Self>
    where
        Self: Sized;

    /// Waits for the lock.
    ///
    /// # Errors
    /// [`LockError`]: waiting would not end.
    fn lock(&self, irqs: Irqs) -> Result<Self::Guard<'_>, LockError>;

    /// Takes the lock if it is free.
    fn try_lock(&self, irqs: Irqs) -> Option<Self::Guard<'_>>;

    /// Where a debugger reads the index of the CPU that holds the lock, all ones if none does.
    /// Null if the lock does not say.
    fn owner_word(&self) -> *const AtomicU32 {
        core::ptr::null()
    }
}

/// All that an arena needs of a machine.
pub trait Platform: Hw + Tables + Frames {
    /// The lock that guards an arena's bookkeeping.
    type Lock<T: Send>: Lock<T>;

    /// The same machine without a choice that it makes at each operation.
    type Chosen: Hw;

    /// For loops over many descriptors: the machine with its choice made, if there is one to make.
    #[inline(always)]
    fn chosen(&self) -> Option<&Self::Chosen> {
        None
    }
}

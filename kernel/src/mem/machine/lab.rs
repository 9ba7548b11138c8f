//! What the lab does in place of the machine when stores and maintenance are delayed.

use arena::addr::VirtAddr;
use arena::hw::Hw;
use arena::sync::{AtomicU64, Ordering};

use super::{Machine, address_of};
use crate::arch::{barrier, tlb};
use crate::lab::engine::hook;
use crate::lab::engine::weak::Delayed;
use crate::mem::events::{self, Kind};

/// The TLBI that was delayed, of a page or of all, with the DSB that makes it effective.
pub fn tlbi_now(page: Option<VirtAddr>) {
    barrier::dsb_ishst();
    match page {
        Some(page) => tlb::vaale1is(page),
        None => tlb::vmalle1is(),
    }
    barrier::dsb_ish();
}

/// The store to the descriptor at `slot` that was delayed.
pub fn store_word(slot: u64, value: u64) {
    // SAFETY: the lab delays changes of descriptors that it watches, which are words of live tables
    // in the direct map.
    unsafe { &*(slot as *const AtomicU64) }.store(value, Ordering::Relaxed);
    barrier::dsb_ishst();
}

/// A compare-and-swap that loads and atomics see at once and table walks later.
pub fn delayed_exchange(
    word: &AtomicU64,
    current: u64,
    new: u64,
    order: Ordering,
) -> Result<u64, u64> {
    let found = Machine.load(word);
    if found != current {
        events::note(Kind::CasLost, address_of(word), found, new);
        wrote(word, found, new, false);
        return Err(found);
    }
    delayed_swap(word, new, order);
    Ok(found)
}

/// An exchange of that kind.
pub fn delayed_swap(word: &AtomicU64, new: u64, order: Ordering) -> u64 {
    let old = Machine.load(word);
    let release = matches!(order, Ordering::Release | Ordering::AcqRel | Ordering::SeqCst);
    hook::delay(Delayed::Pte { slot: address_of(word), value: new, release });
    events::note(Kind::Swap, address_of(word), old, new);
    wrote(word, old, new, true);
    old
}

/// Tells the lab of a change to a descriptor.
#[inline(always)]
pub fn wrote(word: &AtomicU64, old: u64, new: u64, done: bool) {
    hook::wrote(address_of(word), old, new, done);
}

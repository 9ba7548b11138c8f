//! ASIDs: the numbers that tell address spaces apart in the TLB.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::arch::features;

/// Words of the largest set: 16-bit ASIDs.
const WORDS: usize = (1 << 16) / 64;

/// A set bit is an ASID in use. 0 is never given: it is what TTBR0 has when no task runs.
static IN_USE: [AtomicU64; WORDS] = {
    let mut words = [const { AtomicU64::new(0) }; WORDS];
    words[0] = AtomicU64::new(1);
    words
};

/// Words below this one are full, as far as its last reader and writer knew: where a search begins. A hint,
/// so that taking all of them is not a walk over all words for each.
static FULL_BELOW: AtomicUsize = AtomicUsize::new(0);

/// An ASID that no other address space has. Dropping it gives it to the next that asks, so nothing
/// tagged with it may be in any TLB by then.
#[derive(PartialEq, Eq, Debug)]
pub struct Asid(u16);

impl Asid {
    /// Takes the lowest that is free, or one a little above while others come back; `None` when all are
    /// taken. Lock-free.
    pub fn take() -> Option<Self> {
        let words = if features::system().asid16 { WORDS } else { (1 << 8) / 64 };
        // Relaxed, here and below: what the hint misses is found by the search of the rest.
        let from = FULL_BELOW.load(Ordering::Relaxed);
        (from..words).chain(0..from).find_map(|index| {
            let word = &IN_USE[index];
            // Acquire: pairs with the release in `drop`: the last owner's flush comes first.
            let taken = word.fetch_update(Ordering::Acquire, Ordering::Relaxed, |bits| {
                let free = (!bits).trailing_zeros();
                (free < 64).then(|| bits | 1 << free)
            });
            let before = taken.ok()?;
            FULL_BELOW.store(index, Ordering::Relaxed);
            Some(Self((index * 64) as u16 + (!before).trailing_zeros() as u16))
        })
    }

    /// The number.
    pub fn number(&self) -> u16 {
        self.0
    }
}

impl Drop for Asid {
    fn drop(&mut self) {
        // Release: see `take`.
        let index = usize::from(self.0 / 64);
        IN_USE[index].fetch_and(!(1 << (self.0 % 64)), Ordering::Release);
        FULL_BELOW.fetch_min(index, Ordering::Relaxed);
    }
}

//! ASIDs: the numbers that tell address spaces apart in the TLB.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::arch::features;

/// Words of the largest set: 16-bit ASIDs.
const WORDS: usize = (1 << 16) / 64;

/// A set bit is an ASID in use. 0 is never given: it is what TTBR0 has when no task runs.
static IN_USE: [AtomicU64; WORDS] = {
    let mut words = [const { AtomicU64::new(0) }; WORDS];
    words[0] = AtomicU64::new(1);
    words
};

/// An ASID that no other address space has. Dropping it gives it to the next that asks, so nothing
/// tagged with it may be in any TLB by then.
#[derive(PartialEq, Eq, Debug)]
pub struct Asid(u16);

impl Asid {
    /// Takes the lowest that is free; `None` when all are taken. Lock-free.
    pub fn take() -> Option<Self> {
        let words = if features::system().asid16 { WORDS } else { (1 << 8) / 64 };
        IN_USE[..words].iter().enumerate().find_map(|(index, word)| {
            // Acquire: pairs with the release in `drop`: the last owner's flush comes first.
            let taken = word.fetch_update(Ordering::Acquire, Ordering::Relaxed, |bits| {
                let free = (!bits).trailing_zeros();
                (free < 64).then(|| bits | 1 << free)
            });
            taken.ok().map(|before| Self((index * 64) as u16 + (!before).trailing_zeros() as u16))
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
        IN_USE[usize::from(self.0 / 64)].fetch_and(!(1 << (self.0 % 64)), Ordering::Release);
    }
}

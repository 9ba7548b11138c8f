//! Where an arena keeps its figures, for a debugger that looks at a stopped machine: it can take no
//! lock, and must not need one.

use super::Arena;
use crate::hw::{Lock, LockError, Platform};
use crate::protocol::Protocol;
use crate::sync::{AtomicBool, AtomicU32, AtomicU64};

/// Addresses of an arena's words. They hold while the arena is neither moved nor dropped, and the
/// words behind the pages' addresses change under the arena's lock: for reading by whoever has
/// stopped the machine, and by nobody else.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// Pages that the arena may give out; not an address.
    pub max_pages: u32,
    /// See [`Stats::mapped_pages`](super::Stats::mapped_pages).
    pub mapped_pages: *const u32,
    /// See [`Stats::peak_pages`](super::Stats::peak_pages).
    pub peak_pages: *const u32,
    /// See [`Stats::free_pages`](super::Stats::free_pages).
    pub free_pages: *const u32,
    /// See [`Lock::owner_word`].
    pub lock_owner: *const AtomicU32,
    /// See [`Stats::scratch_installs`](super::Stats::scratch_installs).
    pub scratch_installs: *const AtomicU64,
    /// See [`Stats::lost_installs`](super::Stats::lost_installs).
    pub lost_installs: *const AtomicU64,
    /// See [`Stats::spurious_faults`](super::Stats::spurious_faults).
    pub spurious_faults: *const AtomicU64,
    /// See [`Stats::lock_failures`](super::Stats::lock_failures).
    pub lock_failures: *const AtomicU64,
    /// Set once destruction began.
    pub destroyed: *const AtomicBool,
}

impl<P: Protocol, M: Platform> Arena<P, M> {
    /// Where its figures are. Takes the lock; what it returns is used without.
    ///
    /// # Errors
    /// The lock's.
    pub fn watch(&self) -> Result<Watch, LockError> {
        let inner = self.inner.lock(P::IRQS)?;
        Ok(Watch {
            max_pages: self.max_pages,
            mapped_pages: &raw const inner.mapped,
            peak_pages: &raw const inner.peak,
            free_pages: inner.ranges.free_pages_word(),
            lock_owner: self.inner.owner_word(),
            scratch_installs: &raw const self.counters.scratch_installs,
            lost_installs: &raw const self.counters.lost_installs,
            spurious_faults: &raw const self.counters.spurious_faults,
            lock_failures: &raw const self.counters.lock_failures,
            destroyed: &raw const self.destroyed,
        })
    }
}

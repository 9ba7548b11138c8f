//! The abort handler's half of an arena: no lock, no allocation, no waiting.

use super::Arena;
use crate::addr::VirtAddr;
use crate::hw::Platform;
use crate::protocol::Protocol;
use crate::pte::Pte;
use crate::sync::Ordering;

/// What became of a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Recovery {
    /// The address is not this arena's to recover.
    NotOurs,
    /// A page is mapped there by now: retry. No violation; without FEAT_ETS2 a CPU may fault on a
    /// valid entry, and another CPU may have mapped the page since (litmus `H3`).
    Spurious(Pte),
    /// Scratch was installed: report, retry.
    Scratch {
        /// The entry that the handler found.
        before: Pte,
        /// The entry that it left.
        after: Pte,
    },
    /// Another installer won: report, retry.
    Lost {
        /// The entry that the handler found.
        before: Pte,
        /// The entry that won.
        winner: Pte,
    },
    /// Nothing was done: retry and hope. No sound protocol answers this.
    Again,
}

impl<P: Protocol, M: Platform> Arena<P, M> {
    /// Answers a translation fault at `far`, in the abort handler of the CPU that took it.
    ///
    /// Lock-free, does not allocate, waits for no other CPU. On every answer but
    /// [`Recovery::NotOurs`] the slot is published to this CPU's walker, so that returning from
    /// the exception retries the access against a valid entry (`H6`; without the DSB, `H5`).
    ///
    /// Answers to the kernel-fault half of Linux kernel/bpf/arena.c.
    pub fn recover(&self, far: VirtAddr) -> Recovery {
        // Acquire: pairs with `destroy`, which frees tables after setting the flag.
        if self.destroyed.load(Ordering::Acquire) {
            return Recovery::NotOurs;
        }
        let Some(slot) = self.slot(far) else { return Recovery::NotOurs };
        let before = slot.load(&self.machine);
        let recovery = match before.frame() {
            Some(frame) if frame != self.scratch => {
                crate::slot::publish(&self.machine);
                Recovery::Spurious(before)
            }
            _ => P::recover(self, slot, far.page_base(), before),
        };
        self.count(recovery);
        recovery
    }

    fn count(&self, recovery: Recovery) {
        let counter = match recovery {
            Recovery::Scratch { .. } => &self.counters.scratch_installs,
            Recovery::Lost { .. } => &self.counters.lost_installs,
            Recovery::Spurious(_) => &self.counters.spurious_faults,
            Recovery::NotOurs | Recovery::Again => return,
        };
        // Relaxed: counters order nothing.
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

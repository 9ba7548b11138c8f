//! The end of an arena.

use super::Arena;
use crate::addr::{Frame, PAGE_SIZE, PageRange, VirtAddr};
use crate::hw::{Lock, LockError, Platform};
use crate::map::{BLOCK_SIZE, flush_all, level_size};
use crate::protocol::Protocol;
use crate::pte::{Pte, Stamp};
use crate::sync::Ordering;

/// Why an arena was not destroyed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DestroyError {
    /// It was destroyed before.
    Already,
    /// The lock was not given.
    Lock(LockError),
}

impl<P: Protocol, M: Platform> Arena<P, M> {
    /// Unmaps everything, gives back every frame, table and the scratch page, once.
    ///
    /// The caller has stopped the faulters first: no program with this arena runs or can start,
    /// on any CPU. A fault after the sweep would refill a slot of a table that is about to be
    /// freed.
    ///
    /// # Errors
    /// [`DestroyError`]; nothing was freed.
    pub fn destroy(&self) -> Result<(), DestroyError> {
        let mut inner = self.inner.lock(P::IRQS).map_err(DestroyError::Lock)?;
        // AcqRel: one winner; `recover` that sees the flag touches no table after this.
        if self.destroyed.swap(true, Ordering::AcqRel) {
            return Err(DestroyError::Already);
        }
        self.sweep();
        inner.mapped = 0;
        release_tables(&self.machine, self.root, self.window.base(), self.window.recovery_bytes());
        self.release_user_tables();
        self.machine.free(self.scratch);
        Ok(())
    }

    /// No task points to them any more.
    fn release_user_tables(&self) {
        let Some(root) = self.user_root() else { return };
        let base = self.window.user_base();
        let before = base.get() % level_size(1);
        let from = VirtAddr::new(base.get() - before);
        release_tables(&self.machine, root, from, self.window.bytes() + before);
        if let Some(level1) =
            self.machine.slot(root, base.table_index(0)).load(&self.machine).next_table()
        {
            self.machine.free(level1);
        }
        self.machine.free(root);
    }

    fn sweep(&self) {
        self.unmap_pages(PageRange::new(0, self.window.pages()));
        let guard_pages = (self.window.recovery_bytes() / PAGE_SIZE) as u32 - self.window.pages();
        self.unmap_pages(PageRange::new(self.window.pages(), guard_pages));
    }
}

/// Unlinks and frees every table below level 1 that serves the `bytes` from `base` on; their slots are
/// empty, and level 2 tables are shared with no other window.
pub(super) fn release_tables<M: Platform>(machine: &M, root: Frame, base: VirtAddr, bytes: u64) {
    let end = base.get() + bytes;
    let mut at = base;
    while at.get() < end {
        release_gigabyte(machine, root, at, end);
        at = at.offset(level_size(1));
    }
}

fn release_gigabyte<M: Platform>(machine: &M, root: Frame, base: VirtAddr, end: u64) {
    let Some(level1) = machine.slot(root, base.table_index(0)).load(machine).next_table() else {
        return;
    };
    let slot = machine.slot(level1, base.table_index(1));
    let Some(level2) = slot.load(machine).next_table() else { return };
    // One burial, one full flush, no helper: nobody installs above level 3, so any stamp is unique.
    let stamp = Stamp::new(1).expect("one is a stamp");
    let _unlinked: Pte = slot.bury(machine, stamp).old;
    flush_all(machine);
    slot.retire(machine, stamp);
    let mut at = base;
    while at.get() < end && at.get() - base.get() < level_size(1) {
        let entry = machine.slot(level2, at.table_index(2)).load(machine);
        if let Some(level3) = entry.next_table() {
            machine.free(level3);
        }
        at = at.offset(BLOCK_SIZE);
    }
    machine.free(level2);
}

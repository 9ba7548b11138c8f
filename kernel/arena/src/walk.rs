//! The walk: from a root table to the slot that decides about an address, as the MMU does it.
//!
//! Lock-free and without allocation, so it serves the abort handler. A table that a walk may reach
//! is freed only after every CPU that could be walking is known to be elsewhere (see
//! [`Arena::destroy`](crate::arena::Arena::destroy)), which is why a plain load of each level is
//! enough.

use crate::addr::{Frame, VirtAddr};
use crate::hw::{Hw, Tables};
use crate::pte::Pte;
use crate::slot::PteSlot;

/// Levels of a 4 KiB granule, 48-bit walk.
pub const LEVELS: usize = 4;

/// Where a walk ended and what it passed.
#[derive(Clone, Copy)]
pub struct Walk<'t> {
    /// Level of the last slot, 0 to 3.
    pub level: u8,
    /// The last slot: a leaf, or the entry that stopped the walk.
    pub slot: &'t PteSlot,
    /// The entries read, from level 0 to `level`; empty beyond.
    pub entries: [Pte; LEVELS],
}

impl Walk<'_> {
    /// The entry that ended the walk.
    pub fn last(&self) -> Pte {
        self.entries[self.level as usize]
    }
}

/// Walks from `root` towards `va` and stops at the first entry that is no table. For reports;
/// [`leaf_slot`] is the fast way to a page's slot.
pub fn walk<M: Hw + Tables>(machine: &M, root: Frame, va: VirtAddr) -> Walk<'_> {
    let mut table = root;
    let mut entries = [Pte::EMPTY; LEVELS];
    let mut level = 0;
    loop {
        let slot = machine.slot(table, va.table_index(level));
        let entry = slot.load(machine);
        entries[level as usize] = entry;
        match entry.next_table() {
            Some(next) if level < 3 => {
                table = next;
                level += 1;
            }
            _ => return Walk { level, slot, entries },
        }
    }
}

/// The level 3 slot of `va` if the levels above are populated; `None` where the walk stops early,
/// at a block or an empty entry.
pub fn leaf_slot<M: Hw + Tables>(machine: &M, root: Frame, va: VirtAddr) -> Option<&PteSlot> {
    leaf_table(machine, root, va).map(|table| machine.slot(table, va.table_index(3)))
}

/// The level 3 table that serves `va`, under the same condition as [`leaf_slot`].
pub fn leaf_table<M: Hw + Tables>(machine: &M, root: Frame, va: VirtAddr) -> Option<Frame> {
    (0..3).try_fold(root, |table, level| {
        machine.slot(table, va.table_index(level)).load(machine).next_table()
    })
}

//! Mapping, unmapping and protecting address ranges, and listing what is mapped.
//!
//! Changes must be serialised by the caller; walks may run at the same time. Tables in between are
//! made on the way and stay: nothing here frees a table.

use core::fmt;

use crate::addr::{Frame, PAGE_SHIFT, PAGE_SIZE, PhysAddr, VirtAddr};
use crate::hw::{Frames, Hw, Tables};
use crate::pte::{Attributes, Pte, Stamp, State};
use crate::slot::{PteSlot, finish_flush, publish};
use crate::walk::{Walk, walk};

/// Bytes that one level 2 block maps.
pub const BLOCK_SIZE: u64 = level_size(2);

/// A table tree and the means to change it.
pub struct Mapper<'m, M> {
    machine: &'m M,
    root: Frame,
}

/// Why a range could not be changed. What was done before the error stays done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapError {
    /// An address or a size is not a multiple of the page size.
    Unaligned(VirtAddr),
    /// No frame for a table.
    NoMemory,
    /// Something is mapped there already.
    Occupied(VirtAddr),
    /// Nothing is mapped there.
    NotMapped(VirtAddr),
    /// A block covers the address and reaches beyond the range: a live block is never split,
    /// since a break in the middle of the kernel's own map could not be survived.
    InsideBlock(VirtAddr),
}

/// A run of addresses with one kind of mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// First byte.
    pub start: VirtAddr,
    /// Length in bytes.
    pub bytes: u64,
    /// Physical address of the first byte.
    pub physical: PhysAddr,
    /// Memory type and permission; `None` if the descriptor is none of ours.
    pub attributes: Option<Attributes>,
}

/// Bytes that one entry of a table of `level` covers.
pub const fn level_size(level: u8) -> u64 {
    1 << (PAGE_SHIFT + 9 * (3 - level as u32))
}

impl<'m, M: Hw + Tables + Frames> Mapper<'m, M> {
    /// A mapper over the tree at `root`.
    pub fn new(machine: &'m M, root: Frame) -> Self {
        Self { machine, root }
    }

    /// Maps `bytes` from `va` to physical memory from `pa`, with 2 MiB blocks where both
    /// addresses and the rest of the range allow. Publishes once at the end.
    ///
    /// # Errors
    /// [`MapError::Unaligned`], [`MapError::NoMemory`] or [`MapError::Occupied`].
    pub fn map(
        &self,
        va: VirtAddr,
        pa: PhysAddr,
        bytes: u64,
        attributes: Attributes,
    ) -> Result<(), MapError> {
        check_alignment(va, bytes)?;
        if !VirtAddr::new(pa.get()).is_page_aligned() {
            return Err(MapError::Unaligned(VirtAddr::new(pa.get())));
        }
        let mut done = 0;
        while done < bytes {
            let (va, pa) = (va.offset(done), pa.offset(done));
            let block =
                (va.get() | pa.get()).is_multiple_of(BLOCK_SIZE) && bytes - done >= BLOCK_SIZE;
            let (level, entry) = if block {
                (2, Pte::block(pa, attributes))
            } else {
                (3, Pte::page(Frame::containing(pa), attributes))
            };
            self.slot(va, level)?
                .try_set_unpublished(self.machine, va, entry)
                .map_err(|_| MapError::Occupied(va))?;
            done += level_size(level);
        }
        publish(self.machine);
        Ok(())
    }

    /// Makes the tables above level 3 for every page of a range, so that a later install in it
    /// needs no memory.
    ///
    /// # Errors
    /// [`MapError::NoMemory`], or [`MapError::Occupied`] where a block lies in the way.
    pub fn populate(&self, va: VirtAddr, bytes: u64) -> Result<(), MapError> {
        let mut at = va.get() & !(BLOCK_SIZE - 1);
        while at < va.get() + bytes {
            self.slot(VirtAddr::new(at), 3)?;
            at += BLOCK_SIZE;
        }
        publish(self.machine);
        Ok(())
    }

    /// Makes the tables above `level` for `va`, so that windows that begin in the same table of
    /// that level come and go without touching what is above it.
    ///
    /// # Errors
    /// As [`populate`](Self::populate).
    pub fn make_tables(&self, va: VirtAddr, level: u8) -> Result<(), MapError> {
        self.slot(va, level)?;
        publish(self.machine);
        Ok(())
    }

    /// Unmaps every page of a range: on return no CPU translates through the old entries. Pages
    /// of the range that were not mapped are passed over.
    ///
    /// # Errors
    /// [`MapError::Unaligned`] or [`MapError::InsideBlock`].
    pub fn unmap(
        &self,
        va: VirtAddr,
        bytes: u64,
        next: impl FnMut() -> Stamp,
    ) -> Result<(), MapError> {
        let mut next = next;
        self.for_each_entry(va, bytes, |at, left, found| {
            if found.last().is_valid() {
                check_whole(at, left, level_size(found.level))?;
                found.slot.clear(self.machine, at, next());
            }
            Ok(())
        })
    }

    /// Changes the permission and memory type of every page of a range, which must be mapped.
    /// Break-before-make, so no other CPU may use the range meanwhile.
    ///
    /// # Errors
    /// [`MapError::Unaligned`], [`MapError::NotMapped`] or [`MapError::InsideBlock`].
    pub fn protect(
        &self,
        va: VirtAddr,
        bytes: u64,
        attributes: Attributes,
        next: impl FnMut() -> Stamp,
    ) -> Result<(), MapError> {
        let mut next = next;
        self.for_each_entry(va, bytes, |at, left, found| {
            let frame = found.last().frame().ok_or(MapError::NotMapped(at))?;
            check_whole(at, left, level_size(found.level))?;
            let entry = match found.level {
                3 => Pte::page(frame, attributes),
                _ => Pte::block(frame.start(), attributes),
            };
            found.slot.replace(self.machine, at, entry, &mut next);
            Ok(())
        })
    }

    /// Calls `each` with every mapped region from `va` on, in address order; neighbours that
    /// continue each other in both address spaces with the same attributes are one region.
    pub fn dump(&self, va: VirtAddr, bytes: u64, mut each: impl FnMut(Region)) {
        let mut open: Option<Region> = None;
        let outcome = self.for_each_entry(va, bytes, |at, left, found| {
            let size = level_size(found.level);
            let length = (size - at.get() % size).min(left);
            let next = region(at, length, size, found.last());
            match (&mut open, next) {
                (Some(first), Some(next)) if first.continues(&next) => first.bytes += next.bytes,
                (open, next) => {
                    if let Some(finished) = core::mem::replace(open, next) {
                        each(finished);
                    }
                }
            }
            Ok(())
        });
        debug_assert!(outcome.is_ok(), "{va} +{bytes:#x} is not page-aligned");
        if let Some(finished) = open {
            each(finished);
        }
    }

    /// Calls `each` with every entry that decides about a part of a range, in address order: its
    /// first address in the range, the bytes of the range from there on, and the walk to it.
    fn for_each_entry(
        &self,
        va: VirtAddr,
        bytes: u64,
        mut each: impl FnMut(VirtAddr, u64, &Walk<'m>) -> Result<(), MapError>,
    ) -> Result<(), MapError> {
        check_alignment(va, bytes)?;
        let mut done = 0;
        while done < bytes {
            let at = va.offset(done);
            let found = walk(self.machine, self.root, at);
            each(at, bytes - done, &found)?;
            let size = level_size(found.level);
            done += size - at.get() % size;
        }
        Ok(())
    }

    /// The slot of `va` in a table of `level`, making the tables above it.
    fn slot(&self, va: VirtAddr, level: u8) -> Result<&'m PteSlot, MapError> {
        let mut table = self.root;
        for above in 0..level {
            table = self.next_table(self.machine.slot(table, va.table_index(above)), va)?;
        }
        Ok(self.machine.slot(table, va.table_index(level)))
    }

    fn next_table(&self, slot: &PteSlot, va: VirtAddr) -> Result<Frame, MapError> {
        let entry = slot.load(self.machine);
        match entry.state() {
            State::Valid => entry.next_table().ok_or(MapError::Occupied(va)),
            State::Empty | State::Tombstone(_) => {
                let frame = self.machine.alloc().ok_or(MapError::NoMemory)?;
                self.machine.zero(frame);
                slot.try_set_unpublished(self.machine, va, Pte::table(frame))
                    .map_err(|_| MapError::Occupied(va))?;
                Ok(frame)
            }
        }
    }
}

/// Ends a batch of burials of a tree's upper levels: everything that any CPU may have cached of
/// them, walk caches included, is dropped.
pub fn flush_all<M: Hw>(machine: &M) {
    machine.dsb_ishst();
    machine.tlbi_vmalle1is();
    finish_flush(machine);
}

impl Region {
    fn continues(&self, next: &Region) -> bool {
        self.start.offset(self.bytes) == next.start
            && self.physical.offset(self.bytes) == next.physical
            && self.attributes == next.attributes
    }
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unaligned(va) => write!(f, "{va} is not page-aligned"),
            Self::NoMemory => f.write_str("no frame for a translation table"),
            Self::Occupied(va) => write!(f, "{va} is mapped already"),
            Self::NotMapped(va) => write!(f, "{va} is not mapped"),
            Self::InsideBlock(va) => write!(f, "{va} lies in a block that reaches further"),
        }
    }
}

fn region(va: VirtAddr, bytes: u64, size: u64, entry: Pte) -> Option<Region> {
    let physical = entry.frame()?.start().offset(va.get() % size);
    Some(Region { start: va, bytes, physical, attributes: entry.attributes() })
}

fn check_alignment(va: VirtAddr, bytes: u64) -> Result<(), MapError> {
    if (va.get() | bytes).is_multiple_of(PAGE_SIZE) { Ok(()) } else { Err(MapError::Unaligned(va)) }
}

fn check_whole(va: VirtAddr, left: u64, size: u64) -> Result<(), MapError> {
    if va.get().is_multiple_of(size) && left >= size {
        Ok(())
    } else {
        Err(MapError::InsideBlock(va))
    }
}

#[cfg(test)]
mod test;

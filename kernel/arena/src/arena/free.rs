//! Taking pages back: clear, flush, then give the range and the frames away, in that order.

use core::fmt;

use super::{Arena, Inner};
use crate::addr::{PAGE_SIZE, PageRange, VirtAddr};
use crate::hw::{Hw, Lock, LockError, Platform, TABLE_SLOTS};
use crate::protocol::Protocol;
use crate::pte::{Pte, Stamp, State};
use crate::slot::{PteSlot, finish_flush};
use crate::step::step;
use crate::sync::Ordering;
use crate::walk::leaf_table;

/// Pages cleared under one set of barriers, and for one holding of the lock.
pub(super) const BATCH: u32 = 64;

/// When pages are free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Freed {
    /// They are.
    Now,
    /// When a worker has come by.
    Later,
}

/// Why nothing was freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FreeError {
    /// No pages, not the start of a page of the arena, or past its end.
    Range(VirtAddr, u32),
    /// The lock was not given.
    Lock(LockError),
}

impl<P: Protocol, M: Platform> Arena<P, M> {
    /// Unmaps `pages` pages from `at` and makes them free. Pages of the range that are free
    /// already are passed over; scratch is cleared and stays the arena's.
    ///
    /// Takes the arena's lock for at most 64 pages at a time. The range returns to the
    /// range tree, and frames to the allocator, only after the TLB maintenance (`T3`, `R1`; `T2`
    /// and `R2` with the order of Linux `arena_free_pages()`).
    ///
    /// # Errors
    /// [`FreeError`]. With [`FreeError::Lock`] a first part may have been freed: the whole call
    /// can be repeated.
    pub fn free(&self, at: VirtAddr, pages: u32) -> Result<(), FreeError> {
        let range = self.freeable(at, pages)?;
        self.free_range(range).map_err(|(error, _)| FreeError::Lock(error))
    }

    /// As [`free`](Self::free); what cannot be freed because the lock is not given is left to a worker,
    /// which the caller sees to. Answers to Linux `arena_free_pages()`.
    ///
    /// # Errors
    /// [`FreeError::Range`].
    pub fn free_or_defer(&self, at: VirtAddr, pages: u32) -> Result<Freed, FreeError> {
        let range = self.freeable(at, pages)?;
        if range.pages == 1 {
            self.free_one_or_defer(range)
        } else {
            self.free_several_or_defer(range)
        }
    }

    // Two functions: what the one saves on the stack for many pages, the other need not.
    #[inline(never)]
    fn free_one_or_defer(&self, range: PageRange) -> Result<Freed, FreeError> {
        Ok(self.freed_or_deferred(self.free_first(range, range)))
    }

    #[inline(never)]
    fn free_several_or_defer(&self, range: PageRange) -> Result<Freed, FreeError> {
        Ok(self.freed_or_deferred(self.free_batches(range)))
    }

    #[inline(always)]
    fn freed_or_deferred(&self, outcome: Result<(), (LockError, PageRange)>) -> Freed {
        let Err((_, rest)) = outcome else { return Freed::Now };
        P::defer(self, rest);
        Freed::Later
    }

    /// Leaves the free to a worker, which the caller sees to. Takes no lock, allocates nothing, does
    /// not wait: for contexts that must not, such as one on top of the lock.
    ///
    /// # Errors
    /// [`FreeError::Range`].
    pub fn defer(&self, at: VirtAddr, pages: u32) -> Result<(), FreeError> {
        P::defer(self, self.freeable(at, pages)?);
        Ok(())
    }

    fn freeable(&self, at: VirtAddr, pages: u32) -> Result<PageRange, FreeError> {
        let range = self
            .window
            .range(at, pages)
            .filter(|range| range.pages > 0 && range.end() <= u64::from(self.max_pages));
        range.ok_or(FreeError::Range(at, pages))
    }

    /// Frees `range`; if the lock is not given, says why and what is left.
    fn free_range(&self, range: PageRange) -> Result<(), (LockError, PageRange)> {
        if range.pages == 1 { self.free_first(range, range) } else { self.free_batches(range) }
    }

    /// Frees `batch`, the first part of `rest`.
    #[inline(always)]
    fn free_first(&self, batch: PageRange, rest: PageRange) -> Result<(), (LockError, PageRange)> {
        P::free_batch(self, batch).map_err(|error| {
            self.counters.lock_failures.fetch_add(1, Ordering::Relaxed);
            (error, rest)
        })
    }

    #[inline(always)]
    fn free_batches(&self, range: PageRange) -> Result<(), (LockError, PageRange)> {
        let mut rest = range;
        while rest.pages > 0 {
            let batch = first_batch(rest);
            self.free_first(batch, rest)?;
            rest = PageRange::new(rest.start + batch.pages, rest.pages - batch.pages);
        }
        Ok(())
    }

    /// Frees a batch of pages of one table, under one holding of the lock: clear, flush, then the
    /// range, then the frames.
    ///
    /// # Errors
    /// The lock's; nothing was freed.
    // A call less for the commonest free, of one page. Not where nothing is optimised: there each inlined
    // copy adds its locals to the caller's part of a stack of 32 KiB.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn free_flushed(&self, batch: PageRange) -> Result<(), LockError> {
        step!(&self.machine, LockAcquire, self.object());
        let mut inner = self.inner.lock(P::IRQS)?;
        let freed = self.unmap_batch(batch);
        self.deferred.forget(batch);
        self.give_back(&mut inner, batch, freed);
        step!(&self.machine, LockRelease, self.object());
        drop(inner);
        Ok(())
    }

    /// Unmaps every page of `range`, flushes, and frees the frames; returns how many there were.
    pub(super) fn unmap_pages(&self, range: PageRange) -> u32 {
        let mut rest = range;
        let mut freed = 0;
        while rest.pages > 0 {
            let batch = first_batch(rest);
            freed += self.unmap_batch(batch);
            rest = PageRange::new(rest.start + batch.pages, rest.pages - batch.pages);
        }
        freed
    }

    /// Returns `range` to the range tree, of which `freed` pages were mapped to frames of their own.
    /// Its flush is complete, unless a broken variant says otherwise.
    pub fn give_back(&self, inner: &mut Inner, range: PageRange, freed: u32) {
        step!(&self.machine, RangeCommit, self.object());
        // Saturating: a broken variant may free frames that were never counted.
        inner.mapped = inner.mapped.saturating_sub(freed);
        inner.ranges.set(range).expect("nodes for every free were reserved by the allocation");
    }

    /// [`unmap_pages`](Self::unmap_pages) for a range inside one table, of at most [`BATCH`].
    // The commonest case is one page, and what it costs is mostly calls and loops for more.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn unmap_batch(&self, range: PageRange) -> u32 {
        match range.pages {
            1 => self.unmap_sized::<1, 1, _>(&self.machine, range),
            _ => self.unmap_several(range),
        }
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    fn unmap_several(&self, range: PageRange) -> u32 {
        match self.machine.chosen() {
            Some(chosen) => self.unmap_several_on(chosen, range),
            None => self.unmap_several_on(&self.machine, range),
        }
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    fn unmap_several_on<H: Hw>(&self, hw: &H, range: PageRange) -> u32 {
        match range.pages {
            0 => 0,
            // A common size, whose loops need not be loops.
            8 => self.unmap_sized::<8, 8, H>(hw, range),
            1..8 => self.unmap_few(hw, range),
            _ => self.unmap_many(hw, range),
        }
    }

    // Room to remember the old entries of a full batch takes longer to empty than a page to free.
    #[inline(never)]
    fn unmap_few<H: Hw>(&self, hw: &H, range: PageRange) -> u32 {
        self.unmap_sized::<1, 8, H>(hw, range)
    }

    #[inline(never)]
    fn unmap_many<H: Hw>(&self, hw: &H, range: PageRange) -> u32 {
        self.unmap_sized::<1, { BATCH as usize }, H>(hw, range)
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    fn unmap_sized<const LEAST: usize, const MOST: usize, H: Hw>(
        &self,
        hw: &H,
        range: PageRange,
    ) -> u32 {
        let machine = &self.machine;
        let pages = if LEAST == MOST { MOST } else { range.pages as usize };
        let first = self.window.page(range.start);
        let Some(table) = leaf_table(machine, self.root, first) else { return 0 };
        let slots = &machine.slots(table)[first.table_index(3)..][..pages];
        let stamp = self.stamp();
        let mut old = [Pte::EMPTY; MOST];
        let old = &mut old[..pages];
        let mut all = Pte::from_bits(u64::MAX);
        for (slot, old) in slots.iter().zip(&mut *old) {
            // An empty slot has no translation to clear. If a fault fills it right after this
            // look, it holds scratch when the range is free, as after any later fault.
            if slot.load(hw).state() != State::Empty {
                *old = slot.bury(hw, stamp).old;
            }
            all = Pte::from_bits(all.bits() & old.bits());
        }
        // Valid if each of them is: what a free mostly finds, and what then needs no second look.
        if all.is_valid() {
            return self.finish_batch::<true, MOST, H>(hw, range, slots, old, stamp);
        }
        if old.iter().all(|old| old.state() == State::Empty) {
            return 0;
        }
        self.finish_mixed(hw, range, slots, old, stamp)
    }

    #[cold]
    #[inline(never)]
    fn finish_mixed<H: Hw>(
        &self,
        hw: &H,
        range: PageRange,
        slots: &[PteSlot],
        old: &[Pte],
        stamp: Stamp,
    ) -> u32 {
        self.finish_batch::<false, { BATCH as usize }, H>(hw, range, slots, old, stamp)
    }

    /// What follows the burials of a batch: the flush, then the ends of the tombstones, then the frames.
    /// `ALL` if every old entry was valid.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn finish_batch<const ALL: bool, const MOST: usize, H: Hw>(
        &self,
        hw: &H,
        range: PageRange,
        slots: &[PteSlot],
        old: &[Pte],
        stamp: Stamp,
    ) -> u32 {
        let machine = &self.machine;
        // The same stamp: it is compared with others of its own slot.
        let user = if P::UNMAPS_USER { self.bury_user(range, stamp) } else { 0 };
        let first = self.window.page(range.start);
        let pages = (0..).map(|n| first.offset(n * PAGE_SIZE)).zip(old);
        // A tombstone counts: its burier may not have flushed yet, and the range is about to be given
        // away.
        let buried = pages.filter(|(_, old)| ALL || old.state() != State::Empty);
        self.flush_batch(first, buried.map(|(page, _)| page), user);
        self.retire_user(range, stamp, user);
        let shared = P::shared_frame(self);
        let mut freed = old.len() as u32;
        let frames = slots.iter().zip(old).filter_map(|(slot, old)| {
            if ALL || old.state() != State::Empty {
                slot.retire(hw, stamp);
            }
            let frame = if ALL { Some(old.output_frame()) } else { old.frame() };
            if frame.is_none() || frame == shared {
                freed -= 1;
                return None;
            }
            step!(machine, FrameFree, 0);
            frame
        });
        if MOST == 1 {
            frames.for_each(|frame| machine.free(frame));
        } else {
            machine.free_all(frames);
        }
        freed
    }

    /// One flush for the `pages` of a batch that begins at `first`. `user` has a bit for each page of
    /// the batch whose user entry was cleared as well.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn flush_batch(&self, first: VirtAddr, pages: impl Iterator<Item = VirtAddr>, user: u64) {
        let machine = &self.machine;
        step!(machine, Tlbi, first.get());
        // As in `slot::flush`: the clears complete before the TLBIs (`R3e`).
        machine.dsb_ishst();
        pages.for_each(|page| machine.tlbi_vaale1is(page));
        // For every ASID at once: tasks share the entry.
        let mut rest = user;
        while rest != 0 {
            let page = first.offset(u64::from(rest.trailing_zeros()) * PAGE_SIZE);
            machine.tlbi_vaale1is(self.window.to_user(page));
            rest &= rest - 1;
        }
        finish_flush(machine);
    }
}

/// The longest part of `range` from its start that lies in one table and fits a batch.
fn first_batch(range: PageRange) -> PageRange {
    // A window begins on a 1 GiB boundary, so page indices and table indices share a phase.
    let table = TABLE_SLOTS as u32;
    let left_in_table = table - range.start % table;
    PageRange::new(range.start, range.pages.min(BATCH).min(left_in_table))
}

impl fmt::Display for FreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(at, pages) => write!(f, "{pages} pages from {at} are not the arena's"),
            Self::Lock(error) => error.fmt(f),
        }
    }
}

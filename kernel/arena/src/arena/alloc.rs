//! Giving out pages: alloc and reserve, under the arena's lock.

use core::fmt;

use super::{Arena, Inner};
use crate::addr::{PageRange, VirtAddr};
use crate::hw::{Lock, LockError, Platform};
use crate::protocol::Protocol;
use crate::pte::{Attributes, Pte};
use crate::range::RangeError;
use crate::slot::publish;
use crate::step::step;
use crate::sync::Ordering;

/// Why no page was given out. Nothing is left changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AllocError {
    /// Zero pages, or more than the arena has.
    PageCount(u32),
    /// Not the start of a page of the arena, or the pages would run past its end.
    Address(VirtAddr),
    /// Some of the pages asked for are in use.
    InUse,
    /// No free range is large enough.
    NoRange,
    /// Frames, or memory for bookkeeping, are exhausted.
    NoMemory,
    /// The lock was not given.
    Lock(LockError),
    /// A page that the range tree calls free is mapped: bookkeeping is broken, or the protocol
    /// cannot replace scratch.
    Mapped(VirtAddr, Pte),
}

impl<P: Protocol, M: Platform> Arena<P, M> {
    /// Maps `pages` zeroed pages, at `at` or wherever they fit best, and returns their address.
    ///
    /// Takes the arena's lock, with IRQs as [`Protocol::IRQS`] says, and holds it while frames are
    /// allocated; a tracepoint program may run and fault under it. Published on return.
    /// Answers to Linux `arena_alloc_pages()`.
    ///
    /// # Errors
    /// [`AllocError`]; a batch that fails half-way is undone.
    pub fn alloc(&self, at: Option<VirtAddr>, pages: u32) -> Result<VirtAddr, AllocError> {
        let wanted = self.wanted(at, pages)?;
        let mut inner = self.locked()?;
        let range = self.take_range(&mut inner, wanted, pages)?;
        if let Err((error, mapped)) = self.map_new(range) {
            // A wild access may have used the pages already: flush before the frames go back.
            self.unmap_pages(PageRange::new(range.start, mapped));
            self.give_back(&mut inner, range, 0);
            return Err(error);
        }
        inner.mapped += pages;
        inner.peak = inner.peak.max(inner.mapped);
        step!(&self.machine, LockRelease, self.object());
        drop(inner);
        Ok(self.window.page(range.start))
    }

    /// Takes the pages from `at` out of those that may be given out, without mapping them.
    /// Takes the arena's lock. Answers to Linux `arena_reserve_pages()`.
    ///
    /// # Errors
    /// [`AllocError`]; [`AllocError::InUse`] if any of them is allocated or reserved already.
    pub fn reserve(&self, at: VirtAddr, pages: u32) -> Result<(), AllocError> {
        let wanted = self.wanted(Some(at), pages)?;
        let mut inner = self.locked()?;
        self.take_range(&mut inner, wanted, pages).map(drop)
    }

    fn wanted(&self, at: Option<VirtAddr>, pages: u32) -> Result<Option<PageRange>, AllocError> {
        if pages == 0 || pages > self.max_pages {
            return Err(AllocError::PageCount(pages));
        }
        let Some(at) = at else { return Ok(None) };
        match self.window.range(at, pages) {
            Some(range) if range.end() <= u64::from(self.max_pages) => Ok(Some(range)),
            _ => Err(AllocError::Address(at)),
        }
    }

    fn locked(&self) -> Result<<M::Lock<Inner> as Lock<Inner>>::Guard<'_>, AllocError> {
        step!(&self.machine, LockAcquire, self.object());
        P::lock(self).map_err(|error| {
            self.counters.lock_failures.fetch_add(1, Ordering::Relaxed);
            AllocError::Lock(error)
        })
    }

    fn take_range(
        &self,
        inner: &mut Inner,
        wanted: Option<PageRange>,
        pages: u32,
    ) -> Result<PageRange, AllocError> {
        let nodes = self.nodes_needed(inner, pages);
        if inner.ranges.node_capacity() < nodes {
            // First the look: memory is not taken for what cannot be had.
            match wanted {
                None if inner.ranges.largest() < pages => return Err(AllocError::NoRange),
                Some(range) if !inner.ranges.contains(range) => return Err(AllocError::InUse),
                _ => inner.ranges.reserve_nodes(nodes)?,
            }
        }
        step!(&self.machine, RangeCommit, self.object());
        match wanted {
            None => {
                let start = inner.ranges.take(pages).ok_or(AllocError::NoRange)?;
                Ok(PageRange::new(start, pages))
            }
            Some(range) if inner.ranges.take_at(range)? => Ok(range),
            Some(_) => Err(AllocError::InUse),
        }
    }

    /// How many ranges the tree may ever hold if `pages` more are taken and all are freed one by
    /// one in the worst order. Memory for them is taken here, so that a free never needs any:
    /// between two free ranges lies at least one used page, and at most every other page is free.
    pub(super) fn nodes_needed(&self, inner: &Inner, pages: u32) -> usize {
        let used = self.max_pages - inner.ranges.free_pages() + pages;
        (used + 1).min(self.max_pages.div_ceil(2)) as usize
    }

    /// Maps fresh zeroed frames over a range that this caller took.
    fn map_new(&self, range: PageRange) -> Result<(), (AllocError, u32)> {
        let outcome =
            (0..range.pages).try_for_each(|n| self.map_one(range.start + n).map_err(|e| (e, n)));
        publish(&self.machine);
        outcome
    }

    fn map_one(&self, index: u32) -> Result<(), AllocError> {
        let page = self.window.page(index);
        let slot = self.slot(page).ok_or(AllocError::Address(page))?;
        step!(&self.machine, FrameAlloc, 0);
        let frame = self.machine.alloc().ok_or(AllocError::NoMemory)?;
        step!(&self.machine, FrameZero, frame.start().get());
        self.machine.zero(frame);
        let new = Pte::page(frame, Attributes::KERNEL_DATA);
        P::install(self, slot, page, new).map_err(|found| {
            // Never mapped, so no TLB knows it.
            self.machine.free(frame);
            AllocError::Mapped(page, found)
        })
    }
}

impl From<RangeError> for AllocError {
    fn from(_: RangeError) -> Self {
        Self::NoMemory
    }
}

impl fmt::Display for AllocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PageCount(pages) => write!(f, "{pages} pages cannot be asked for"),
            Self::Address(at) => write!(f, "{at} does not start such a range of the arena"),
            Self::InUse => f.write_str("some of the pages are in use"),
            Self::NoRange => f.write_str("no free range is large enough"),
            Self::NoMemory => f.write_str("out of memory"),
            Self::Lock(error) => error.fmt(f),
            Self::Mapped(page, found) => write!(f, "free page {page} is mapped: {found}"),
        }
    }
}

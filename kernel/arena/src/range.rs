//! The free page ranges of one arena: best fit, merge on free, split on use.
//!
//! A set of page indices, kept as maximal runs: no two runs overlap or touch. Each run is one node,
//! hung in two balanced trees, by start and by (length, start), so that every operation costs
//! O(log n) of the number of runs in the worst case, and as much again for each run that it
//! swallows, whatever the program that drives the arena does. Nothing is random and nothing depends on addresses: equal calls give equal trees.
//!
//! What it answers to: Linux `kernel/bpf/range_tree.c` (`range_tree_set`, `_clear`, `_find`,
//! `is_range_tree_set`). Three differences are deliberate. An error leaves the tree as it was
//! (Linux's clear cuts the run before it allocates the tail, and loses the tail). Ties in size go
//! to the lowest address. A change that leaves a run at its place in the order by size writes the
//! node and touches neither tree, where Linux takes it out and puts it back.
//!
//! Page indices run from 0 to `u32::MAX - 1`, so that the length of any run fits a `u32`.
//!
//! # Memory
//! Nodes live in page-sized chunks that are never moved and never given back before the tree is
//! dropped. Only [`RangeTree::set`], [`RangeTree::clear`] and [`RangeTree::reserve_nodes`]
//! allocate, at most one chunk for each call of the first two.
//!
//! **A free that cannot fail.** Between two free runs lies at least one used page, so `used` used
//! pages leave at most `used + 1` runs, and never more than half the pages of the arena, rounded
//! up. An arena that calls `reserve_nodes(min(used + n + 1, pages.div_ceil(2)))` before it takes
//! `n` pages keeps [`RangeTree::node_capacity`] above that bound; then neither the `clear` of that
//! allocation nor any later `set` allocates or fails.

use crate::addr::PageRange;

use self::pool::{Id, Pool};
use self::tree::{BySize, ByStart, Order, Tree};

#[cfg(test)]
mod model;
mod pool;
#[cfg(test)]
mod tests;
mod tree;

/// The free ranges. Needs exclusive access: it lives inside the arena's lock.
#[derive(Default)]
pub struct RangeTree {
    pool: Pool,
    starts: Tree<ByStart>,
    sizes: Tree<BySize>,
    free_pages: u32,
}

/// Why a range could not be marked. The tree is as it was before the call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RangeError {
    /// No node for one more run, and no memory for more nodes.
    NoMemory,
    /// The range reaches page `u32::MAX` or beyond.
    OutOfBounds(PageRange),
}

impl RangeTree {
    /// A tree in which no page is free. Allocates nothing.
    pub const fn new() -> Self {
        Self { pool: Pool::new(), starts: Tree::new(), sizes: Tree::new(), free_pages: 0 }
    }

    /// Makes room for `total` runs in all, so that no call needs memory while there are no more.
    ///
    /// # Errors
    /// [`RangeError::NoMemory`]; nodes gained on the way are given back.
    pub fn reserve_nodes(&mut self, total: usize) -> Result<(), RangeError> {
        self.pool.reserve(total)
    }

    /// Where the count of free pages is kept, for debuggers.
    pub fn free_pages_word(&self) -> &u32 {
        &self.free_pages
    }

    /// Number of runs that the tree can hold without allocating.
    pub fn node_capacity(&self) -> usize {
        self.pool.capacity()
    }

    /// Marks `range` free, whatever part of it is free already, and merges it with the free runs
    /// that it overlaps or touches. An empty range changes nothing.
    ///
    /// # Errors
    /// [`RangeError`]; nothing has changed. Only a range without a free neighbour needs a node.
    pub fn set(&mut self, range: PageRange) -> Result<(), RangeError> {
        let (start, end) = bounds(range)?;
        let (left, right) = self.starts.bracket(&self.pool, start.into());
        let before = self.pool.get(left).copied().filter(|&run| end_of(run) >= start);
        let after = self.pool.get(right).copied().filter(|&run| run.start <= end);
        match (before, after) {
            _ if start == end => {}
            (Some(before), _) if end_of(before) >= end => {}
            (Some(before), None) => {
                self.grow(left, PageRange::new(before.start, end - before.start));
            }
            (None, Some(after)) if end_of(after) >= end => {
                self.grow(right, PageRange::new(start, end_of(after) - start));
            }
            (Some(before), Some(_)) => self.merge(left, before.start, end),
            (None, Some(_)) => self.merge(right, start, end),
            (None, None) => return self.add(range),
        }
        Ok(())
    }

    /// Marks `range` used, whatever part of it is used already. An empty range changes nothing.
    ///
    /// # Errors
    /// [`RangeError`]; nothing has changed. Only cutting a run in two needs a node.
    pub fn clear(&mut self, range: PageRange) -> Result<(), RangeError> {
        let (start, end) = bounds(range)?;
        let left = self.starts.floor(&self.pool, start.into());
        match self.pool.get(left) {
            _ if start == end => Ok(()),
            Some(run) if run.start == start && end_of(*run) > end => {
                self.shrink(left, PageRange::new(end, end_of(*run) - end));
                Ok(())
            }
            _ => self.cut(left, start, end),
        }
    }

    /// Takes `pages` pages from the front of the smallest run that holds them, the one at the
    /// lowest address if several are equal: `find` and `clear` in one descent. Needs no memory.
    /// `None` if no run is long enough or `pages` is 0.
    pub fn take(&mut self, pages: u32) -> Option<u32> {
        if pages == 0 {
            return None;
        }
        let (smaller, best) = self.sizes.bracket(&self.pool, BySize::least(pages));
        let PageRange { start, pages: length } = *self.pool.get(best)?;
        if length == pages {
            self.remove(best);
            return Some(start);
        }
        // `smaller` is the neighbour below `best`: every run is either shorter than `pages` or no
        // smaller than `best`. While `best` stays above it, the order by size holds as it is.
        let rest = PageRange::new(start + pages, length - pages);
        let below = self.pool.get(smaller).map_or(0, |&run| BySize::key(run));
        self.change(best, rest, BySize::key(rest) > below);
        Some(start)
    }

    /// Marks `range` used if every page of it is free, and says whether: `contains` and `clear` in one
    /// descent. An empty range is, and changes nothing.
    ///
    /// # Errors
    /// [`RangeError::NoMemory`]; nothing has changed. Only cutting a run in two needs a node.
    pub fn take_at(&mut self, range: PageRange) -> Result<bool, RangeError> {
        if range.pages == 0 {
            return Ok(true);
        }
        let left = self.starts.floor(&self.pool, range.start.into());
        let run = match self.pool.get(left) {
            Some(&run) if u64::from(end_of(run)) >= range.end() => run,
            _ => return Ok(false),
        };
        // It ends within the run, whose end is a `u32`.
        let (start, end) = (range.start, range.start + range.pages);
        let before = PageRange::new(run.start, start - run.start);
        let after = PageRange::new(end, end_of(run) - end);
        match (before.pages, after.pages) {
            (0, 0) => self.remove(left),
            (0, _) => self.shrink(left, after),
            (_, 0) => self.shrink(left, before),
            (_, _) => self.split(left, before, after)?,
        }
        Ok(true)
    }

    /// First page of the smallest run of at least `pages` pages, the one at the lowest address if
    /// several are equal. `None` if there is none or `pages` is 0. Changes nothing.
    pub fn find(&self, pages: u32) -> Option<u32> {
        if pages == 0 {
            return None;
        }
        let best = self.sizes.ceiling(&self.pool, BySize::least(pages));
        self.pool.get(best).map(|range| range.start)
    }

    /// Whether every page of `range` is free. True of an empty range.
    pub fn contains(&self, range: PageRange) -> bool {
        let left = self.starts.floor(&self.pool, range.start.into());
        range.pages == 0 || self.end_of(left).is_some_and(|end| u64::from(end) >= range.end())
    }

    /// Whether any page of `range` is free. False of an empty range.
    pub fn intersects(&self, range: PageRange) -> bool {
        if range.pages == 0 {
            return false;
        }
        let last = self.starts.floor(&self.pool, range.end() - 1);
        self.end_of(last).is_some_and(|end| end > range.start)
    }

    /// Number of free pages.
    pub fn free_pages(&self) -> u32 {
        self.free_pages
    }

    /// Number of free runs.
    pub fn len(&self) -> usize {
        self.pool.live()
    }

    /// Whether no page is free.
    pub fn is_empty(&self) -> bool {
        self.free_pages == 0
    }

    /// Length of the longest run in pages; 0 if no page is free.
    pub fn largest(&self) -> u32 {
        let last = self.sizes.floor(&self.pool, u64::MAX);
        self.pool.get(last).map_or(0, |range| range.pages)
    }

    /// The free runs by ascending address, for dumps and checks: O(log n) a run.
    pub fn ranges(&self) -> impl Iterator<Item = PageRange> {
        let mut from = 0;
        core::iter::from_fn(move || {
            let next = self.starts.ceiling(&self.pool, from);
            let range = *self.pool.get(next)?;
            from = range.end();
            Some(range)
        })
    }

    // The cold functions are kept out of their callers, whose common paths then save few registers.

    /// Makes `keep` cover `start..end` and every other run that begins in it or at its end, to
    /// the last page of the last of them.
    #[cold]
    fn merge(&mut self, keep: Id, start: u32, end: u32) {
        let after = self.pool[keep].end();
        let mut end = end.max(end_of(self.pool[keep]));
        loop {
            let next = self.starts.ceiling(&self.pool, after);
            match self.pool.get(next) {
                Some(&run) if run.start <= end => {
                    end = end.max(end_of(run));
                    self.remove(next);
                }
                _ => return self.grow(keep, PageRange::new(start, end - start)),
            }
        }
    }

    /// Marks `start..end` used; `left` is the last run that begins at or before `start`.
    #[cold]
    fn cut(&mut self, left: Id, start: u32, end: u32) -> Result<(), RangeError> {
        if let Some(&run) = self.pool.get(left)
            && run.start < start
            && end_of(run) > start
        {
            let before = PageRange::new(run.start, start - run.start);
            if end_of(run) > end {
                return self.split(left, before, PageRange::new(end, end_of(run) - end));
            }
            self.shrink(left, before);
        }
        loop {
            let next = self.starts.ceiling(&self.pool, start.into());
            match self.pool.get(next) {
                Some(&run) if run.start < end && end_of(run) > end => {
                    self.shrink(next, PageRange::new(end, end_of(run) - end));
                    return Ok(());
                }
                Some(&run) if run.start < end => {
                    self.remove(next);
                    if end_of(run) == end {
                        return Ok(());
                    }
                }
                _ => return Ok(()),
            }
        }
    }

    /// Gives a run longer bounds that keep it between its neighbours by start. In the order by
    /// size it stays where it is unless another run lies between its old key and its new one.
    fn grow(&mut self, id: Id, to: PageRange) {
        // One run alone is in order whatever its size.
        let stays = self.pool.live() == 1 || self.sizes.floor(&self.pool, BySize::key(to)) == id;
        self.change(id, to, stays);
    }

    /// As [`Self::grow`], with shorter bounds.
    fn shrink(&mut self, id: Id, to: PageRange) {
        let stays = self.pool.live() == 1 || self.sizes.ceiling(&self.pool, BySize::key(to)) == id;
        self.change(id, to, stays);
    }

    fn change(&mut self, id: Id, to: PageRange, stays: bool) {
        let run = &mut self.pool[id];
        self.free_pages = self.free_pages - run.pages + to.pages;
        if stays {
            *run = to;
        } else {
            self.rehang(id, to);
        }
    }

    #[cold]
    fn rehang(&mut self, id: Id, to: PageRange) {
        self.sizes.remove(&mut self.pool, id);
        self.pool[id] = to;
        self.sizes.insert(&mut self.pool, id);
    }

    /// Makes one run two. The node comes first: without one nothing must have changed. The cut
    /// comes before the new run, or the count of free pages could pass `u32::MAX` in between.
    #[cold]
    fn split(&mut self, id: Id, before: PageRange, after: PageRange) -> Result<(), RangeError> {
        let tail = self.pool.take(after)?;
        self.shrink(id, before);
        self.hang(tail);
        Ok(())
    }

    #[cold]
    fn add(&mut self, run: PageRange) -> Result<(), RangeError> {
        let id = self.pool.take(run)?;
        self.hang(id);
        Ok(())
    }

    fn hang(&mut self, id: Id) {
        self.starts.insert(&mut self.pool, id);
        self.sizes.insert(&mut self.pool, id);
        self.free_pages += self.pool[id].pages;
    }

    fn remove(&mut self, id: Id) {
        self.free_pages -= self.pool[id].pages;
        self.starts.remove(&mut self.pool, id);
        self.sizes.remove(&mut self.pool, id);
        self.pool.give(id);
    }

    fn end_of(&self, id: Id) -> Option<u32> {
        self.pool.get(id).map(|range| end_of(*range))
    }
}

/// First page and one past the last, both within `u32`.
fn bounds(range: PageRange) -> Result<(u32, u32), RangeError> {
    match range.start.checked_add(range.pages) {
        Some(end) => Ok((range.start, end)),
        None => Err(RangeError::OutOfBounds(range)),
    }
}

/// One past the last page of a run in the tree, which [`bounds`] has let in.
fn end_of(run: PageRange) -> u32 {
    run.start + run.pages
}

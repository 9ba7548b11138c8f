//! Frees that wait: from a context that may not take the arena's lock, pages are only noted as to be
//! freed, and a worker frees them later.
//!
//! The note is a bit a page. Setting it takes no lock, no memory and no waiting, cannot fail, and a
//! page that is noted twice is freed once. Until its free the page stays mapped and out of the range
//! tree, so nobody can be given it.
//!
//! Answers to the list of spans and the worker of Linux `arena_free_pages()`; there a span is allocated
//! for each deferred free.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{Arena, CreateError};
use crate::addr::PageRange;
use crate::hw::{LockError, Platform};
use crate::protocol::Protocol;
use crate::step::step;
use crate::sync::{AtomicU64, Ordering};

/// Pages of one word of notes. A word's pages lie in one table and are one batch of a free.
const WORD: u32 = u64::BITS;

/// The pages that wait to be freed.
pub(super) struct Deferred {
    /// A bit a page.
    pages: Box<[AtomicU64]>,
    /// A bit for each of those words; set where one may be set there.
    words: Box<[AtomicU64]>,
}

impl Deferred {
    /// Notes for `max_pages` pages, none of them set.
    pub fn new(max_pages: u32) -> Result<Self, CreateError> {
        let pages = max_pages.div_ceil(WORD);
        Ok(Self { pages: zeroes(pages)?, words: zeroes(pages.div_ceil(WORD))? })
    }

    /// Notes `range`. Lock-free; any context.
    fn put(&self, range: PageRange) {
        let mut rest = range;
        while rest.pages > 0 {
            let (word, bit) = (rest.start / WORD, rest.start % WORD);
            let count = rest.pages.min(WORD - bit);
            let bits = (u64::MAX >> (WORD - count)) << bit;
            // Release, twice: the worker that takes the note comes behind what was done with the
            // pages, and one that sees the summary sees the note.
            self.pages[word as usize].fetch_or(bits, Ordering::Release);
            let summary = &self.words[(word / WORD) as usize];
            summary.fetch_or(1 << (word % WORD), Ordering::Release);
            rest = PageRange::new(rest.start + count, rest.pages - count);
        }
    }

    /// Takes the notes of one word of pages, if any are set: the pages are the caller's to free.
    fn take(&self) -> Option<(u32, u64)> {
        for (n, summary) in self.words.iter().enumerate() {
            while let bits @ 1.. = summary.load(Ordering::Relaxed) {
                let word = n as u32 * WORD + bits.trailing_zeros();
                // The summary first: a note that comes in between sets it again. Acquire: see `put`.
                summary.fetch_and(!(1 << (word % WORD)), Ordering::Acquire);
                let pages = self.pages[word as usize].swap(0, Ordering::Acquire);
                if pages != 0 {
                    return Some((word * WORD, pages));
                }
            }
        }
        None
    }

    /// Whether a page may be noted.
    fn any(&self) -> bool {
        self.words.iter().any(|word| word.load(Ordering::Relaxed) != 0)
    }

    /// Takes the notes of `range`, a batch of one table, back: it was freed otherwise.
    #[inline(always)]
    pub fn forget(&self, range: PageRange) {
        // A look first: nothing is noted nearly always. A table's pages share a word of the summary. A
        // note that is being made, or taken, meanwhile is a second free of the page beside this one.
        let summary = self.words.get((range.start / (WORD * WORD)) as usize);
        if summary.is_some_and(|noted| noted.load(Ordering::Relaxed) != 0) {
            self.forget_noted(range);
        }
    }

    fn forget_noted(&self, range: PageRange) {
        // A batch is at most 64 pages, but may lie across two words.
        let mut at = range.start;
        while u64::from(at) < range.end() {
            let bit = at % WORD;
            let count = (range.end() as u32 - at).min(WORD - bit);
            let bits = (u64::MAX >> (WORD - count)) << bit;
            let word = &self.pages[(at / WORD) as usize];
            word.fetch_and(!bits, Ordering::Relaxed);
            at += count;
        }
    }
}

impl<P: Protocol, M: Platform> Arena<P, M> {
    /// Notes pages to be freed by [`work`](Self::work). Lock-free, allocates nothing, cannot fail; any
    /// context. The range lies in the arena.
    pub fn note_deferred(&self, range: PageRange) {
        step!(&self.machine, Defer, self.object());
        self.deferred.put(range);
        // Relaxed: a statistic.
        self.counters.deferred_pages.fetch_add(u64::from(range.pages), Ordering::Relaxed);
    }

    /// Frees all pages that were noted; returns how many. Takes the arena's lock for each word of
    /// notes. For a worker: any context that may wait for the lock.
    ///
    /// # Errors
    /// The lock's: the pages are still noted.
    pub fn work(&self) -> Result<u32, LockError> {
        let mut freed = 0;
        loop {
            step!(&self.machine, Defer, self.object());
            let Some((start, pages)) = self.deferred.take() else { return Ok(freed) };
            let mut rest = pages;
            while rest != 0 {
                let first = rest.trailing_zeros();
                let count = (rest >> first).trailing_ones();
                let range = PageRange::new(start + first, count);
                if let Err(error) = P::free_batch(self, range) {
                    runs(start, rest).for_each(|range| P::defer(self, range));
                    return Err(error);
                }
                rest &= !((u64::MAX >> (WORD - count)) << first);
                freed += count;
            }
        }
    }

    /// Whether pages wait for [`work`](Self::work).
    pub fn has_deferred(&self) -> bool {
        self.deferred.any()
    }
}

/// The runs of set bits in a word of notes whose first page is `start`.
fn runs(start: u32, mut bits: u64) -> impl Iterator<Item = PageRange> {
    core::iter::from_fn(move || {
        let first = (bits != 0).then(|| bits.trailing_zeros())?;
        let count = (bits >> first).trailing_ones();
        bits &= !((u64::MAX >> (WORD - count)) << first);
        Some(PageRange::new(start + first, count))
    })
}

fn zeroes(words: u32) -> Result<Box<[AtomicU64]>, CreateError> {
    let mut all = Vec::new();
    all.try_reserve_exact(words as usize).map_err(|_| CreateError::NoMemory)?;
    all.resize_with(words as usize, || AtomicU64::new(0));
    Ok(all.into_boxed_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(deferred: &Deferred) -> Vec<PageRange> {
        let words = core::iter::from_fn(|| deferred.take());
        words.flat_map(|(start, bits)| runs(start, bits)).collect()
    }

    #[test]
    fn what_is_noted_is_taken_once() {
        let deferred = Deferred::new(10_000).unwrap();
        let ranges = [(0, 1), (62, 4), (200, 64), (9_999, 1)].map(|(s, n)| PageRange::new(s, n));
        for range in ranges {
            deferred.put(range);
        }
        deferred.put(PageRange::new(63, 1));
        assert!(deferred.any());
        let pages = |ranges: &[PageRange]| {
            let each = ranges.iter().flat_map(|r| (r.start..).take(r.pages as usize));
            each.collect::<Vec<u32>>()
        };
        assert_eq!(pages(&taken(&deferred)), pages(&ranges));
        assert!(!deferred.any() && taken(&deferred).is_empty());
    }

    #[test]
    fn what_was_freed_otherwise_is_forgotten() {
        let deferred = Deferred::new(256).unwrap();
        deferred.put(PageRange::new(60, 70));
        deferred.forget(PageRange::new(62, 64));
        let left = [(60, 2), (126, 2), (128, 2)].map(|(start, n)| PageRange::new(start, n));
        assert_eq!(taken(&deferred), left);
        // Beyond the first word of the summary.
        let far = Deferred::new(10_000).unwrap();
        far.put(PageRange::new(5000, 2));
        far.forget(PageRange::new(5001, 1));
        assert_eq!(taken(&far), [PageRange::new(5000, 1)]);
    }

    #[test]
    fn a_note_beside_a_worker_is_not_lost() {
        let deferred = Deferred::new(64).unwrap();
        deferred.put(PageRange::new(1, 1));
        // The worker has cleared the summary and not yet taken the word when page 2 is noted.
        deferred.words[0].store(0, Ordering::Relaxed);
        deferred.put(PageRange::new(2, 1));
        assert_eq!(taken(&deferred), [PageRange::new(1, 2)]);
    }
}

//! The ring itself: words, positions, and who may touch which.
//!
//! Positions count words for ever and never wrap; the word of a position is `position % words`.
//! Words from `tail` to `head` belong to records, each to the producer that reserved it until its
//! header is non-zero, then to the reader. All others are zero and belong to nobody.
//!
//! 1. A producer takes words by moving `head`, fills all but the first, then stores the header
//!    into the first: that publishes the record.
//! 2. The reader takes the record at `tail` if its header is non-zero, copies it, zeroes its words,
//!    then moves `tail`: that gives the words back.
//!
//! A header is never zero and no word outside a record is anything else, so the reader needs no
//! `head`, and a record that is not finished looks like one that is not there.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::sync::{AtomicBool, AtomicU64, Ordering};

use super::record::{self, Record};

/// Times a producer tries to move `head` against others before it gives its record up. Each
/// failure means that another producer got through, so only the unluckiest of many meets this.
/// A model checker follows every attempt, and learns nothing new from the fourth.
const ATTEMPTS: u32 = if cfg!(loom) { 3 } else { 64 };

pub(super) struct Ring {
    words: Box<[AtomicU64]>,
    /// Words reserved since the beginning.
    head: AtomicU64,
    /// Words given back since the beginning. Written by the reader only.
    tail: AtomicU64,
    reading: AtomicBool,
}

/// Words that one producer owns until it publishes them. Left unpublished they stop the reader
/// for ever, though no other producer before the ring is full.
#[must_use]
pub(super) struct Slot<'a> {
    ring: &'a Ring,
    first: usize,
    words: usize,
}

/// The right to read a stream. An iterator that may end now and go on later: `None` means that
/// nothing is finished at the moment.
pub struct Reader<'a> {
    ring: &'a Ring,
}

impl Ring {
    pub(super) fn with_words(count: usize) -> Option<Self> {
        let mut words = Vec::new();
        words.try_reserve_exact(count).ok()?;
        words.extend((0..count).map(|_| AtomicU64::new(0)));
        Some(Self {
            words: words.into_boxed_slice(),
            head: AtomicU64::new(0),
            tail: AtomicU64::new(0),
            reading: AtomicBool::new(false),
        })
    }

    pub(super) fn words(&self) -> usize {
        self.words.len()
    }

    /// Words, head and tail, for debuggers.
    pub(super) fn parts(&self) -> (&[AtomicU64], &AtomicU64, &AtomicU64) {
        (&self.words, &self.head, &self.tail)
    }

    /// Takes `count` words, at least one; `None` if they do not fit. Bounded, from any context.
    pub(super) fn reserve(&self, count: usize) -> Option<Slot<'_>> {
        let capacity = self.words.len() as u64;
        for _ in 0..ATTEMPTS {
            // Acquire, with Release below: whoever sees a head also sees the tail against which it
            // was granted, so that `used` is never more than the capacity. Relaxed, an old tail
            // beside a new head makes a ring with room look full, and a record is lost for nothing.
            let head = self.head.load(Ordering::Acquire);
            // Acquire, with the reader's Release: its last reads of these words and its zeroes are
            // over before this producer writes there. Relaxed, the reader copies words of the next
            // record (shape LB), or its zeroes land on top of them (shape S).
            let tail = self.tail.load(Ordering::Acquire);
            // `tail` may have passed a `head` read before it: try again with a newer one.
            let Some(used) = head.checked_sub(tail) else { continue };
            if used + count as u64 > capacity {
                return None;
            }
            let next = head + count as u64;
            // Release: see above. A failure decides nothing and is Relaxed.
            let moved =
                self.head.compare_exchange(head, next, Ordering::Release, Ordering::Relaxed);
            if moved.is_ok() {
                return Some(Slot { ring: self, first: self.index(head), words: count });
            }
        }
        None
    }

    pub(super) fn reader(&self) -> Option<Reader<'_>> {
        // Acquire, with the Release of the drop below: this reader goes on where the one before it
        // stopped. Relaxed, it may see an old tail and read words that are given back already.
        let taken = self.reading.swap(true, Ordering::Acquire);
        (!taken).then_some(Reader { ring: self })
    }

    /// Where the word of `position` lies. The ring has at least one.
    fn index(&self, position: u64) -> usize {
        (position % self.words.len() as u64) as usize
    }

    /// The word `offset` words after index `first`; both are less than the number of words.
    #[inline(always)]
    fn word(&self, first: usize, offset: usize) -> &AtomicU64 {
        let index = first + offset;
        let wrapped = if index < self.words.len() { index } else { index - self.words.len() };
        &self.words[wrapped]
    }
}

impl Slot<'_> {
    /// Stores the words of the record behind its header.
    pub(super) fn fill(&self, values: impl Iterator<Item = u64>) {
        let (wrapped, straight) = self.ring.words.split_at(self.first);
        let mut values = values.take(self.words - 1);
        // Two loops rather than one over a chain: most records do not wrap, and the fault path
        // then spends three instructions on a word.
        for (word, value) in straight[1..].iter().zip(&mut values) {
            // Relaxed: the header's Release publishes it.
            word.store(value, Ordering::Relaxed);
        }
        for (word, value) in wrapped.iter().zip(values) {
            // Relaxed: as above.
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Stores the word `offset` words behind the header; 0 is where the header will be. Words that are
    /// never stored read 0.
    #[inline(always)]
    pub(super) fn store(&self, offset: usize, value: u64) {
        debug_assert!((1..self.words).contains(&offset));
        // Relaxed: the header's Release publishes it.
        self.ring.word(self.first, offset).store(value, Ordering::Relaxed);
    }

    /// The words of the record, header first, if they do not wrap.
    #[inline(always)]
    pub(super) fn straight<const WORDS: usize>(&self) -> Option<&[AtomicU64; WORDS]> {
        debug_assert_eq!(self.words, WORDS);
        self.ring.words.get(self.first..)?.first_chunk()
    }

    /// Publishes the record. `header` is not 0.
    pub(super) fn publish(self, header: u64) {
        debug_assert_ne!(header, 0);
        // Release, with the reader's Acquire: whoever sees the header sees the words behind it.
        // Relaxed, the reader copies zeroes for words of a record (shape MP).
        self.ring.word(self.first, 0).store(header, Ordering::Release);
    }
}

impl Iterator for Reader<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        let ring = self.ring;
        if ring.words.is_empty() {
            return None;
        }
        // Relaxed: only readers write it, and `reader` has ordered this one after the others.
        let tail = ring.tail.load(Ordering::Relaxed);
        // Acquire: see `publish`.
        let first = ring.index(tail);
        let header = ring.word(first, 0).load(Ordering::Acquire);
        let words = record::words(header)?;
        // Relaxed: ordered by the header.
        let record =
            record::decode(header, |offset| ring.word(first, offset).load(Ordering::Relaxed));
        for offset in 0..words {
            // Relaxed: ordered by the Release of the tail.
            ring.word(first, offset).store(0, Ordering::Relaxed);
        }
        // Release: see the tail's load in `reserve`.
        ring.tail.store(tail + words as u64, Ordering::Release);
        record
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        // Release: see `reader`.
        self.ring.reading.store(false, Ordering::Release);
    }
}

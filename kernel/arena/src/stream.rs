//! What a program says, kept until somebody reads it: a bounded ring that never makes its writer
//! wait.
//!
//! Any number of producers, one reader at a time. A producer may hold any lock, have interrupts
//! off, or be the abort handler on top of another producer of the same CPU: it takes no lock,
//! allocates nothing, and does a bounded number of steps. What does not fit is dropped and
//! counted. A producer that stops half-way, for ever or for a while, keeps no other from writing;
//! the reader then stops in front of the unfinished record and goes on when it is finished.
//!
//! A violation is recorded in binary on the fault path and turned into text by the reader.
//!
//! What it answers to: Linux `kernel/bpf/stream.c` (a list of allocated elements, 100,000 bytes at
//! most) and `bpf_prog_report_arena_violation`. Differences: no allocation when a record is
//! written, drops are counted, and no stack is dumped on the fault path.

use core::fmt;

use crate::sync::{AtomicU64, Ordering};

use self::ring::Ring;

pub use self::record::{Backtrace, Code, Facts, Frames, Record, TEXT_MAX, Text, Violation};
pub use self::ring::Reader;

#[cfg(test)]
mod model;
mod record;
mod ring;
#[cfg(test)]
mod tests;

/// Capacity of a stream in bytes unless said otherwise: that of Linux's `BPF_STREAM_MAX_CAPACITY`.
pub const DEFAULT_BYTES: usize = 100_000;

/// One output of one program.
pub struct Stream {
    ring: Ring,
    dropped_records: AtomicU64,
    dropped_bytes: AtomicU64,
}

/// There is no memory for a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoMemory;

/// What did not fit since the stream was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dropped {
    /// Records.
    pub records: u64,
    /// Their bytes: the length of a text, the size of a violation in the ring.
    pub bytes: u64,
}

/// Where a stream lies in memory, for a debugger that looks at a stopped machine. The addresses hold
/// while the stream is neither moved nor dropped.
///
/// The word of a position is `words[position % len]`. Finished records follow each other from the
/// position in `tail` on, as the table at the head of `record.rs` lays them out; the first word
/// that is 0 ends them. Words up to the position in `head` are reserved.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// The ring.
    pub words: *const AtomicU64,
    /// Its length in words.
    pub len: usize,
    /// Position where the next record will be reserved.
    pub head: *const AtomicU64,
    /// Position of the oldest record.
    pub tail: *const AtomicU64,
    /// See [`Dropped::records`].
    pub dropped_records: *const AtomicU64,
    /// See [`Dropped::bytes`].
    pub dropped_bytes: *const AtomicU64,
}

/// Formats into one text record for each `write!`, without allocating. What is longer than
/// [`TEXT_MAX`] bytes is cut into several records. Writing never fails: a drop is counted.
pub struct Writer<'a> {
    stream: &'a Stream,
    buffer: [u8; TEXT_MAX],
    len: usize,
}

impl Stream {
    /// A stream of `bytes` bytes, rounded down to whole words; headers count against it. The only
    /// call that allocates.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn with_capacity(bytes: usize) -> Result<Self, NoMemory> {
        Ok(Self {
            ring: Ring::with_words(bytes / size_of::<u64>()).ok_or(NoMemory)?,
            dropped_records: AtomicU64::new(0),
            dropped_bytes: AtomicU64::new(0),
        })
    }

    /// Writes text, as one record if it has at most [`TEXT_MAX`] bytes. Returns whether all of it
    /// was kept. Callable from any context.
    pub fn put_text(&self, text: &[u8]) -> bool {
        let mut kept = true;
        for part in text.chunks(TEXT_MAX) {
            kept &= match self.ring.reserve(record::text_words(part.len())) {
                Some(slot) => {
                    record::encode_text(slot, part);
                    true
                }
                None => self.drop_record(part.len()),
            };
        }
        kept
    }

    /// Records a violation. Returns whether it was kept. Callable from any context.
    pub fn put_violation(&self, violation: &Violation) -> bool {
        let Violation { facts, backtrace, frames } = violation;
        let calls = backtrace.as_slice().iter().copied();
        self.record_violation(facts, calls, frames.as_slice().iter().copied())
    }

    /// The same from its parts: `calls` are return addresses in the kernel, `insns` instructions at which
    /// the program's functions stand, both innermost first; what is too much is left out. For the abort
    /// handler, which copies nothing in between.
    // Inlined, so that the backtrace is walked into the ring; not where nothing is optimised, for the
    // stack's sake.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn record_violation(
        &self,
        facts: &Facts,
        calls: impl Iterator<Item = u64>,
        insns: impl Iterator<Item = u32>,
    ) -> bool {
        match self.ring.reserve(record::VIOLATION_WORDS) {
            Some(slot) => {
                record::encode_violation(slot, facts, calls, insns);
                true
            }
            None => self.drop_record(record::VIOLATION_WORDS * size_of::<u64>()),
        }
    }

    /// A writer for `write!`.
    pub fn writer(&self) -> Writer<'_> {
        Writer { stream: self, buffer: [0; TEXT_MAX], len: 0 }
    }

    /// The right to read, given back when it is dropped. `None` while another has it.
    pub fn reader(&self) -> Option<Reader<'_>> {
        self.ring.reader()
    }

    /// What was dropped so far. The two counts are read one after the other: beside a producer
    /// that is dropping right now they may be one record apart.
    pub fn dropped(&self) -> Dropped {
        // Relaxed: nobody concludes from a count what else has happened.
        Dropped {
            records: self.dropped_records.load(Ordering::Relaxed),
            bytes: self.dropped_bytes.load(Ordering::Relaxed),
        }
    }

    /// Where a debugger finds the records and the counts.
    pub fn watch(&self) -> Watch {
        let (words, head, tail) = self.ring.parts();
        Watch {
            words: words.as_ptr(),
            len: words.len(),
            head,
            tail,
            dropped_records: &raw const self.dropped_records,
            dropped_bytes: &raw const self.dropped_bytes,
        }
    }

    /// Capacity in bytes, headers included.
    pub fn capacity(&self) -> usize {
        self.ring.words() * size_of::<u64>()
    }

    /// Counts a drop; false, which is what its callers return.
    #[cold]
    fn drop_record(&self, bytes: usize) -> bool {
        // Relaxed: as in `dropped`; an addition is never lost whatever its ordering.
        self.dropped_records.fetch_add(1, Ordering::Relaxed);
        self.dropped_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        false
    }
}

impl Writer<'_> {
    /// Writes what is buffered as one record.
    fn flush(&mut self) {
        self.stream.put_text(&self.buffer[..self.len]);
        self.len = 0;
    }
}

impl fmt::Write for Writer<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            if self.len == TEXT_MAX {
                self.flush();
            }
            let count = rest.len().min(TEXT_MAX - self.len);
            self.buffer[self.len..self.len + count].copy_from_slice(&rest[..count]);
            self.len += count;
            rest = &rest[count..];
        }
        Ok(())
    }

    fn write_fmt(&mut self, arguments: fmt::Arguments<'_>) -> fmt::Result {
        let written = fmt::write(self, arguments);
        self.flush();
        written
    }
}

/// Text put by `write_str` alone still gets out.
impl Drop for Writer<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}

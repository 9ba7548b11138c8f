//! The last page-table events of all CPUs, for the oops: what was written to which descriptor, and
//! which translations were dropped, in one order.
//!
//! Kept in lab images only. A record is four plain atomic stores after one fetch-and-add: no lock,
//! so the abort path keeps it too. A reader sees a record torn only if 64 others came meanwhile.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::arch::percpu::CpuId;

/// Records kept.
pub const KEPT: usize = 64;

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Kind {
    /// A compare-and-swap that took effect: old and new descriptor.
    Cas = 1,
    /// One that found something else: what it found, what it would have stored.
    CasLost = 2,
    /// An exchange: old and new descriptor.
    Swap = 3,
    /// A plain store, which only broken variants make: old and new descriptor.
    Store = 6,
    /// TLBI VAALE1IS of a page.
    Tlbi = 4,
    /// TLBI VMALLE1IS.
    TlbiAll = 5,
}

/// One record: `what` holds the kind and, above it, the CPU; 0 means empty.
struct Record {
    what: AtomicU64,
    address: AtomicU64,
    old: AtomicU64,
    new: AtomicU64,
}

/// A record, read.
pub struct Event {
    number: u64,
    kind: u64,
    cpu: u64,
    address: u64,
    old: u64,
    new: u64,
}

static NEXT: AtomicU64 = AtomicU64::new(0);
static RECORDS: [Record; KEPT] = [const {
    Record {
        what: AtomicU64::new(0),
        address: AtomicU64::new(0),
        old: AtomicU64::new(0),
        new: AtomicU64::new(0),
    }
}; KEPT];

/// Notes an event. `address` is the descriptor's own address, or the page of a TLBI. Any context.
// Vanishes in measured images; inlined so that it does.
#[inline(always)]
pub fn note(kind: Kind, address: u64, old: u64, new: u64) {
    if cfg!(feature = "lab") {
        // Relaxed throughout: a report, on which nothing is decided.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let record = &RECORDS[number as usize % KEPT];
        record.what.store(kind as u64 | (CpuId::current().index() as u64) << 8, Ordering::Relaxed);
        record.address.store(address, Ordering::Relaxed);
        record.old.store(old, Ordering::Relaxed);
        record.new.store(new, Ordering::Relaxed);
    }
}

/// The records kept, oldest first.
pub fn last() -> impl Iterator<Item = Event> {
    let next = NEXT.load(Ordering::Relaxed);
    (next.saturating_sub(KEPT as u64)..next).map(|number| {
        let record = &RECORDS[number as usize % KEPT];
        let what = record.what.load(Ordering::Relaxed);
        Event {
            number,
            kind: what & 0xff,
            cpu: what >> 8,
            address: record.address.load(Ordering::Relaxed),
            old: record.old.load(Ordering::Relaxed),
            new: record.new.load(Ordering::Relaxed),
        }
    })
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, kind, cpu, address, old, new } = *self;
        write!(f, "{number} cpu{cpu} ")?;
        match kind {
            k if k == Kind::Cas as u64 => write!(f, "cas {address:#x}: {old:#x} -> {new:#x}"),
            k if k == Kind::CasLost as u64 => {
                write!(f, "cas {address:#x}: lost to {old:#x}, wanted {new:#x}")
            }
            k if k == Kind::Swap as u64 => write!(f, "swap {address:#x}: {old:#x} -> {new:#x}"),
            k if k == Kind::Store as u64 => write!(f, "store {address:#x}: {old:#x} -> {new:#x}"),
            k if k == Kind::Tlbi as u64 => write!(f, "tlbi {address:#x}"),
            k if k == Kind::TlbiAll as u64 => f.write_str("tlbi all"),
            _ => f.write_str("being written"),
        }
    }
}

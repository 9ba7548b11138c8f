//! Which locks each CPU holds, for reports. Kept in lab images only: measured images pay nothing.

use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use arena::hw::LockName;

use crate::arch::percpu::{CpuId, CpuLocal, MAX_CPUS};
use crate::debug::Table;

/// Locks that one CPU can hold and still have reported.
pub const DEPTH: usize = 8;

/// Debuggers read it: see [`crate::debug`].
#[repr(C)]
struct Held {
    count: AtomicUsize,
    names: [AtomicPtr<LockName>; DEPTH],
}

static HELD: CpuLocal<Held> = CpuLocal::new([const { Held::new() }; MAX_CPUS]);

impl Held {
    const fn new() -> Self {
        Self {
            count: AtomicUsize::new(0),
            names: [const { AtomicPtr::new(core::ptr::null_mut()) }; DEPTH],
        }
    }
}

/// The records of all CPUs, for [`crate::debug`].
pub const fn records() -> Table {
    Table::of_cpus(&HELD)
}

/// Notes that this CPU took a lock. IRQs masked, or the interrupt's own locks nest inside.
pub fn push(name: &'static LockName) {
    if cfg!(feature = "lab") {
        let held = HELD.get();
        // Relaxed throughout: written by this CPU alone, read by others only for reports.
        let count = held.count.load(Ordering::Relaxed);
        if let Some(entry) = held.names.get(count) {
            entry.store(core::ptr::from_ref(name).cast_mut(), Ordering::Relaxed);
        }
        held.count.store(count + 1, Ordering::Relaxed);
    }
}

/// Notes that this CPU released a lock, in any order.
pub fn pop(name: &'static LockName) {
    if cfg!(feature = "lab") {
        let held = HELD.get();
        let count = held.count.load(Ordering::Relaxed);
        let last = count.min(DEPTH);
        let position =
            (0..last).rev().find(|&at| core::ptr::eq(held.names[at].load(Ordering::Relaxed), name));
        if let Some(position) = position {
            for at in position + 1..last {
                let next = held.names[at].load(Ordering::Relaxed);
                held.names[at - 1].store(next, Ordering::Relaxed);
            }
        }
        held.count.store(count - 1, Ordering::Relaxed);
    }
}

/// The names of the locks that `cpu` holds, first taken first. Exact for the calling CPU; a
/// moment's picture of another.
pub fn names(cpu: CpuId) -> impl Iterator<Item = &'static str> {
    let held = &HELD[cpu];
    let count = held.count.load(Ordering::Relaxed).min(DEPTH);
    held.names[..count].iter().filter_map(|entry| {
        // SAFETY: an entry is null or was stored by `push` from a `&'static LockName`.
        unsafe { entry.load(Ordering::Relaxed).as_ref() }.map(|name| name.0)
    })
}

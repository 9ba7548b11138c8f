//! The worker that finishes deferred frees: each CPU's tick looks whether an arena asked for it.
//!
//! It reaches an arena by its room, without a counted reference: the arena's end takes it out of the
//! room's entry and waits until no worker is inside.

use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use arena::step::StepPoint;

use crate::lab::{engine, variant};
use crate::mem::arena::{KernelArena, ROOMS};

/// Who lives in a room, and how many workers are there.
struct Entry {
    arena: AtomicPtr<KernelArena>,
    inside: AtomicU32,
}

static ENTRIES: [Entry; ROOMS as usize] = [const { Entry::new() }; ROOMS as usize];
/// A set bit: the arena in that room has work.
static WANTED: AtomicU64 = AtomicU64::new(0);

impl Entry {
    /// What the lab knows it by.
    fn object(&self) -> u64 {
        core::ptr::from_ref(self).addr() as u64
    }

    const fn new() -> Self {
        Self { arena: AtomicPtr::new(core::ptr::null_mut()), inside: AtomicU32::new(0) }
    }
}

/// Lets workers find `arena`, which stays where it is until [`forget`].
pub fn list(arena: &KernelArena) {
    let entry = &ENTRIES[arena.room() as usize];
    // Release: a worker that sees the pointer sees the arena.
    entry.arena.store(core::ptr::from_ref(arena).cast_mut(), Ordering::Release);
}

/// Takes the arena in `room` out, and waits until no worker is inside it. IRQs may be on or off; the
/// caller holds no lock that a worker may wait for.
pub fn forget(room: u32) {
    let entry = &ENTRIES[room as usize];
    // SeqCst here and in `work_in`: a worker either counts itself before our look at the count, or
    // sees the null pointer.
    engine::step(StepPoint::Flag, entry.object());
    entry.arena.store(core::ptr::null_mut(), Ordering::SeqCst);
    while entry.inside.load(Ordering::SeqCst) != 0 && !variant::tears_down_hastily() {
        engine::pause();
    }
    engine::hook::torn_down(entry.inside.load(Ordering::SeqCst));
    WANTED.fetch_and(!(1 << room), Ordering::Relaxed);
}

/// Asks for a worker for the arena in `room`. Lock-free; any context.
pub fn want(room: u32) {
    // Release: the worker finds what it was called for.
    WANTED.fetch_or(1 << room, Ordering::Release);
}

/// Does what was asked for. In the tick, or from any context that may wait for an arena's lock.
pub fn work() {
    // A look first: nearly every tick finds nothing.
    if WANTED.load(Ordering::Relaxed) == 0 {
        return;
    }
    // Acquire: pairs with `want`. Taken before the work: what comes in between asks again.
    let mut wanted = WANTED.swap(0, Ordering::Acquire);
    while wanted != 0 {
        let room = wanted.trailing_zeros();
        wanted &= wanted - 1;
        work_in(room);
    }
}

fn work_in(room: u32) {
    let entry = &ENTRIES[room as usize];
    engine::step(StepPoint::Flag, entry.object());
    entry.inside.fetch_add(1, Ordering::SeqCst);
    // SAFETY: a pointer that is not null is of a listed arena, and `forget` returns only after it has
    // seen `inside` at zero, which our count prevents.
    if let Some(arena) = unsafe { entry.arena.load(Ordering::SeqCst).as_ref() }
        && arena.work().is_err()
    {
        // The lock was not given; the pages are still noted.
        want(room);
    }
    engine::step(StepPoint::RefDrop, entry.object());
    // Release: the work is over before `forget` goes on.
    entry.inside.fetch_sub(1, Ordering::Release);
}

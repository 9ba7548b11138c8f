//! Free frames: a cache on each CPU, loose frames behind it, and a buddy allocator behind those.
//!
//! ```text
//!   take, put --> Cache, one a CPU: no lock, IRQs masked for a few instructions
//!                   | half a cache at a time, under the pool's lock
//!                 loose frames: a stack of numbers
//!                   | blocks of 512, one way
//!                 buddy allocator: runs of 2^n frames
//! ```
//!
//! A frame that was handed out alone comes back loose and stays so: merging it with its neighbours
//! costs a walk through the buddy allocator's trees, thousands of instructions that nobody needs until
//! somebody wants a run. Then all loose frames go back at once ([`Pool::take_run`]). Linux keeps its
//! per-CPU lists for the same reason, and drains them for the same reason too (`drain_all_pages()`).
//!
//! Nothing is kept in the free frames themselves: a stale write to a freed frame, which broken protocol
//! variants make on purpose, cannot corrupt the allocator.

use alloc::boxed::Box;
use alloc::vec::Vec;

use buddy_system_allocator::FrameAllocator;

use crate::addr::Frame;
use crate::sync::{AtomicU32, AtomicUsize, Ordering};

/// Frames that a CPU keeps at hand.
pub const CACHE: usize = 64;
/// Frames that move between a cache and the pool at once.
pub const BATCH: usize = CACHE / 2;
/// The largest run is 2^`MAX_ORDER` frames.
pub const MAX_ORDER: u32 = ORDERS as u32 - 1;

const ORDERS: usize = 20;
/// A block that becomes loose has at most 2^this frames.
const BLOCK_ORDER: u32 = 9;

/// One CPU's cache. Only that CPU takes and puts, with IRQs masked, so every access is Relaxed;
/// others may read how many there are.
pub struct Cache {
    count: AtomicUsize,
    /// Frame numbers: 32 bits reach 16 TiB.
    frames: [AtomicU32; CACHE],
}

/// All free frames but those in the caches. Lives inside a lock.
pub struct Pool {
    buddy: FrameAllocator<ORDERS>,
    loose: Loose,
    free: u64,
}

/// A stack of frame numbers; last in, first out.
struct Loose {
    room: Box<[u32]>,
    count: usize,
}

/// There is no memory for the books of a pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoMemory;

impl Cache {
    /// An empty cache.
    #[cfg(not(loom))]
    #[expect(
        clippy::new_without_default,
        reason = "made as part of a static, where only const will do"
    )]
    pub const fn new() -> Self {
        Self { count: AtomicUsize::new(0), frames: [const { AtomicU32::new(0) }; CACHE] }
    }

    /// An empty cache, of the model checker's atomics.
    #[cfg(loom)]
    #[expect(clippy::new_without_default, reason = "as above")]
    pub fn new() -> Self {
        Self { count: AtomicUsize::new(0), frames: core::array::from_fn(|_| AtomicU32::new(0)) }
    }

    /// The frame that was put last; `None` if there is none: [`refill`](Self::refill), then.
    // A dozen instructions, part of every allocation.
    #[inline(always)]
    pub fn take(&self) -> Option<Frame> {
        let last = self.count.load(Ordering::Relaxed).wrapping_sub(1);
        // Also without a frame: then `last` is no index at all.
        let entry = self.frames.get(last)?;
        self.count.store(last, Ordering::Relaxed);
        Some(Frame::from_number(entry.load(Ordering::Relaxed).into()))
    }

    /// Puts a free frame; false if there is no room: [`drain`](Self::drain), then.
    // As `take`.
    #[inline(always)]
    pub fn put(&self, frame: Frame) -> bool {
        let count = self.count.load(Ordering::Relaxed);
        let Some(entry) = self.frames.get(count) else { return false };
        entry.store(frame.number() as u32, Ordering::Relaxed);
        self.count.store(count + 1, Ordering::Relaxed);
        true
    }

    /// Puts several free frames. Each for which there is no room goes to `full`, which may change this
    /// cache; `frames` must not.
    // As `take`: the count stays in a register meanwhile.
    #[inline(always)]
    pub fn put_all(&self, frames: impl Iterator<Item = Frame>, full: impl Fn(Frame)) {
        let mut count = self.count.load(Ordering::Relaxed);
        // The iterator runs itself: its filters are then branches of one loop.
        frames.for_each(|frame| {
            if let Some(entry) = self.frames.get(count) {
                entry.store(frame.number() as u32, Ordering::Relaxed);
                count += 1;
            } else {
                self.count.store(count, Ordering::Relaxed);
                full(frame);
                count = self.count.load(Ordering::Relaxed);
            }
        });
        self.count.store(count, Ordering::Relaxed);
    }

    /// Moves up to [`BATCH`] frames from the pool to this cache if it is empty; leaves it alone if not: an
    /// interrupt may have put frames between the look that found none and this. `may_split` is asked
    /// before the buddy allocator's books are written to, which takes memory.
    pub fn refill(&self, pool: &mut Pool, may_split: impl Fn() -> bool) {
        if !self.is_empty() {
            return;
        }
        let Loose { room, count } = pool.stocked(may_split);
        let moved = BATCH.min(*count);
        let rest = *count - moved;
        for (entry, number) in self.frames.iter().zip(&room[rest..*count]) {
            entry.store(*number, Ordering::Relaxed);
        }
        *count = rest;
        pool.free -= moved as u64;
        self.count.store(moved, Ordering::Relaxed);
    }

    /// Moves [`BATCH`] frames of this cache, which is full, to the pool.
    pub fn drain(&self, pool: &mut Pool) {
        pool.put_all(&self.frames[CACHE - BATCH..]);
        self.count.store(CACHE - BATCH, Ordering::Relaxed);
    }

    /// Frames in it. Exact on its own CPU; a moment's picture of another's.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether there are none. As [`len`](Self::len).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Pool {
    /// A pool without frames, which can keep `loose` of them loose, at least one: four bytes each.
    /// With room for fewer than there are, single frames go to the buddy allocator at times, which
    /// is slow and nothing else.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn with_room(loose: usize) -> Result<Self, NoMemory> {
        let mut room = Vec::new();
        room.try_reserve_exact(loose.max(1)).map_err(|_| NoMemory)?;
        room.resize(loose.max(1), 0);
        let loose = Loose { room: room.into_boxed_slice(), count: 0 };
        Ok(Self { buddy: FrameAllocator::new(), loose, free: 0 })
    }

    /// Adds the frames from `first` up to, not including, `end`.
    pub fn add(&mut self, first: Frame, end: Frame) {
        self.buddy.add_frame(first.number() as usize, end.number() as usize);
        self.free += end.number() - first.number();
    }

    /// Takes 2^`order` neighbouring frames, the first a multiple of their number; `None` if there is no
    /// such run, even after all loose frames were merged, or `order` is above [`MAX_ORDER`]. Frames in
    /// the caches are not looked at. Answers to Linux `alloc_pages()`.
    pub fn take_run(&mut self, order: u32) -> Option<Frame> {
        if order > MAX_ORDER {
            return None;
        }
        let first = self.buddy.alloc(1 << order).or_else(|| {
            self.merge_loose();
            self.buddy.alloc(1 << order)
        })?;
        self.free -= 1 << order;
        Some(Frame::from_number(first as u64))
    }

    /// Takes back a run that [`take_run`](Self::take_run) gave. Answers to Linux `__free_pages()`.
    pub fn put_run(&mut self, first: Frame, order: u32) {
        self.buddy.dealloc(first.number() as usize, 1 << order);
        self.free += 1 << order;
    }

    /// Free frames, those in the caches aside.
    pub fn free(&self) -> u64 {
        self.free
    }

    fn put_all(&mut self, frames: &[AtomicU32]) {
        let Loose { room, count } = &mut self.loose;
        let loose = frames.len().min(room.len() - *count);
        let (to_room, to_buddy) = frames.split_at(loose);
        for (place, frame) in room[*count..].iter_mut().zip(to_room) {
            *place = frame.load(Ordering::Relaxed);
        }
        *count += loose;
        for frame in to_buddy {
            self.buddy.dealloc(frame.load(Ordering::Relaxed) as usize, 1);
        }
        self.free += frames.len() as u64;
    }

    /// The loose frames, after making sure that there are some if there can be any.
    fn stocked(&mut self, may_split: impl Fn() -> bool) -> &mut Loose {
        if self.loose.count == 0 {
            let most = self.loose.room.len().ilog2().min(BLOCK_ORDER);
            let block = (0..=most).rev().find_map(|order| {
                let first = may_split().then(|| self.buddy.alloc(1 << order))??;
                Some(first as u32..first as u32 + (1 << order))
            });
            // The lowest on top: frames are handed out in ascending order.
            let Loose { room, count } = &mut self.loose;
            for (place, number) in room.iter_mut().zip(block.into_iter().flatten().rev()) {
                *place = number;
                *count += 1;
            }
        }
        &mut self.loose
    }

    fn merge_loose(&mut self) {
        let Loose { room, count } = &mut self.loose;
        for number in &room[..*count] {
            self.buddy.dealloc(*number as usize, 1);
        }
        *count = 0;
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

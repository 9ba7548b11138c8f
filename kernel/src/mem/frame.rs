//! Physical frames: [`arena::frames`] with this kernel's CPUs and locks, and a tracepoint on both ways.

use core::sync::atomic::{AtomicU64, Ordering};

use arena::addr::Frame;
use arena::frames::{Cache, NoMemory, Pool};
use arena::hw::LockName;

use crate::arch::irq::IrqGuard;
use crate::arch::percpu::{CpuId, CpuLocal, MAX_CPUS};
use crate::mem::heap;
use crate::mem::lock::IrqSpinLock;
use crate::prog::tracepoint::{MM_PAGE_ALLOC, MM_PAGE_FREE};

static POOL_NAME: LockName = LockName("frames");
static POOL: IrqSpinLock<Option<Pool>> = IrqSpinLock::named(&POOL_NAME, None);
static TOTAL: AtomicU64 = AtomicU64::new(0);
/// Free frames that are in no cache; changes with the lock held.
static POOLED: AtomicU64 = AtomicU64::new(0);
static CACHES: CpuLocal<Cache> = CpuLocal::new([const { Cache::new() }; MAX_CPUS]);

/// Makes the books for a machine of `frames` frames. Boot, once, when the heap is there.
///
/// # Errors
/// [`NoMemory`].
pub fn init(frames: u64) -> Result<(), NoMemory> {
    let pool = Pool::with_room(frames as usize)?;
    *POOL.acquire() = Some(pool);
    Ok(())
}

/// Adds the frames from `first` up to, not including, `end`. Boot only, after [`init`].
pub fn add(first: Frame, end: Frame) {
    with_pool(|pool| pool.add(first, end));
    TOTAL.fetch_add(end.number() - first.number(), Ordering::Relaxed);
}

/// One frame of unspecified contents; `None` when memory is exhausted. Other CPUs' caches may still
/// hold frames then: exhaustion comes a little early.
///
/// Any context but the abort handler. Fires `mm_page_alloc` before it returns, under whatever
/// locks the caller holds and with the caller's IRQ mask. Answers to Linux `alloc_page()`.
// Budgeted: what is rare is behind a call that ends the function, so that nothing is saved for it.
#[inline(always)]
pub fn alloc() -> Option<Frame> {
    let frame = match crate::lab::engine::hook::frame() {
        Some(of_the_lab) => of_the_lab?,
        None => match take() {
            Some(frame) => frame,
            None => return alloc_refilled(),
        },
    };
    if MM_PAGE_ALLOC.is_attached() { traced(frame) } else { Some(frame) }
}

/// Takes a frame back. Nothing may map it any more. Any context but the abort handler. Fires
/// `mm_page_free` first, under whatever locks the caller holds. Answers to Linux `__free_page()`.
// As `alloc`.
#[inline(always)]
pub fn free(frame: Frame) {
    if MM_PAGE_FREE.is_attached() || !put(frame) {
        free_slowly(frame);
    }
}

/// Takes frames back as [`free`] does, and looks once for what is looked for each time there.
/// In images without the lab, which has a say in each.
#[cfg(not(feature = "lab"))]
#[inline(always)]
pub fn free_all(frames: impl Iterator<Item = Frame>) {
    if MM_PAGE_FREE.is_attached() {
        return frames.for_each(free_slowly);
    }
    let masked = IrqGuard::new();
    CACHES.local(&masked).put_all(frames, free_slowly);
}

/// Takes 2^`order` neighbouring frames, the first a multiple of their number; `None` if there is no
/// such run outside of the caches, or `order` is above [`arena::frames::MAX_ORDER`]. Contexts as
/// [`alloc`]; fires nothing. Slow, and with IRQs off for long if loose frames have to be merged.
pub fn alloc_run(order: u32) -> Option<Frame> {
    with_pool(|pool| if heap::can_serve_frames() { pool.take_run(order) } else { None })
}

/// Takes a run of [`alloc_run`] back. Nothing may map it any more.
pub fn free_run(first: Frame, order: u32) {
    with_pool(|pool| pool.put_run(first, order));
}

/// Frames handed out and not taken back. Exact when no CPU is inside the allocator.
pub fn in_use() -> u64 {
    let cached: usize = CpuId::all().map(|cpu| CACHES[cpu].len()).sum();
    let free = POOLED.load(Ordering::Relaxed) + cached as u64;
    // A frame that moves between cache and pool meanwhile may be seen on both sides.
    total().saturating_sub(free)
}

/// Whether this CPU is inside the frame allocator's books, so that the heap opens its reserve.
pub fn is_bookkeeping() -> bool {
    POOL.is_held_here()
}

/// Frames that were ever added.
pub fn total() -> u64 {
    TOTAL.load(Ordering::Relaxed)
}

#[inline(always)]
fn take() -> Option<Frame> {
    let masked = IrqGuard::new();
    CACHES.local(&masked).take()
}

#[inline(always)]
fn put(frame: Frame) -> bool {
    let masked = IrqGuard::new();
    CACHES.local(&masked).put(frame)
}

#[cold]
#[inline(never)]
fn alloc_refilled() -> Option<Frame> {
    let masked = IrqGuard::new();
    let cache = CACHES.local(&masked);
    with_pool(|pool| cache.refill(pool, heap::can_serve_frames));
    let frame = cache.take();
    drop(masked);
    traced(frame?)
}

/// The frame, after its tracepoint has fired.
#[cold]
#[inline(never)]
fn traced(frame: Frame) -> Option<Frame> {
    MM_PAGE_ALLOC.fire(frame.start().get());
    Some(frame)
}

#[cold]
#[inline(never)]
fn free_slowly(frame: Frame) {
    MM_PAGE_FREE.fire(frame.start().get());
    let masked = IrqGuard::new();
    let cache = CACHES.local(&masked);
    if !cache.put(frame) {
        with_pool(|pool| cache.drain(pool));
        let put = cache.put(frame);
        debug_assert!(put, "a drained cache has room");
    }
}

fn with_pool<R: Default>(change: impl FnOnce(&mut Pool) -> R) -> R {
    let mut pool = POOL.acquire();
    let Some(pool) = pool.as_mut() else { return R::default() };
    let outcome = change(pool);
    POOLED.store(pool.free(), Ordering::Relaxed);
    outcome
}

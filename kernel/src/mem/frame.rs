//! Physical frames: a buddy allocator behind a cache on each CPU.
//!
//! The cache serves one frame at a time without a lock, with IRQs masked for a few instructions.
//! The buddy allocator keeps its books in the heap, not in the free frames: a stale write to a
//! freed frame, which broken protocol variants make on purpose, cannot corrupt it.

use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use arena::addr::Frame;
use arena::hw::LockName;
use buddy_system_allocator::FrameAllocator;

use crate::arch::irq::IrqGuard;
use crate::arch::percpu::{CpuId, CpuLocal, MAX_CPUS};
use crate::mem::heap;
use crate::mem::lock::IrqSpinLock;
use crate::prog::tracepoint;

/// Frames that a CPU keeps at hand.
const CACHE: usize = 64;
/// Frames that move between a cache and the buddy allocator at once.
const BATCH: usize = CACHE / 2;

/// The largest run is 2^(ORDERS - 1) frames.
const ORDERS: usize = 20;

static POOL_NAME: LockName = LockName("frames");
static POOL: IrqSpinLock<Option<FrameAllocator<ORDERS>>> = IrqSpinLock::named(&POOL_NAME, None);
static TOTAL: AtomicU64 = AtomicU64::new(0);

/// One CPU's cache. Only that CPU uses it, with IRQs masked, so every access is Relaxed.
struct Cache {
    count: AtomicUsize,
    /// Frame numbers: 32 bits reach 16 TiB.
    frames: [AtomicU32; CACHE],
    /// Frames handed out less frames taken back, ever. Wraps; only the sum over CPUs means
    /// anything.
    balance: AtomicU64,
}

static CACHES: CpuLocal<Cache> = CpuLocal::new([const { Cache::new() }; MAX_CPUS]);

impl Cache {
    const fn new() -> Self {
        Self {
            count: AtomicUsize::new(0),
            frames: [const { AtomicU32::new(0) }; CACHE],
            balance: AtomicU64::new(0),
        }
    }

    fn add_balance(&self, by: u64) {
        let balance = self.balance.load(Ordering::Relaxed).wrapping_add(by);
        self.balance.store(balance, Ordering::Relaxed);
    }
}

/// Adds the frames from `first` up to, not including, `end`. Boot only.
pub fn add(first: Frame, end: Frame) {
    let mut pool = POOL.acquire();
    let pool = pool.get_or_insert_with(FrameAllocator::new);
    pool.add_frame(first.number() as usize, end.number() as usize);
    TOTAL.fetch_add(end.number() - first.number(), Ordering::Relaxed);
}

/// One frame of unspecified contents; `None` when memory is exhausted.
///
/// Any context but the abort handler. Fires `mm_page_alloc` before it returns, under whatever
/// locks the caller holds and with the caller's IRQ mask. Answers to Linux `alloc_page()`.
pub fn alloc() -> Option<Frame> {
    let frame = match crate::lab::engine::hook::frame() {
        Some(of_the_lab) => of_the_lab?,
        None => take()?,
    };
    tracepoint::MM_PAGE_ALLOC.fire(frame.start().get());
    Some(frame)
}

/// Takes a frame back. Nothing may map it any more. Any context but the abort handler. Fires
/// `mm_page_free` first, under whatever locks the caller holds. Answers to Linux `__free_page()`.
pub fn free(frame: Frame) {
    tracepoint::MM_PAGE_FREE.fire(frame.start().get());
    let masked = IrqGuard::new();
    let cache = CACHES.local(&masked);
    let mut count = cache.count.load(Ordering::Relaxed);
    if count == CACHE {
        count = drain(cache);
    }
    cache.frames[count].store(frame.number() as u32, Ordering::Relaxed);
    cache.count.store(count + 1, Ordering::Relaxed);
    cache.add_balance(u64::MAX);
}

/// Frames handed out and not taken back. Exact when no CPU is inside the allocator.
pub fn in_use() -> u64 {
    CpuId::all().fold(0, |sum, cpu| sum.wrapping_add(CACHES[cpu].balance.load(Ordering::Relaxed)))
}

/// Whether this CPU is inside the frame allocator's books, so that the heap opens its reserve.
pub fn is_bookkeeping() -> bool {
    POOL.is_held_here()
}

/// Frames that were ever added.
pub fn total() -> u64 {
    TOTAL.load(Ordering::Relaxed)
}

fn take() -> Option<Frame> {
    let masked = IrqGuard::new();
    let cache = CACHES.local(&masked);
    let mut count = cache.count.load(Ordering::Relaxed);
    if count == 0 {
        count = refill(cache);
    }
    let last = count.checked_sub(1)?;
    cache.count.store(last, Ordering::Relaxed);
    cache.add_balance(1);
    Some(Frame::from_number(u64::from(cache.frames[last].load(Ordering::Relaxed))))
}

/// Fills an empty cache by up to a batch; returns how many frames it holds then. Other CPUs'
/// caches may still hold frames when the pool is dry: exhaustion comes a little early.
fn refill(cache: &Cache) -> usize {
    let mut pool = POOL.acquire();
    let Some(pool) = pool.as_mut() else { return 0 };
    let mut count = 0;
    while count < BATCH && heap::can_serve_frames() {
        let Some(number) = pool.alloc(1) else { break };
        cache.frames[count].store(number as u32, Ordering::Relaxed);
        count += 1;
    }
    cache.count.store(count, Ordering::Relaxed);
    count
}

/// Gives a batch of a full cache back; returns how many frames it holds then.
fn drain(cache: &Cache) -> usize {
    let mut pool = POOL.acquire();
    let pool = pool.as_mut().expect("frames came from the pool");
    for entry in &cache.frames[CACHE - BATCH..] {
        pool.dealloc(entry.load(Ordering::Relaxed) as usize, 1);
    }
    cache.count.store(CACHE - BATCH, Ordering::Relaxed);
    CACHE - BATCH
}

//! The kernel heap: `linked_list_allocator`'s bare heap under an IRQ-disabled spinlock.
//!
//! Its last part is kept for the frame allocator's books, which are written while a frame is
//! allocated or freed and must never find the heap empty. Everyone else is refused before that,
//! and sees the refusal as an error value through `try_reserve` and the like.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use arena::hw::LockName;
use linked_list_allocator::Heap;

use crate::mem::frame;
use crate::mem::lock::IrqSpinLock;

static HEAP_NAME: LockName = LockName("heap");
static HEAP: IrqSpinLock<Heap> = IrqSpinLock::named(&HEAP_NAME, Heap::empty());

/// Bytes that only the frame allocator may use; set when the size of memory is known.
static RESERVE: AtomicUsize = AtomicUsize::new(0);

/// Bytes of tree nodes that one operation of the buddy allocator may need at most: splitting the
/// largest run puts one entry into each smaller order's set.
const FRAME_OPERATION: usize = 20 * 512;

struct KernelHeap;

#[global_allocator]
static GLOBAL: KernelHeap = KernelHeap;

/// Bytes of bookkeeping for a machine of `frames` frames: at worst every other frame is a free
/// block of its own, and a tree node spends up to 25 bytes on an entry.
pub const fn reserve_for(frames: usize) -> usize {
    frames / 2 * 25 + FRAME_OPERATION
}

/// Gives the heap its memory. Boot, once.
///
/// # Safety
/// `start` to `start + bytes` is mapped, writable, and nobody else's for ever.
pub unsafe fn init(start: *mut u8, bytes: usize, reserve: usize) {
    RESERVE.store(reserve, Ordering::Relaxed);
    // SAFETY: the caller gives the memory away, and calls once.
    unsafe { HEAP.acquire().init(start, bytes) }
}

/// Bytes free, the reserve included.
pub fn free_bytes() -> usize {
    HEAP.acquire().free()
}

/// Bytes in use.
pub fn used_bytes() -> usize {
    HEAP.acquire().used()
}

/// Whether the heap can hold what one more operation of the frame allocator may write.
pub fn can_serve_frames() -> bool {
    free_bytes() >= FRAME_OPERATION
}

// SAFETY: the inner heap is a correct first-fit allocator over memory that is its own, and the
// lock lets one CPU in at a time. Layouts pass through unchanged.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let for_frames = frame::is_bookkeeping();
        let mut heap = HEAP.acquire();
        let reserve = if for_frames { 0 } else { RESERVE.load(Ordering::Relaxed) };
        if heap.free() < layout.size().saturating_add(reserve) {
            return core::ptr::null_mut();
        }
        heap.allocate_first_fit(layout).map_or(core::ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let Some(pointer) = NonNull::new(pointer) else { return };
        // SAFETY: the caller passes what `alloc` returned for this layout.
        unsafe { HEAP.acquire().deallocate(pointer, layout) }
    }
}

//! The libraries that stand below the kernel's own, each by itself, in the same image.

use alloc::boxed::Box;
use core::alloc::Layout;
use core::hint::black_box;

use buddy_system_allocator::FrameAllocator;
use linked_list_allocator::Heap;

use super::{plain, quietly};
use crate::runner::{Ctx, Outcome, item};

item! {
    name: "bench-baselines",
    suite: "bench",
    about: "buddy_system_allocator, linked_list_allocator and spin::Mutex alone",
    run: baselines,
}

/// Bytes of the heap that `linked_list_allocator` is measured on.
const HEAP: usize = 64 << 10;

fn baselines(_: &Ctx) -> Outcome {
    let mutex = spin::Mutex::new(0u64);
    let mut buddy = FrameAllocator::<32>::new();
    buddy.add_frame(0x10_0000, 0x10_4000);
    let mut bytes = Box::new([0u8; HEAP]);
    let mut heap = Heap::empty();
    // SAFETY: `bytes` is this heap's alone, and outlives it.
    unsafe { heap.init(bytes.as_mut_ptr(), HEAP) };
    let layout = Layout::new::<[u64; 8]>();
    let outcome = quietly(|| {
        plain("spin-mutex", || *mutex.lock() += 1)?;
        plain("buddy-alone", || {
            let first = buddy.alloc(black_box(1));
            if let Some(first) = first {
                buddy.dealloc(first, 1);
            }
        })?;
        plain("linked-list-alone", || {
            if let Ok(place) = heap.allocate_first_fit(black_box(layout)) {
                // SAFETY: allocated a line above, with this layout.
                unsafe { heap.deallocate(place, layout) };
            }
        })
    });
    drop(bytes);
    outcome
}

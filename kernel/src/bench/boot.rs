//! The boot: from the machine's first instruction on.

use core::sync::atomic::{AtomicU64, Ordering};

use arena::addr::PAGE_SIZE;

use super::Measured;
use crate::arch::{layout, timer};
use crate::mem::{frame, heap};
use crate::runner::{Ctx, Outcome, item};

item! {
    name: "bench-boot",
    suite: "bench",
    about: "instructions up to the first line and to the first item; memory in use by then",
    run: boot,
}

/// The counter when the first line had been sent, and before the first item.
static FIRST_LINE: AtomicU64 = AtomicU64::new(0);
static FIRST_ITEM: AtomicU64 = AtomicU64::new(0);

/// Notes that the first line has been sent. The counter starts with the machine.
pub fn note_first_line() {
    // Relaxed: read by this CPU.
    FIRST_LINE.store(timer::counter(), Ordering::Relaxed);
}

/// Notes that the first item begins.
pub fn note_first_item() {
    FIRST_ITEM.store(timer::counter(), Ordering::Relaxed);
}

fn boot(_: &Ctx) -> Outcome {
    let exactly = |count| Measured { count, spread: 0 };
    exactly(FIRST_LINE.load(Ordering::Relaxed)).print("boot-to-first-line", 1);
    exactly(FIRST_ITEM.load(Ordering::Relaxed)).print("boot-to-first-item", 1);
    // Bytes, not instructions: what the kernel holds of the machine's memory besides its image.
    exactly(layout::image().end - layout::image().start).print("image-bytes-in-memory", 1);
    exactly(heap::used_bytes() as u64).print("heap-bytes-in-use", 1);
    exactly(frame::in_use() * PAGE_SIZE).print("frame-bytes-in-use", 1);
    Ok(())
}

//! How RAM is divided at boot: image, device tree, heap, and frames for the rest.

use core::ops::Range;

use arena::addr::{Frame, PAGE_SIZE, PhysAddr};

use crate::arch::layout;
use crate::dev::fdt;
use crate::mem::{frame, heap, kmap};

/// The early map reaches to here; memory beyond waits for the final one.
const EARLY_END: u64 = 0x1_0000_0000;
/// One part in this many of RAM is heap: the range trees of arenas and the frame allocator's books
/// live there, both proportional to pages.
const HEAP_PART: u64 = 8;

/// RAM has no run that is large enough.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooSmall {
    /// Bytes that the heap would have needed in one run.
    pub heap_bytes: u64,
}

/// Sets up the heap and gives the frame allocator what the early map reaches.
///
/// # Errors
/// [`TooSmall`].
pub fn first(tree: &fdt::Machine) -> Result<(), TooSmall> {
    let ram: u64 = tree.memory.iter().map(|region| region.bytes).sum();
    let heap_bytes = (ram / HEAP_PART).next_multiple_of(PAGE_SIZE);
    let heap = free_runs(tree)
        .find(|run| run.end - run.start >= heap_bytes && run.start + heap_bytes <= EARLY_END)
        .map(|run| run.start..run.start + heap_bytes)
        .ok_or(TooSmall { heap_bytes })?;
    let start = kmap::to_virt(PhysAddr::new(heap.start)).get() as *mut u8;
    let reserve = heap::reserve_for((ram / PAGE_SIZE) as usize);
    // SAFETY: the run is RAM behind the early map, outside the image and the tree, and is left out
    // of the frames below.
    unsafe { heap::init(start, heap_bytes as usize, reserve) };
    frame::init(ram / PAGE_SIZE).map_err(|_| TooSmall { heap_bytes })?;
    for run in free_runs(tree) {
        let run = if run.start == heap.start { heap.end..run.end } else { run };
        add(run.start..run.end.min(EARLY_END));
    }
    Ok(())
}

/// Gives the frame allocator what only the final map reaches.
pub fn rest(tree: &fdt::Machine) {
    for run in free_runs(tree) {
        add(run.start.max(EARLY_END)..run.end);
    }
}

fn add(run: Range<u64>) {
    if run.start < run.end {
        let [first, end] = [run.start, run.end].map(|at| Frame::containing(PhysAddr::new(at)));
        frame::add(first, end);
    }
}

/// The page-aligned runs of RAM that hold neither the image nor the device tree.
fn free_runs(tree: &fdt::Machine) -> impl Iterator<Item = Range<u64>> {
    let dtb = tree.dtb.base.get()..tree.dtb.base.get() + tree.dtb.bytes;
    let image = layout::image();
    let (low, high) = if dtb.start < image.start { (dtb, image) } else { (image, dtb) };
    tree.memory.iter().flat_map(move |region| {
        let ram = region.base.get()..region.base.get() + region.bytes;
        [
            ram.start..low.start.min(ram.end),
            low.end.max(ram.start)..high.start.min(ram.end),
            high.end.max(ram.start)..ram.end,
        ]
        .map(|run| run.start.next_multiple_of(PAGE_SIZE)..run.end & !(PAGE_SIZE - 1))
        .into_iter()
        .filter(|run| run.start < run.end)
    })
}

//! Filling a page with zeroes by DC ZVA.

use core::arch::asm;

use arena::addr::{PAGE_SIZE, VirtAddr};

/// Block size of DC ZVA for which the loop below is written, as log2 of words (64 bytes).
const BLOCK_LOG2_WORDS: u64 = 4;
/// Blocks cleared in one turn of the loop.
const UNROLL: u64 = 8;

/// Fills the page at `page` with zeroes.
///
/// # Safety
/// `page` is page-aligned, mapped as normal memory, writable, and the caller's alone.
pub unsafe fn page(page: VirtAddr) {
    if dczid() == BLOCK_LOG2_WORDS {
        // SAFETY: passed on.
        unsafe { page_by_dc_zva(page) }
    } else {
        // SAFETY: passed on; the page is a valid range of bytes.
        unsafe { (page.get() as *mut u8).write_bytes(0, PAGE_SIZE as usize) }
    }
}

/// DCZID_EL0: the block size, and above it DZP, set where DC ZVA is prohibited.
fn dczid() -> u64 {
    let dczid;
    // SAFETY: reads a constant register.
    unsafe { asm!("mrs {}, dczid_el0", out(reg) dczid, options(nomem, nostack, preserves_flags)) }
    dczid
}

/// # Safety
/// As [`page`], and DC ZVA is permitted with blocks of 64 bytes.
unsafe fn page_by_dc_zva(page: VirtAddr) {
    let end = page.get() + PAGE_SIZE;
    // SAFETY: the loop writes `UNROLL` blocks of 64 bytes a turn from the page's start to its end,
    // memory that the caller owns.
    unsafe {
        asm!(
            "2:",
            ".rept {unroll}",
            "dc zva, {at}",
            "add {at}, {at}, #64",
            ".endr",
            "cmp {at}, {end}",
            "b.ne 2b",
            unroll = const UNROLL,
            at = inout(reg) page.get() => _,
            end = in(reg) end,
            options(nostack)
        );
    }
}

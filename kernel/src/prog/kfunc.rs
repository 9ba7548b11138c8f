//! kfuncs: kernel functions that programs call. Those that take an arena pointer dereference it in
//! kernel code without checking it; the abort handler is the check.

use core::fmt::{self, Write};

use arena::addr::VirtAddr;
use arena::arena::{AllocError, FreeError};

use crate::prog::program::Program;

/// Allocates pages of the program's arena. Answers to Linux `bpf_arena_alloc_pages()`.
///
/// # Errors
/// The arena's; a program without an arena has no pages.
pub fn arena_alloc_pages(
    program: &Program,
    at: Option<VirtAddr>,
    pages: u32,
) -> Result<VirtAddr, AllocError> {
    program.arena().ok_or(AllocError::NoRange)?.alloc(at, pages)
}

/// Frees pages of the program's arena; under a lock that keeps it from doing so, a worker does later.
/// Answers to Linux `bpf_arena_free_pages()`.
///
/// # Errors
/// The range is not the arena's.
pub fn arena_free_pages(program: &Program, at: VirtAddr, pages: u32) -> Result<(), FreeError> {
    program.arena().ok_or(FreeError::Range(at, pages))?.free_for_program(at, pages)
}

/// Prints a line on the program's stdout stream: bounded, never blocks, drops are counted.
/// Answers to Linux `bpf_stream_vprintk()`.
pub fn stream_print(program: &Program, text: fmt::Arguments<'_>) {
    // A writer never fails: what does not fit is counted by the stream.
    let _ = program.stdout.writer().write_fmt(text);
}

/// Reads the 64-bit word at `at`, which a program chose, as kernel code: one load instruction,
/// retried by the abort handler if the address is unmapped.
#[inline(never)]
pub fn read_word(at: VirtAddr) -> u64 {
    let value;
    // SAFETY: kfuncs are handed arena pointers only, and every address of an arena's window and
    // upper guard is readable or becomes so in the abort handler. Other addresses end in an oops.
    unsafe {
        core::arch::asm!("ldr {value}, [{at}]", value = out(reg) value, at = in(reg) at.get(),
            options(nostack, readonly, preserves_flags));
    }
    value
}

/// Writes the 64-bit word at `at`, which a program chose, as kernel code: one store instruction.
#[inline(never)]
pub fn write_word(at: VirtAddr, value: u64) {
    // SAFETY: as `read_word`; what is written lies in the program's own arena or on its scratch
    // page, never in memory of the kernel's.
    unsafe {
        core::arch::asm!("str {value}, [{at}]", value = in(reg) value, at = in(reg) at.get(),
            options(nostack, preserves_flags));
    }
}

/// A kfunc that pushes no frame record before it touches the arena, as a leaf function or one
/// that the compiler shrink-wrapped does: `x0` is the address, the word there is returned.
#[unsafe(naked)]
pub extern "C" fn leaf_read_word(at: u64) -> u64 {
    core::arch::naked_asm!("ldr x0, [x0]", "ret")
}

/// Reads the byte at `at`, as [`read_word`] does.
#[inline(never)]
pub fn read_byte(at: VirtAddr) -> u8 {
    let value: u32;
    // SAFETY: as `read_word`.
    unsafe {
        core::arch::asm!("ldrb {value:w}, [{at}]", value = out(reg) value, at = in(reg) at.get(),
            options(nostack, readonly, preserves_flags));
    }
    value as u8
}

/// Reads eight bytes as two aligned words of four with one instruction, which may lie on two
/// pages: a single eight-byte load across a page boundary would be an alignment fault first.
#[inline(never)]
pub fn read_pair(at: VirtAddr) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: as `read_word`.
    unsafe {
        core::arch::asm!("ldp {low:w}, {high:w}, [{at}]", low = out(reg) low, high = out(reg) high,
            at = in(reg) at.get(), options(nostack, readonly, preserves_flags));
    }
    u64::from(low) | u64::from(high) << 32
}

/// Words of the struct of [`read_struct`] and [`write_struct`].
const STRUCT_WORDS: u64 = 4;

/// Reads a struct of four words, as kernel code; returns their sum.
#[inline(never)]
pub fn read_struct(at: VirtAddr) -> u64 {
    (0..STRUCT_WORDS).fold(0, |sum, n| read_word(at.offset(8 * n)).wrapping_add(sum))
}

/// Writes a struct of four words, as kernel code: `value` and the three numbers behind it. Returns 0.
#[inline(never)]
pub fn write_struct(at: VirtAddr, value: u64) -> u64 {
    (0..STRUCT_WORDS).for_each(|n| write_word(at.offset(8 * n), value.wrapping_add(n)));
    0
}

/// Sets the first `bits` bits of a mask, word by word, as kernel code: what a kernel does that is given
/// a CPU mask and a number of CPUs. Returns 0.
#[inline(never)]
pub fn fill_mask(at: VirtAddr, bits: u64) -> u64 {
    for n in 0..bits / 64 {
        write_word(at.offset(8 * n), u64::MAX);
    }
    if !bits.is_multiple_of(64) {
        write_word(at.offset(bits / 64 * 8), (1 << (bits % 64)) - 1);
    }
    0
}

/// Jumps to `at`, which a program chose: a kernel that does this is wrong, and must say so.
#[inline(never)]
pub fn call(at: VirtAddr) {
    // SAFETY: nothing in an arena is executable, so the jump ends in an oops.
    unsafe {
        core::arch::asm!("blr {at}", at = in(reg) at.get(), clobber_abi("C"));
    }
}

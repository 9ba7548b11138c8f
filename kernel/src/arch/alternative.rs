//! Branches that are decided once, at boot, by rewriting the instruction: what a CPU has does not change,
//! and looking it up at every use takes three instructions where one will do. Answers to Linux's
//! alternatives and jump labels (`arch/arm64/kernel/alternative.c`, `jump_label.c`).
//!
//! The image has `b without` in each place, right on every CPU; [`decide`] makes it NOP. Both are
//! instructions that may be rewritten while others run them (Arm ARM B2.2.5), though none do yet.

use core::arch::asm;

use arena::addr::VirtAddr;

use super::cache;

const NOP: u32 = 0xd503_201f;

/// Address of a branch, as the assembly below lays it out.
type Site = u64;

// SAFETY: bounds that linker.ld defines; only their addresses are used.
unsafe extern "C" {
    static __lse_sites_start: [Site; 0];
    static __lse_sites_end: [Site; 0];
}

/// Whether the LSE instructions are in use: one NOP or one branch.
#[inline(always)]
pub fn has_lse() -> bool {
    // SAFETY: a branch inside the function, or none; the row is data of the linker's.
    unsafe {
        asm!(
            "2: b {without}",
            ".pushsection .lse_sites, \"a\"",
            ".balign 8",
            ".quad 2b",
            ".popsection",
            without = label { return false; },
            options(nomem, nostack, preserves_flags)
        );
    }
    true
}

/// Makes [`has_lse`] say so from here on, if `lse`. Once.
///
/// # Safety
/// The early map is active, in which text is writable, and no other CPU runs. If `lse`, all CPUs have
/// FEAT_LSE.
pub unsafe fn decide(lse: bool) {
    if !lse {
        return;
    }
    let start = (&raw const __lse_sites_start).cast::<Site>();
    let end = (&raw const __lse_sites_end).cast::<Site>();
    // SAFETY: the linker bounds the table, which holds sites and nothing else.
    let sites = unsafe { core::slice::from_raw_parts(start, end.offset_from_unsigned(start)) };
    for &site in sites {
        // SAFETY: a row of the table is the address of an instruction, aligned as such; writable, and run
        // by nobody else, says the contract. The code here has no site in it.
        unsafe { (site as *mut u32).write_volatile(NOP) };
        cache::publish_code(VirtAddr::new(site), 4);
    }
}

//! TLB maintenance by its architectural names. Arm ARM D8.16, C5.5.
//!
//! One instruction each, without barriers: the caller owes DSB ISHST before (the cleared slot must
//! be visible to every walker: litmus R3-free-no-dsb1) and DSB ISH, ISB after (the invalidation is
//! complete: litmus R4-free-no-dsb2, L6-local-unmap-tlbi-noisb). Those with `is` reach every CPU: a local
//! form leaves the others with a stale translation (litmus R5-free-local-tlbi).

use core::arch::asm;

use arena::addr::VirtAddr;

/// Operand of TLBI by address: VA\[55:12\] in bits 43:0. Always shifted by 12, whatever the
/// granule. Bits 47:44 (TTL) and 63:48 (ASID) are 0: any level, and for the forms over all ASIDs
/// reserved. A kernel address has ones above bit 55; left in place they would read as a level hint,
/// and an invalidation with a wrong hint may do nothing.
pub const fn operand(address: VirtAddr) -> u64 {
    address.get() >> 12 & ((1 << 44) - 1)
}

const _: () = {
    assert!(operand(VirtAddr::new(0xffff_8000_1234_5678)) == 0xff8_0001_2345);
    assert!(operand(VirtAddr::new(0x0000_7fff_ffff_f000)) == 0x7_ffff_ffff);
    assert!(operand(VirtAddr::new(u64::MAX)) >> 44 == 0);
};

/// TLBI VAALE1IS: last-level entries of the page of `address`, all ASIDs, all CPUs.
// One instruction inside budgeted sequences.
#[inline(always)]
pub fn vaale1is(address: VirtAddr) {
    // SAFETY: removing cached translations breaks no memory invariant: they are re-read.
    unsafe {
        asm!("tlbi vaale1is, {}", in(reg) operand(address), options(nostack, preserves_flags))
    }
}

/// TLBI VAALE1: as [`vaale1is`], on this CPU alone.
#[cfg(feature = "lab")]
pub fn vaale1(address: VirtAddr) {
    // SAFETY: as in `vaale1is`.
    unsafe { asm!("tlbi vaale1, {}", in(reg) operand(address), options(nostack, preserves_flags)) }
}

/// TLBI VAAE1IS: as [`vaale1is`], and what walks towards the page have cached.
pub fn vaae1is(address: VirtAddr) {
    // SAFETY: as in `vaale1is`.
    unsafe { asm!("tlbi vaae1is, {}", in(reg) operand(address), options(nostack, preserves_flags)) }
}

/// TLBI VAAE1: as [`vaae1is`], on this CPU alone.
pub fn vaae1(address: VirtAddr) {
    // SAFETY: as in `vaale1is`.
    unsafe { asm!("tlbi vaae1, {}", in(reg) operand(address), options(nostack, preserves_flags)) }
}

/// TLBI VMALLE1IS: everything, all CPUs.
pub fn vmalle1is() {
    // SAFETY: as in `vaale1is`.
    unsafe { asm!("tlbi vmalle1is", options(nostack, preserves_flags)) }
}

/// TLBI ASIDE1IS: everything tagged with `asid`, all CPUs.
pub fn aside1is(asid: u16) {
    let operand = u64::from(asid) << 48;
    // SAFETY: as in `vaale1is`.
    unsafe { asm!("tlbi aside1is, {}", in(reg) operand, options(nostack, preserves_flags)) }
}

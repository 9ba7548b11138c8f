//! Translation control: register values from the CPU's features, and the change to the final map.

use core::arch::asm;

use aarch64_cpu::registers::{Readable, SCTLR_EL1, TCR_EL1, TTBR1_EL1};
use arena::addr::{PhysAddr, VirtAddr};

use super::barrier;
use super::features::CpuFeatures;
use super::user;

/// TCR_EL1.AS: 16-bit ASIDs.
const TCR_AS: u64 = 1 << 36;
/// TCR_EL1.HA: hardware sets the access flag.
const TCR_HA: u64 = 1 << 39;
/// TCR_EL1.HD: hardware clears AP\[2\] of writable-clean descriptors (those with DBM).
const TCR_HD: u64 = 1 << 40;

/// SCTLR_EL1.SPAN: exceptions leave PSTATE.PAN alone; clear, they set it.
const SCTLR_SPAN: u64 = 1 << 23;
/// SCTLR_EL1.WXN: what is writable is not executable.
const SCTLR_WXN: u64 = 1 << 19;
/// SCTLR_EL1 for EL0 tasks: DC ZVA, CTR_EL0, WFI, WFE and cache maintenance by address untrapped,
/// SP checked.
const SCTLR_EL0: u64 = (1 << 14) | (1 << 15) | (1 << 16) | (1 << 18) | (1 << 26) | (1 << 4);

/// TCR_EL1 of the final map: 48-bit halves, 4 KiB granules, no walks through TTBR0.
///
/// Hardware manages the access flag and dirty state where the CPU can (FEAT_HAFDBS): a slot then
/// has a writer that no lock keeps out, which is why it is cleared by an exchange (litmus `D2`;
/// `D1` with load and store).
pub const fn tcr(features: &CpuFeatures) -> u64 {
    let range = features.pa_range as u64;
    let ips = if range > boot::TCR_IPS_MAX { boot::TCR_IPS_MAX } else { range };
    let asid = if features.asid16 { TCR_AS } else { 0 };
    let hardware_updates = match features.hafdbs {
        0 => 0,
        1 => TCR_HA,
        _ => TCR_HA | TCR_HD,
    };
    boot::TCR_FIXED | ips << boot::TCR_IPS_SHIFT | asid | hardware_updates | boot::TCR_EPD0
}

/// SCTLR_EL1 of the final map: MMU, caches, alignment checks, WXN; PAN set on exception entry
/// where the CPU has it.
pub const fn sctlr(features: &CpuFeatures) -> u64 {
    let value = boot::SCTLR_EARLY | SCTLR_WXN | SCTLR_EL0;
    if features.pan { value & !SCTLR_SPAN } else { value }
}

/// Changes this CPU from the early map to the final one. Interrupts may be on or off and stay so.
///
/// # Safety
/// `root` is the root of a complete kernel half, as [`boot::boot_switch_ttbr1`] demands.
pub unsafe fn switch(root: PhysAddr, features: &CpuFeatures) {
    // The tables were written through the cache; walks look there too (TCR_EL1.IRGN, SH).
    barrier::dsb_ish();
    // SAFETY: by contract; TCR and SCTLR come from this CPU's features.
    unsafe { boot::boot_switch_ttbr1(root.get(), tcr(features), sctlr(features)) };
    enable_protections(features);
}

/// Sets PSTATE.PAN and clears PSTATE.UAO where the CPU has them. Once on each CPU.
pub fn enable_protections(features: &CpuFeatures) {
    if features.pan {
        // SAFETY: EL1 loses access to EL0's pages, which it uses nowhere implicitly.
        unsafe { asm!(".arch_extension pan", "msr pan, #1", options(nostack, preserves_flags)) }
    }
    if features.uao {
        // SAFETY: LDTR and STTR get EL0's rights, as without the feature.
        unsafe { asm!(".arch armv8.2-a", "msr uao, #0", options(nostack, preserves_flags)) }
    }
    user::close_to_el0();
}

/// Whether hardware sets the access flag on this CPU, so that a clear one never faults.
pub fn hardware_sets_access_flag() -> bool {
    TCR_EL1.get() & TCR_HA != 0
}

/// What a CPU started now should load: this CPU's map and controls.
pub fn secondary_config() -> boot::SecondaryConfig {
    boot::SecondaryConfig {
        ttbr1: TTBR1_EL1.get(),
        tcr: TCR_EL1.get() & !boot::TCR_EPD0,
        sctlr: SCTLR_EL1.get(),
    }
}

/// Cleans the cache lines of a value to the point of coherency, for a reader whose MMU is off.
pub fn clean_to_memory<T>(value: *const T) {
    // The smallest line that the architecture allows; more steps than needed do no harm.
    const LINE: usize = 16;
    let start = value.addr() & !(LINE - 1);
    for line in (start..value.addr() + size_of::<T>()).step_by(LINE) {
        // SAFETY: cleaning changes no value that a coherent observer sees.
        unsafe { asm!("dc cvac, {}", in(reg) line, options(nostack, preserves_flags)) }
    }
    barrier::dsb_sy();
}

/// What the MMU makes of a read at EL1 (AT S1E1R): the physical address, or PAR_EL1 with F set.
///
/// # Errors
/// PAR_EL1 as it is; its bits 6:1 are the fault status code.
pub fn translate_read(address: VirtAddr) -> Result<PhysAddr, u64> {
    // SAFETY: AT has no effect but on PAR_EL1.
    unsafe { asm!("at s1e1r, {}", in(reg) address.get(), options(nostack, preserves_flags)) }
    translated(address)
}

/// The same for a write (AT S1E1W).
///
/// # Errors
/// As [`translate_read`].
pub fn translate_write(address: VirtAddr) -> Result<PhysAddr, u64> {
    // SAFETY: as above.
    unsafe { asm!("at s1e1w, {}", in(reg) address.get(), options(nostack, preserves_flags)) }
    translated(address)
}

/// Decodes PAR_EL1 after an AT. Interrupts between the two would have to use AT themselves to
/// spoil it; none does.
fn translated(address: VirtAddr) -> Result<PhysAddr, u64> {
    let par: u64;
    // SAFETY: reads a register; the ISB makes the AT visible to it.
    unsafe { asm!("isb", "mrs {}, par_el1", out(reg) par, options(nostack, preserves_flags)) }
    if par & 1 != 0 {
        return Err(par);
    }
    Ok(PhysAddr::new(par & 0x000f_ffff_ffff_f000 | address.get() & 0xfff))
}

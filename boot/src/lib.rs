//! From reset to Rust, and what holds when Rust begins.
//!
//! The image starts as an ELF (x0 = 0, device tree at the start of RAM) or as a flat arm64 Image
//! (x0 = device tree). Both begin at `boot_entry`, at EL1 or EL2, with the MMU off.
//!
//! # What holds at `kernel_main(dtb: u64, entry_el: u64) -> !`
//! - EL1, SP_EL1 selected, interrupts D, A, I and F masked.
//! - MMU and caches on. TTBR1 holds the *early map*: `DIRECT_BASE + pa` for pa below 4 GiB, in
//!   1 GiB blocks; the first is device memory, the others are normal memory that EL1 may read,
//!   write and execute. TTBR0 walks are off (TCR_EL1.EPD0).
//! - The program counter and every symbol are at `DIRECT_BASE` + physical.
//! - .bss is zero. Nothing was written to memory before the MMU was on, so no cache maintenance is
//!   owed and no exclusive or atomic access was made on device memory.
//! - SP is at the top of CPU 0's stack slot and x29 is 0: the chain of frame records ends there.
//! - VBAR_EL1 points to `boot_vectors`; TPIDR_EL1 to element 0 of `kernel_percpu`.
//! - `dtb` is x0 at entry (a physical address, or 0 for an ELF), not checked in any way;
//!   `entry_el` is 1 or 2.
//!
//! # What holds at `secondary_entry(cpu: u64) -> !`
//! The same, for the stack, per-CPU block and masks of `cpu`, except that TTBR1, TCR and SCTLR are
//! those of [`SecondaryConfig`], which the starting CPU filled and cleaned to the point of
//! coherency before CPU_ON.
//!
//! # What the kernel owes
//! The functions that `vectors.S` calls (`trap_*`), `kernel_main`, `secondary_entry`, and
//! the per-CPU array `kernel_percpu`. Interrupts stay masked inside every `trap_*` function.
#![no_std]

use core::arch::global_asm;

/// Virtual address of physical address 0 in the kernel's half.
pub const DIRECT_BASE: u64 = 0xffff_0000_0000_0000;
/// Physical address of the first byte of the image; `linker.ld` gives the reason.
pub const IMAGE_PHYS: u64 = 0x4020_0000;
/// CPUs that have a stack and a per-CPU block.
pub const MAX_CPUS: usize = 8;

/// Distance of two CPUs' stacks in bytes. A slot is aligned to its size; its lower half is a hole
/// that the kernel's map leaves out, its upper half the stack: a valid SP has bit 15 set once
/// a trap frame has been subtracted, which is what the vectors test.
pub const STACK_SLOT: usize = 64 * 1024;
/// Usable bytes of a stack: the upper half of its slot.
pub const STACK_SIZE: usize = STACK_SLOT / 2;
/// Bit of SP that is set on a stack and clear in the hole below it.
pub const STACK_BIT: u32 = STACK_SIZE.trailing_zeros();
/// Distance of two CPUs' emergency stacks in bytes: a guard page below, then the stack.
pub const EMERGENCY_SLOT: usize = EMERGENCY_GUARD + EMERGENCY_STACK_SIZE;
/// Bytes below an emergency stack that the kernel's map leaves out.
pub const EMERGENCY_GUARD: usize = 4096;
/// Usable bytes of an emergency stack.
pub const EMERGENCY_STACK_SIZE: usize = 16 * 1024;

/// Bytes of the frame that the vectors push; `arch::trap::TrapFrame` asserts the same.
pub const TRAP_FRAME_SIZE: usize = 304;
/// Bytes of one element of the kernel's per-CPU array, the symbol `kernel_percpu`.
pub const PERCPU_STRIDE: usize = 512;
/// Offset in a per-CPU block of the address one past its emergency stack.
pub const PERCPU_EMERGENCY_TOP: usize = 8;

/// MAIR_EL1. Attr0: normal, write-back, read- and write-allocate. Attr1: device nGnRE.
pub const MAIR: u64 = 0xff | (0x04 << 8);
/// MAIR index of normal memory.
pub const MAIR_NORMAL: u64 = 0;
/// MAIR index of device memory.
pub const MAIR_DEVICE: u64 = 1;

/// TCR_EL1 without IPS and AS: both halves 48 bits (T0SZ, T1SZ = 16), 4 KiB granules (TG0 = 0,
/// TG1 = 2), walks inner-shareable, write-back, write-allocate.
pub const TCR_FIXED: u64 = tcr_half(0) | tcr_half(16) | (0b10 << 30);
/// TCR_EL1.IPS: position of the physical address size.
pub const TCR_IPS_SHIFT: u32 = 32;
/// TCR_EL1.IPS of 48 bits, the most that a 4 KiB granule takes without FEAT_LPA2.
pub const TCR_IPS_MAX: u64 = 5;
/// TCR_EL1.EPD0: no walks through TTBR0.
pub const TCR_EPD0: u64 = 1 << 7;

/// SCTLR_EL1 with the MMU and caches off: only the bits that the architecture calls RES1 when
/// the feature that gives them a meaning is absent, so that the same value is right everywhere:
/// LSMAOE, nTLSMD, SPAN, EIS, TSCXT, EOS, SED, ITD.
pub const SCTLR_OFF: u64 =
    (1 << 29) | (1 << 28) | (1 << 23) | (1 << 22) | (1 << 20) | (1 << 11) | (1 << 8) | (1 << 7);
/// SCTLR_EL1 for the early map: MMU, data and instruction cache, alignment checks of accesses and
/// of SP at EL1. No WXN: the early map is writable and executable.
pub const SCTLR_EARLY: u64 = SCTLR_OFF | 1 | (1 << 1) | (1 << 2) | (1 << 3) | (1 << 12);

/// Level 1 block, normal memory, EL1 read, write, execute (AF, inner-shareable, UXN).
const BLOCK_NORMAL: u64 = 0x0040_0000_0000_0701;
/// The same without write permission: executable under WXN.
const BLOCK_IDMAP: u64 = BLOCK_NORMAL | (1 << 7);
/// Level 1 block, device memory, EL1 read, write, never executable.
const BLOCK_DEVICE: u64 = 0x0060_0000_0000_0401 | (MAIR_DEVICE << 2);

/// One half of TCR_EL1: size 48 bits, IRGN, ORGN write-back write-allocate, SH inner.
const fn tcr_half(shift: u32) -> u64 {
    (16 | (0b01 << 8) | (0b01 << 10) | (0b11 << 12)) << shift
}

/// What a CPU started by PSCI loads before it turns its MMU on. Read with the MMU off.
#[repr(C)]
#[derive(Debug)]
pub struct SecondaryConfig {
    /// Physical address of the root table of the kernel's half.
    pub ttbr1: u64,
    /// TCR_EL1 with EPD0 clear; EPD0 is set once the CPU runs high.
    pub tcr: u64,
    /// SCTLR_EL1, MMU on.
    pub sctlr: u64,
}

// SAFETY: labels of the assembly files and of linker.ld, with the types that they have there.
unsafe extern "C" {
    /// Exception vectors, for VBAR_EL1.
    pub static boot_vectors: [u8; 2048];
    /// Stack slots of all CPUs, [`STACK_SLOT`] bytes each.
    pub static boot_stacks: [u8; MAX_CPUS * STACK_SLOT];
    /// Emergency stacks of all CPUs, [`EMERGENCY_SLOT`] bytes each.
    pub static boot_emergency_stacks: [u8; MAX_CPUS * EMERGENCY_SLOT];
    /// Root of the early map.
    pub static boot_early_l0: [u64; 512];
    /// Root of the identity map: the image's 1 GiB, read and execute.
    pub static boot_idmap_l0: [u64; 512];
    /// A root that maps nothing.
    pub static boot_empty_l0: [u64; 512];
    /// What started CPUs load; written by the starting CPU only.
    pub static mut boot_secondary_config: SecondaryConfig;

    /// Where CPU_ON must send a CPU (call it by its physical address); x0 = index of the CPU.
    pub fn boot_secondary_entry(cpu: u64) -> !;

    /// Goes to EL0 as the frame at `frame` says, and returns when an exception comes from there,
    /// the interrupted state saved in the frame: 0 synchronous, 1 IRQ, 2 FIQ, 3 SError. All of
    /// D, A, I and F are masked on return; an interrupt is still pending then.
    ///
    /// # Safety
    /// - `frame` is a trap frame of [`TRAP_FRAME_SIZE`] bytes and behind it one word, 16-byte
    ///   aligned, in the kernel's half and this CPU's alone until the return.
    /// - Its SPSR is of EL0, and what EL0 can reach then is nothing of the kernel's.
    pub fn boot_run_user(frame: *mut u8) -> u64;

    /// Replaces this CPU's kernel half, TCR and SCTLR, with the whole half broken in between:
    /// an empty root, TLBI VMALLE1, DSB, ISB, then the new root (break-before-make of the root:
    /// Arm ARM D8.16.1). Runs from the identity map; leaves TTBR0 walks off and DAIF as it was.
    ///
    /// # Safety
    /// - `ttbr1` is the physical address of a root table that maps the image where it is mapped
    ///   now, text executable and not writable, this CPU's stack and per-CPU block writable.
    /// - `tcr` and `sctlr` are valid for this CPU; `tcr` has 48-bit halves and 4 KiB granules.
    /// - No other CPU relies on this CPU's old map.
    pub fn boot_switch_ttbr1(ttbr1: u64, tcr: u64, sctlr: u64);
}

global_asm!(
    include_str!("head.S"),
    include_str!("secondary.S"),
    include_str!("vectors.S"),
    DIRECT_BASE = const DIRECT_BASE,
    IMAGE_PHYS = const IMAGE_PHYS,
    TEXT_OFFSET = const IMAGE_PHYS & 0x3f_ffff,
    MAX_CPUS = const MAX_CPUS,
    STACK_SLOT = const STACK_SLOT,
    STACK_BIT = const STACK_BIT,
    EMERGENCY_SLOT = const EMERGENCY_SLOT,
    EMERGENCY_STACK_SIZE = const EMERGENCY_STACK_SIZE,
    FRAME = const TRAP_FRAME_SIZE,
    PERCPU_STRIDE = const PERCPU_STRIDE,
    PERCPU_EMERGENCY_TOP = const PERCPU_EMERGENCY_TOP,
    MAIR = const MAIR,
    TCR_FIXED = const TCR_FIXED,
    TCR_IPS_SHIFT = const TCR_IPS_SHIFT,
    TCR_IPS_MAX = const TCR_IPS_MAX,
    TCR_EPD0 = const TCR_EPD0,
    SCTLR_OFF = const SCTLR_OFF,
    SCTLR_EARLY = const SCTLR_EARLY,
    BLOCK_NORMAL = const BLOCK_NORMAL,
    BLOCK_IDMAP = const BLOCK_IDMAP,
    BLOCK_DEVICE = const BLOCK_DEVICE,
    UART = const 0x0900_0000,
);

//! Loads and stores that may fault, and the table that lets the fault path step over them.
//!
//! Each is one instruction of its width, with a row in the section `.ex_table`: address of the
//! instruction, address of its fixup, two words of 64 bits. When that instruction faults, the fault
//! path sets ELR to [`Row::fixup`] and returns: the code there zeroes the destination, sets the error
//! flag and goes on behind the instruction. No register but those two changes. Linux has the same
//! in `arch/arm64/mm/extable.c`.
//!
//! The addresses may be anything at all; alignment is the caller's affair (SCTLR_EL1.A is on, so an
//! unaligned access is a fault as well, and reported as one).

use core::arch::asm;

use arena::addr::VirtAddr;

/// A row of the fixup table, as the assembly below lays it out.
#[repr(C)]
#[derive(Debug)]
pub struct Row {
    /// Address of the instruction that may fault.
    instruction: u64,
    /// Where to go on if it did; the access then counts as failed.
    pub fixup: u64,
}

/// The access faulted and was stepped over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Faulted;

// SAFETY: bounds that linker.ld defines; only their addresses are used.
unsafe extern "C" {
    static __ex_table_start: [Row; 0];
    static __ex_table_end: [Row; 0];
}

/// The row of the instruction at `pc`, if it is allowed to fault. A linear search of a few dozen
/// rows; touches read-only memory only.
pub fn row_of(pc: VirtAddr) -> Option<&'static Row> {
    let start = (&raw const __ex_table_start).cast::<Row>();
    let end = (&raw const __ex_table_end).cast::<Row>();
    // SAFETY: the linker bounds the table, which holds rows and nothing else.
    let rows = unsafe { core::slice::from_raw_parts(start, end.offset_from_unsigned(start)) };
    rows.iter().find(|row| row.instruction == pc.get())
}

/// The instruction in `$text` at label 2 with its row and fixup; `$zero` empties the destination.
macro_rules! may_fault {
    ($text:literal, $zero:literal, $($binding:tt)*) => {{
        let failed: u64;
        // SAFETY: one access, which either happens or is stepped over by its row; what it may
        // touch is the calling function's contract.
        unsafe {
            asm!(
                "mov {failed}, xzr",
                concat!("2: ", $text),
                "3:",
                ".pushsection .text.fixup, \"ax\"",
                concat!("4: ", $zero),
                "mov {failed}, #1",
                "b 3b",
                ".popsection",
                ".pushsection .ex_table, \"a\"",
                ".balign 8",
                ".quad 2b, 4b",
                ".popsection",
                failed = out(reg) failed,
                $($binding)*,
                options(nostack, preserves_flags)
            );
        }
        failed
    }};
}

macro_rules! load {
    ($(#[$doc:meta])* $vis:vis fn $name:ident -> $ty:ty, $text:literal) => {
        $(#[$doc])*
        ///
        /// # Errors
        /// [`Faulted`] if the load faulted.
        $vis fn $name(address: VirtAddr) -> Result<$ty, Faulted> {
            let value: u64;
            let failed = may_fault!(
                $text, "mov {value}, xzr",
                value = out(reg) value, address = in(reg) address.get()
            );
            if failed == 0 { Ok(value as $ty) } else { Err(Faulted) }
        }
    };
}

macro_rules! store {
    ($(#[$doc:meta])* $vis:vis unsafe fn $name:ident($ty:ty), $text:literal) => {
        $(#[$doc])*
        ///
        /// # Errors
        /// [`Faulted`] if the store faulted; nothing was written.
        ///
        /// # Safety
        /// If something is mapped and writable at `address`, no Rust value lives there.
        $vis unsafe fn $name(address: VirtAddr, value: $ty) -> Result<(), Faulted> {
            let value = u64::from(value);
            let failed = may_fault!(
                $text, "nop",
                value = in(reg) value, address = in(reg) address.get()
            );
            if failed == 0 { Ok(()) } else { Err(Faulted) }
        }
    };
}

load!(
    /// Reads a byte, or learns that it cannot.
    pub fn probe_read_u8 -> u8, "ldrb {value:w}, [{address}]"
);
load!(
    /// Reads two bytes, or learns that it cannot.
    pub fn probe_read_u16 -> u16, "ldrh {value:w}, [{address}]"
);
load!(
    /// Reads four bytes, or learns that it cannot.
    pub fn probe_read_u32 -> u32, "ldr {value:w}, [{address}]"
);
load!(
    /// Reads eight bytes, or learns that it cannot.
    pub fn probe_read_u64 -> u64, "ldr {value}, [{address}]"
);
load!(
    /// Reads a byte with EL0's rights (LDTR), or learns that a task could not. PSTATE.UAO is clear, so
    /// the kernel's half is out of reach, and PSTATE.PAN does not matter.
    pub fn user_read_u8 -> u8, "ldtrb {value:w}, [{address}]"
);
store!(
    /// Writes a byte, or learns that it cannot.
    pub unsafe fn probe_write_u8(u8), "strb {value:w}, [{address}]"
);
store!(
    /// Writes two bytes, or learns that it cannot.
    pub unsafe fn probe_write_u16(u16), "strh {value:w}, [{address}]"
);
store!(
    /// Writes four bytes, or learns that it cannot.
    pub unsafe fn probe_write_u32(u32), "str {value:w}, [{address}]"
);
store!(
    /// Writes eight bytes, or learns that it cannot.
    pub unsafe fn probe_write_u64(u64), "str {value}, [{address}]"
);

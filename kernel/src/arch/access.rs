//! Loads and stores that may fault, and the table that lets the fault path step over them.
//!
//! Each is one instruction of its width, with a row in the section `.ex_table`: address of the
//! instruction, address of its fixup, and a word of [`Row::WRITES`] and [`Row::TRIAL`]: three words of 64
//! bits. When that instruction faults, the fault
//! path sets ELR to [`Row::fixup`] and returns: the code there zeroes the destination, sets the error
//! flag and goes on behind the instruction. No register but those two changes. Linux has the same
//! in `arch/arm64/mm/extable.c`.
//!
//! The addresses may be anything at all; alignment is the caller's affair (SCTLR_EL1.A is on, so an
//! unaligned access is a fault as well, and reported as one).

mod rmw;

use core::arch::asm;
use core::sync::atomic::{AtomicU16, Ordering};

use arena::addr::VirtAddr;

/// A row of the fixup table, as the assembly below lays it out.
#[repr(C)]
#[derive(Debug)]
pub struct Row {
    /// Address of the instruction that may fault.
    instruction: u64,
    /// Where to go on if it did; the access then counts as failed.
    pub fixup: u64,
    /// [`Row::WRITES`] and [`Row::TRIAL`], or 0.
    traits: u64,
}

impl Row {
    /// The access is a write, though the half of it that faults may be a read.
    const WRITES: u64 = 1;
    /// A fault of the access is what its caller wants to know: it is stepped over, whatever is mapped
    /// by now.
    const TRIAL: u64 = 2;

    /// Whether the access is a write whatever ESR.WnR says.
    pub const fn is_write(&self) -> bool {
        self.traits & Self::WRITES != 0
    }

    /// Whether the access must not be retried.
    pub const fn is_trial(&self) -> bool {
        self.traits & Self::TRIAL != 0
    }
}

pub use rmw::probe_atomic;

/// The access faulted and was stepped over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Faulted;

// SAFETY: bounds that linker.ld defines; only their addresses are used.
unsafe extern "C" {
    static __ex_table_start: [Row; 0];
    static __ex_table_end: [Row; 0];
}

/// Places of [`INDEX`]: a power of two.
const PLACES: usize = 1024;

/// Where the row of an instruction is: its place in the table plus one, 0 if there is none. A hash table
/// with linear probing, at most half full, so that a miss soon meets a 0.
static INDEX: [AtomicU16; PLACES] = [const { AtomicU16::new(0) }; PLACES];

/// Makes the index of the table. Once, before the first access that may fault and before other CPUs run.
///
/// # Errors
/// How many rows there are, if they are too many.
pub fn init() -> Result<(), usize> {
    let rows = rows();
    if rows.len() > PLACES / 2 {
        return Err(rows.len());
    }
    for (number, row) in (1..).zip(rows) {
        let free = probe(row.instruction).find(|entry| entry.load(Ordering::Relaxed) == 0);
        // Relaxed, as all here: other CPUs start later.
        free.into_iter().for_each(|entry| entry.store(number, Ordering::Relaxed));
    }
    Ok(())
}

/// The row of the instruction at `pc`, if it is allowed to fault. A dozen instructions for a hit; touches
/// memory that is never unmapped. Answers to Linux `search_exception_tables()`.
#[inline]
pub fn row_of(pc: VirtAddr) -> Option<&'static Row> {
    for entry in probe(pc.get()) {
        let place = entry.load(Ordering::Relaxed).checked_sub(1)?;
        let row = (&raw const __ex_table_start).cast::<Row>().wrapping_add(place.into());
        // SAFETY: `init` put the places of rows into the index, plus one, and nothing else.
        let row = unsafe { &*row };
        if row.instruction == pc.get() {
            return Some(row);
        }
    }
    None
}

/// The entries that may be those of the instruction at `pc`, in order.
#[inline(always)]
fn probe(pc: u64) -> impl Iterator<Item = &'static AtomicU16> {
    // Instructions are words.
    let first = (pc / 4) as usize;
    (0..PLACES).map(move |n| &INDEX[(first + n) % PLACES])
}

fn rows() -> &'static [Row] {
    let start = (&raw const __ex_table_start).cast::<Row>();
    let end = (&raw const __ex_table_end).cast::<Row>();
    // SAFETY: the linker bounds the table, which holds rows and nothing else.
    unsafe { core::slice::from_raw_parts(start, end.offset_from_unsigned(start)) }
}

/// The instruction in `$text` at label 2 with its row and fixup; `$zero` empties the destination,
/// `$traits` is [`Row::traits`].
macro_rules! may_fault {
    ($text:expr, $zero:literal, $traits:literal, $($binding:tt)*) => {{
        let failed: u64;
        // SAFETY: one access, which either happens or is stepped over by its row; what it may
        // touch is the calling function's contract.
        unsafe {
            asm!(
                "mov {failed}, xzr",
                $text,
                "3:",
                ".pushsection .text.fixup, \"ax\"",
                concat!("4: ", $zero),
                "mov {failed}, #1",
                "b 3b",
                ".popsection",
                ".pushsection .ex_table, \"a\"",
                ".balign 8",
                concat!(".quad 2b, 4b, ", $traits),
                ".popsection",
                failed = out(reg) failed,
                $($binding)*,
                options(nostack, preserves_flags)
            );
        }
        failed
    }};
}
use may_fault;

macro_rules! load {
    ($(#[$doc:meta])* $vis:vis fn $name:ident -> $ty:ty, $text:literal) => {
        $(#[$doc])*
        ///
        /// # Errors
        /// [`Faulted`] if the load faulted.
        $vis fn $name(address: VirtAddr) -> Result<$ty, Faulted> {
            let value: u64;
            let failed = may_fault!(
                concat!("2: ", $text), "mov {value}, xzr", 0,
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
                concat!("2: ", $text), "nop", 0,
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
    /// Reads a byte with acquire semantics, or learns that it cannot.
    pub fn probe_acquire_u8 -> u8, "ldarb {value:w}, [{address}]"
);
load!(
    /// Reads two bytes with acquire semantics, or learns that it cannot.
    pub fn probe_acquire_u16 -> u16, "ldarh {value:w}, [{address}]"
);
load!(
    /// Reads four bytes with acquire semantics, or learns that it cannot.
    pub fn probe_acquire_u32 -> u32, "ldar {value:w}, [{address}]"
);
load!(
    /// Reads eight bytes with acquire semantics, or learns that it cannot.
    pub fn probe_acquire_u64 -> u64, "ldar {value}, [{address}]"
);
load!(
    /// Reads a byte with EL0's rights (LDTR), or learns that a task could not. PSTATE.UAO is clear, so
    /// the kernel's half is out of reach, and PSTATE.PAN does not matter.
    pub fn user_read_u8 -> u8, "ldtrb {value:w}, [{address}]"
);
store!(
    /// Writes eight bytes with EL0's rights, as [`user_read_u8`].
    pub unsafe fn user_write_u64(u64), "sttr {value}, [{address}]"
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
store!(
    /// Writes a byte with release semantics, or learns that it cannot.
    pub unsafe fn probe_release_u8(u8), "stlrb {value:w}, [{address}]"
);
store!(
    /// Writes two bytes with release semantics, or learns that it cannot.
    pub unsafe fn probe_release_u16(u16), "stlrh {value:w}, [{address}]"
);
store!(
    /// Writes four bytes with release semantics, or learns that it cannot.
    pub unsafe fn probe_release_u32(u32), "stlr {value:w}, [{address}]"
);
store!(
    /// Writes eight bytes with release semantics, or learns that it cannot.
    pub unsafe fn probe_release_u64(u64), "stlr {value}, [{address}]"
);

/// Reads eight bytes, once: a fault is told, though the page may be there by now. Everything else that
/// may fault is retried then.
///
/// # Errors
/// [`Faulted`] if the load faulted.
pub fn trial_read_u64(address: VirtAddr) -> Result<u64, Faulted> {
    let value: u64;
    let failed = may_fault!(
        "2: ldr {value}, [{address}]", "mov {value}, xzr", 2,
        value = out(reg) value, address = in(reg) address.get()
    );
    if failed == 0 { Ok(value) } else { Err(Faulted) }
}

/// Writes eight bytes, once, as [`trial_read_u64`].
///
/// # Errors
/// [`Faulted`] if the store faulted; nothing was written.
///
/// # Safety
/// As [`probe_write_u64`].
pub unsafe fn trial_write_u64(address: VirtAddr, value: u64) -> Result<(), Faulted> {
    let failed = may_fault!(
        "2: str {value}, [{address}]", "nop", 2,
        value = in(reg) value, address = in(reg) address.get()
    );
    if failed == 0 { Ok(()) } else { Err(Faulted) }
}

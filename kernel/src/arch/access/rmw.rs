//! Read-modify-write on words that may be unmapped, for programs: one LSE instruction where all CPUs
//! have FEAT_LSE, an exclusive pair elsewhere; acquire and release both (RFC 9669, 5.3: atomics that
//! fetch are sequentially consistent).
//!
//! A fault of any of these is a write's, as Linux counts it, whatever ESR.WnR says of the half that
//! faulted.

use core::arch::asm;

use arena::addr::VirtAddr;
use bpf::vm::AtomicOp;

use super::{Faulted, may_fault};
use crate::arch::atomic::uses_lse;

/// Changes the word of 8 bytes at `address`, or of 4 if not `wide`; returns the old value.
///
/// # Errors
/// [`Faulted`] if it faulted; nothing was written.
///
/// # Safety
/// As for [`probe_write_u64`](super::probe_write_u64). The address is a multiple of the width.
pub unsafe fn probe_atomic(
    address: VirtAddr,
    wide: bool,
    op: AtomicOp,
    operand: u64,
) -> Result<u64, Faulted> {
    match (uses_lse(), wide) {
        (true, true) => lse_double(address, op, operand),
        (true, false) => lse_word(address, op, operand),
        (false, true) => pair_double(address, op, operand),
        (false, false) => pair_word(address, op, operand),
    }
}

/// The operations by one LSE instruction; `$r` makes registers of the width.
macro_rules! lse {
    ($name:ident, $r:literal) => {
        fn $name(address: VirtAddr, op: AtomicOp, operand: u64) -> Result<u64, Faulted> {
            macro_rules! fetch {
                ($text:literal, $operand:expr) => {{
                    let value: u64;
                    let failed = may_fault!(
                        concat!(".arch_extension lse\n 2: ", $text, " {operand", $r, "}, {value", $r, "}, [{address}]"),
                        "mov {value}, xzr", 1,
                        value = out(reg) value, operand = in(reg) $operand,
                        address = in(reg) address.get()
                    );
                    if failed == 0 { Ok(value) } else { Err(Faulted) }
                }};
            }
            match op {
                AtomicOp::Add => fetch!("ldaddal", operand),
                AtomicOp::Or => fetch!("ldsetal", operand),
                AtomicOp::And => fetch!("ldclral", !operand),
                AtomicOp::Xor => fetch!("ldeoral", operand),
                AtomicOp::Exchange => fetch!("swpal", operand),
                AtomicOp::CompareExchange(expected) => {
                    let value: u64;
                    let failed = may_fault!(
                        concat!(".arch_extension lse\n 2: casal {value", $r, "}, {operand", $r, "}, [{address}]"),
                        "mov {value}, xzr", 1,
                        value = inout(reg) expected => value, operand = in(reg) operand,
                        address = in(reg) address.get()
                    );
                    if failed == 0 { Ok(value) } else { Err(Faulted) }
                }
            }
        }
    };
}

lse!(lse_double, "");
lse!(lse_word, ":w");

/// An exclusive pair around `$make`, which makes `{new}` of `{value}` and `{operand}`. Either half may
/// fault.
macro_rules! exclusive {
    ($r:literal, $make:expr, $address:ident, $operand:ident, $($binding:tt)*) => {{
        let (value, failed): (u64, u64);
        // SAFETY: as in `may_fault`; the loop ends as every exclusive pair's does.
        unsafe {
            asm!(
                "mov {failed}, xzr",
                concat!("2: ldaxr {value", $r, "}, [{address}]"),
                $make,
                concat!("5: stlxr {status:w}, {new", $r, "}, [{address}]"),
                "cbnz {status:w}, 2b",
                "3:",
                ".pushsection .text.fixup, \"ax\"",
                "4: mov {value}, xzr",
                "mov {failed}, #1",
                "b 3b",
                ".popsection",
                ".pushsection .ex_table, \"a\"",
                ".balign 8",
                ".quad 2b, 4b, 1",
                ".quad 5b, 4b, 1",
                ".popsection",
                failed = out(reg) failed, value = out(reg) value, new = out(reg) _,
                status = out(reg) _, operand = in(reg) $operand, address = in(reg) $address.get(),
                $($binding)*
                options(nostack, preserves_flags)
            );
        }
        if failed == 0 { Ok(value) } else { Err(Faulted) }
    }};
}

/// The operations by an exclusive pair.
macro_rules! pair {
    ($name:ident, $r:literal) => {
        fn $name(address: VirtAddr, op: AtomicOp, operand: u64) -> Result<u64, Faulted> {
            macro_rules! with {
                ($text:literal) => {
                    exclusive!(
                        $r,
                        concat!($text, " {new", $r, "}, {value", $r, "}, {operand", $r, "}"),
                        address,
                        operand,
                    )
                };
            }
            match op {
                AtomicOp::Add => with!("add"),
                AtomicOp::Or => with!("orr"),
                AtomicOp::And => with!("and"),
                AtomicOp::Xor => with!("eor"),
                AtomicOp::Exchange => exclusive!($r, "mov {new}, {operand}", address, operand,),
                AtomicOp::CompareExchange(expected) => exclusive!(
                    $r,
                    concat!(
                        "sub {new", $r, "}, {value", $r, "}, {expected", $r, "}\n",
                        "cbnz {new", $r, "}, 3f\n mov {new}, {operand}"
                    ),
                    address,
                    operand,
                    expected = in(reg) expected,
                ),
            }
        }
    };
}

pair!(pair_double, "");
pair!(pair_word, ":w");

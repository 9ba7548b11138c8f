//! Arithmetic of both widths (RFC 9669, 4.1 and 4.2).

use crate::insn::{ADDR_SPACE_CAST, CAST_KERN, CAST_USER, Insn, alu, class};
use crate::vm::ARENA_USER_BASE;

/// The new value of the destination `dst`; `None` if there is no such instruction. `operand` is
/// sign-extended if it is an immediate.
#[inline(always)]
pub(super) fn result(insn: Insn, dst: u64, operand: u64) -> Option<u64> {
    match insn.op() {
        alu::MOV => moved(insn, operand),
        alu::END => swapped(insn, dst),
        _ if insn.class() == class::ALU64 => wide(insn, dst, operand),
        _ => narrow(insn, dst as u32, operand as u32).map(u64::from),
    }
}

macro_rules! arithmetic {
    ($(#[$doc:meta])* $name:ident, $unsigned:ty, $signed:ty) => {
        $(#[$doc])*
        fn $name(insn: Insn, dst: $unsigned, operand: $unsigned) -> Option<$unsigned> {
            let (signed, by) = (dst as $signed, operand as $signed);
            // Only the low bits of a shift's operand count.
            let bits = operand as u32;
            Some(match (insn.op(), insn.off) {
                (alu::ADD, 0) => dst.wrapping_add(operand),
                (alu::SUB, 0) => dst.wrapping_sub(operand),
                (alu::MUL, 0) => dst.wrapping_mul(operand),
                (alu::OR, 0) => dst | operand,
                (alu::AND, 0) => dst & operand,
                (alu::XOR, 0) => dst ^ operand,
                (alu::NEG, 0) => dst.wrapping_neg(),
                (alu::LSH, 0) => dst.wrapping_shl(bits),
                (alu::RSH, 0) => dst.wrapping_shr(bits),
                (alu::ARSH, 0) => signed.wrapping_shr(bits) as $unsigned,
                (alu::DIV, 0) => dst.checked_div(operand).unwrap_or(0),
                (alu::DIV, 1) if by == 0 => 0,
                (alu::DIV, 1) => signed.wrapping_div(by) as $unsigned,
                (alu::MOD, 0) => dst.checked_rem(operand).unwrap_or(dst),
                (alu::MOD, 1) if by == 0 => dst,
                (alu::MOD, 1) => signed.wrapping_rem(by) as $unsigned,
                _ => return None,
            })
        }
    };
}

arithmetic!(
    /// Class ALU64.
    wide, u64, i64
);
arithmetic!(
    /// Class ALU, on the low halves.
    narrow, u32, i32
);

/// Moves, sign-extending moves, and casts between address spaces.
fn moved(insn: Insn, operand: u64) -> Option<u64> {
    let is_wide = insn.class() == class::ALU64;
    let value = match (insn.off, insn.imm, insn.is_x()) {
        (0, _, _) => operand,
        (ADDR_SPACE_CAST, CAST_KERN, true) if is_wide => operand & 0xffff_ffff,
        (ADDR_SPACE_CAST, CAST_USER, true) if is_wide => match operand & 0xffff_ffff {
            0 => 0,
            low => ARENA_USER_BASE | low,
        },
        (8, _, true) => operand as i8 as u64,
        (16, _, true) => operand as i16 as u64,
        (32, _, true) if is_wide => operand as i32 as u64,
        _ => return None,
    };
    Some(if is_wide { value } else { value & 0xffff_ffff })
}

/// Byte order. The machine is little-endian: in class ALU the source bit asks for big, in class ALU64
/// the bytes are swapped whatever they are.
fn swapped(insn: Insn, dst: u64) -> Option<u64> {
    let swap = match (insn.class(), insn.is_x()) {
        (class::ALU, is_big) => is_big,
        (_, false) => true,
        (_, true) => return None,
    };
    Some(match (insn.imm, swap) {
        (16, false) => dst & 0xffff,
        (32, false) => dst & 0xffff_ffff,
        (64, false) => dst,
        (16, true) => u64::from((dst as u16).swap_bytes()),
        (32, true) => u64::from((dst as u32).swap_bytes()),
        (64, true) => dst.swap_bytes(),
        _ => return None,
    })
}

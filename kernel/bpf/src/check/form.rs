//! The form of single instructions, and where jumps go: what can be said without following a path.

use alloc::vec::Vec;

use super::{Reason, Rejection, filled, is_wide};
use crate::insn::{
    self, ADDR_SPACE_CAST, CAST_KERN, CAST_USER, Insn, R10, Width, alu, atomic, call, class, jmp,
    mode, wide,
};

/// Checks every instruction by itself; returns where jumps and calls go.
pub fn leaders(insns: &[Insn]) -> Result<Vec<bool>, Rejection> {
    let no_memory = Rejection { insn: 0, reason: Reason::NoMemory };
    let mut leaders = filled(insns.len(), false).ok_or(no_memory)?;
    let mut halves = filled(insns.len(), false).ok_or(no_memory)?;
    let mut at = 0;
    while at < insns.len() {
        let refuse = |reason| Rejection { insn: at, reason };
        form(insns[at]).map_err(refuse)?;
        if is_wide(insns[at]) {
            let high = insns.get(at + 1).ok_or(refuse(Reason::HalfWide))?;
            if (high.code, high.regs, high.off) != (0, 0, 0) {
                return Err(refuse(Reason::HalfWide));
            }
            halves[at + 1] = true;
            at += 1;
        }
        at += 1;
    }
    for (at, insn) in insns.iter().enumerate().filter(|(at, _)| !halves[*at]) {
        let Some(to) = target(at, *insn) else { continue };
        let place = usize::try_from(to).ok().filter(|&to| to < insns.len() && !halves[to]);
        let place = place.ok_or(Rejection { insn: at, reason: Reason::Target(to) })?;
        leaders[place] = true;
    }
    Ok(leaders)
}

/// The instruction that a jump or a local call goes to; the next one for others is none.
pub fn target(at: usize, insn: Insn) -> Option<i64> {
    let by: i64 = match (insn.class(), insn.op()) {
        (class::JMP, jmp::EXIT) => return None,
        (class::JMP, jmp::CALL) if insn.src() == call::LOCAL => insn.imm.into(),
        (class::JMP, jmp::CALL) => return None,
        (class::JMP32, jmp::JA) => insn.imm.into(),
        (class::JMP | class::JMP32, _) => insn.off.into(),
        _ => return None,
    };
    Some(at as i64 + 1 + by)
}

fn form(insn: Insn) -> Result<(), Reason> {
    for register in [insn.dst(), insn.src()] {
        if register > R10 {
            return Err(Reason::Register(register));
        }
    }
    match insn.class() {
        class::ALU | class::ALU64 => arithmetic(insn),
        class::JMP | class::JMP32 => jump(insn),
        class::LDX => load(insn),
        class::ST | class::STX => store(insn),
        _ => wide_load(insn),
    }
}

/// [`Reason::Field`] unless it holds.
fn field(holds: bool) -> Result<(), Reason> {
    if holds { Ok(()) } else { Err(Reason::Field) }
}

fn writable(insn: Insn) -> Result<(), Reason> {
    if insn.dst() == R10 { Err(Reason::FramePointer) } else { Ok(()) }
}

fn arithmetic(insn: Insn) -> Result<(), Reason> {
    writable(insn)?;
    let is_64 = insn.class() == class::ALU64;
    let (x, off, imm) = (insn.is_x(), insn.off, insn.imm);
    match insn.op() {
        alu::END => {
            field(insn.src() == 0 && off == 0 && matches!(imm, 16 | 32 | 64))?;
            if is_64 && x { Err(Reason::Opcode(insn.code)) } else { Ok(()) }
        }
        alu::NEG if x => Err(Reason::Opcode(insn.code)),
        alu::NEG => field(insn.src() == 0 && off == 0 && imm == 0),
        alu::MOV if x && off == ADDR_SPACE_CAST => {
            field(is_64 && matches!(imm, CAST_KERN | CAST_USER))
        }
        alu::MOV if x => field(imm == 0 && (matches!(off, 0 | 8 | 16) || (off == 32 && is_64))),
        alu::DIV | alu::MOD => {
            field(matches!(off, 0 | 1) && if x { imm == 0 } else { insn.src() == 0 && imm != 0 })
        }
        alu::LSH | alu::RSH | alu::ARSH if !x => {
            let bits = if is_64 { 64 } else { 32 };
            field(insn.src() == 0 && off == 0 && (0..bits).contains(&imm))
        }
        0x00..=0xd0 => field(off == 0 && if x { imm == 0 } else { insn.src() == 0 }),
        _ => Err(Reason::Opcode(insn.code)),
    }
}

fn jump(insn: Insn) -> Result<(), Reason> {
    let narrow = insn.class() == class::JMP32;
    let none = insn.regs == 0;
    match (insn.op(), insn.is_x()) {
        (jmp::JA, false) if narrow => field(none && insn.off == 0),
        (jmp::JA, false) => field(none && insn.imm == 0),
        (jmp::EXIT, false) if !narrow => field(none && insn.off == 0 && insn.imm == 0),
        (jmp::CALL, false) if !narrow => {
            field(insn.dst() == 0 && insn.off == 0)?;
            if matches!(insn.src(), call::LOCAL | call::KFUNC) { Ok(()) } else { Err(Reason::Call) }
        }
        (jmp::JCOND, false) if !narrow => field(none && insn.imm == 0),
        (jmp::JA | jmp::EXIT | jmp::CALL | jmp::JCOND | 0xf0.., _) => {
            Err(Reason::Opcode(insn.code))
        }
        (_, true) => field(insn.imm == 0),
        (_, false) => field(insn.src() == 0),
    }
}

fn load(insn: Insn) -> Result<(), Reason> {
    writable(insn)?;
    match insn.mode() {
        mode::MEM => field(insn.imm == 0),
        mode::MEMSX if Width::of(insn.code) != Width::Double => field(insn.imm == 0),
        _ => Err(Reason::Opcode(insn.code)),
    }
}

fn store(insn: Insn) -> Result<(), Reason> {
    match (insn.mode(), insn.class()) {
        (mode::MEM, class::ST) => field(insn.src() == 0),
        (mode::MEM, _) => field(insn.imm == 0),
        (mode::ATOMIC, class::STX) => {
            let narrow = matches!(Width::of(insn.code), Width::Byte | Width::Half);
            match insn.imm {
                atomic::LOAD_ACQUIRE => writable(insn),
                atomic::STORE_RELEASE => Ok(()),
                _ if narrow => Err(Reason::Opcode(insn.code)),
                atomic::ADD | atomic::OR | atomic::AND | atomic::XOR => Ok(()),
                atomic::CMPXCHG => Ok(()),
                imm if is_fetch(imm) && insn.src() == R10 => Err(Reason::FramePointer),
                imm => field(is_fetch(imm)),
            }
        }
        _ => Err(Reason::Opcode(insn.code)),
    }
}

/// Whether the source register takes the old value.
pub fn is_fetch(imm: i32) -> bool {
    let plain = [atomic::ADD, atomic::OR, atomic::AND, atomic::XOR];
    imm == atomic::XCHG || plain.iter().any(|op| imm == op | atomic::FETCH)
}

fn wide_load(insn: Insn) -> Result<(), Reason> {
    if !is_wide(insn) {
        return Err(Reason::Opcode(insn.code));
    }
    writable(insn)?;
    field(insn.off == 0)?;
    match insn.src() {
        wide::CONST => Ok(()),
        wide::MAP => field(insn.imm == 0),
        wide::GLOBAL => field(matches!(insn.imm, insn::GLOBAL_DATA | insn::GLOBAL_ARENA)),
        _ => Err(Reason::Field),
    }
}

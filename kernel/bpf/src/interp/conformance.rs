//! Each instruction by itself, by the sections of RFC 9669; values at which implementations differ.

use std::vec::Vec;

use super::*;
use crate::asm::{Asm, R0, R1, R2, R10};
use crate::insn::{X, alu};
use crate::vm::Stack;

/// A machine whose arena is sixteen bytes, at the program's address 0.
struct Arena([u8; 16]);

impl Arena {
    fn bytes(&mut self, at: ArenaOffset, width: Width) -> &mut [u8] {
        let from = usize::try_from(at.get()).unwrap();
        &mut self.0[from..from + width.bytes() as usize]
    }

    fn word(&mut self, at: ArenaOffset, width: Width) -> u64 {
        let bytes = self.bytes(at, width);
        bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
    }
}

impl Machine for Arena {
    fn load(&mut self, at: ArenaOffset, width: Width, _: bool) -> u64 {
        self.word(at, width)
    }

    fn store(&mut self, at: ArenaOffset, width: Width, value: u64, _: bool) {
        self.bytes(at, width).copy_from_slice(&value.to_le_bytes()[..width.bytes() as usize]);
    }

    fn atomic(&mut self, at: ArenaOffset, width: Width, op: AtomicOp, operand: u64) -> Option<u64> {
        let old = self.word(at, width);
        let new = match op {
            AtomicOp::Add => old.wrapping_add(operand),
            AtomicOp::Or => old | operand,
            AtomicOp::And => old & operand,
            AtomicOp::Xor => old ^ operand,
            AtomicOp::CompareExchange(expected) if expected != old => old,
            AtomicOp::Exchange | AtomicOp::CompareExchange(_) => operand,
        };
        self.store(at, width, new, true);
        Some(old)
    }

    fn call(&mut self, _: u32, _: [u64; 5], _: &dyn Stack) -> Result<u64, Stop> {
        Err(Stop::Aborted)
    }

    fn should_stop(&self) -> bool {
        false
    }
}

const BYTES: [u8; 16] = [0xf0, 0xe1, 0xd2, 0xc3, 0xb4, 0xa5, 0x96, 0x87, 1, 2, 3, 4, 5, 6, 7, 8];

fn outcome(build: impl FnOnce(&mut Asm)) -> (Result<u64, Stop>, [u8; 16]) {
    let mut asm = Asm::new();
    build(&mut asm);
    asm.exit();
    let mut arena = Arena(BYTES);
    let insns: Vec<Insn> = asm.insns();
    let start = Start { ctx: [0; CTX_WORDS], budget: 100 };
    (run(&Program { insns: &insns }, &mut arena, &Trace::new(), &start), arena.0)
}

/// What r0 is after an instruction on r0 and r1.
fn after(dst: u64, src: u64, insn: Insn) -> u64 {
    outcome(|asm| {
        asm.mov64(R0, dst).mov64(R1, src).raw(insn);
    })
    .0
    .unwrap()
}

const MIN: u64 = i64::MIN as u64;
const MIN32: u64 = 0x8000_0000;
const NEG: fn(i64) -> u64 = |n| n as u64;

#[test]
fn arithmetic_of_64_bits() {
    // RFC 9669, 4.1: operation, offset, destination, operand, result.
    for (op, off, dst, src, wanted) in [
        (alu::ADD, 0, u64::MAX, 2, 1),
        (alu::SUB, 0, 1, 2, u64::MAX),
        (alu::MUL, 0, 1 << 63, 3, 1 << 63),
        (alu::DIV, 0, u64::MAX, 2, u64::MAX / 2),
        (alu::DIV, 0, 7, 0, 0),
        (alu::DIV, 1, NEG(-7), 2, NEG(-3)),
        (alu::DIV, 1, 7, NEG(-2), NEG(-3)),
        (alu::DIV, 1, MIN, NEG(-1), MIN),
        (alu::DIV, 1, 7, 0, 0),
        (alu::OR, 0, 0xf0, 0x0f, 0xff),
        (alu::AND, 0, 0xff, 0x3c, 0x3c),
        (alu::LSH, 0, 1, 63, 1 << 63),
        (alu::LSH, 0, 1, 64, 1),
        (alu::LSH, 0, 1, 65, 2),
        (alu::RSH, 0, MIN, 63, 1),
        (alu::RSH, 0, 4, 66, 1),
        (alu::ARSH, 0, MIN, 63, u64::MAX),
        (alu::ARSH, 0, MIN, 64, MIN),
        (alu::MOD, 0, u64::MAX, 10, 5),
        (alu::MOD, 0, 1 << 40, 0, 1 << 40),
        (alu::MOD, 1, NEG(-13), 3, NEG(-1)),
        (alu::MOD, 1, 13, NEG(-3), 1),
        (alu::MOD, 1, MIN, NEG(-1), 0),
        (alu::MOD, 1, 1 << 40, 0, 1 << 40),
        (alu::XOR, 0, 0xff, 0x0f, 0xf0),
        (alu::MOV, 0, 5, MIN + 1, MIN + 1),
        (alu::MOV, 8, 5, 0x1280, NEG(-128)),
        (alu::MOV, 16, 5, 0x1_8000, NEG(-32768)),
        (alu::MOV, 32, 5, 0x1_8000_0000, NEG(-(1 << 31))),
    ] {
        let insn = Insn::new(class::ALU64 | op | X, R0, R1, off, 0);
        assert_eq!(after(dst, src, insn), wanted, "{op:#x} off {off}: {dst:#x} and {src:#x}");
    }
    for (op, off, dst, imm, wanted) in [
        (alu::ADD, 0, 0, -1, u64::MAX),
        (alu::OR, 0, 0, i32::MIN, NEG(-(1 << 31))),
        (alu::AND, 0, u64::MAX, -16, NEG(-16)),
        (alu::DIV, 0, u64::MAX, -1, 1),
        (alu::DIV, 1, 10, -5, NEG(-2)),
        (alu::MOD, 0, 10, -1, 10),
        (alu::MOD, 1, 10, -3, 1),
        (alu::MOV, 0, 0, -2, NEG(-2)),
        (alu::NEG, 0, 5, 0, NEG(-5)),
        (alu::NEG, 0, MIN, 0, MIN),
    ] {
        let insn = Insn::new(class::ALU64 | op, R0, 0, off, imm);
        assert_eq!(after(dst, 0, insn), wanted, "{op:#x} off {off}: {dst:#x} and imm {imm}");
    }
}

#[test]
fn arithmetic_of_32_bits_clears_the_upper_half() {
    let high = 0xdead_beef_0000_0000;
    for (op, off, dst, src, wanted) in [
        (alu::ADD, 0, high | 0xffff_ffff, 2, 1),
        (alu::SUB, 0, high | 1, 2, 0xffff_ffff),
        (alu::MUL, 0, high | MIN32, 3, MIN32),
        (alu::DIV, 0, high | 9, high | 2, 4),
        (alu::DIV, 0, high | 9, high, 0),
        (alu::DIV, 1, 0xffff_fff9, 2, 0xffff_fffd),
        (alu::DIV, 1, MIN32, 0xffff_ffff, MIN32),
        (alu::OR, 0, high | 1, 2, 3),
        (alu::AND, 0, high | 3, high | 2, 2),
        (alu::LSH, 0, high | 1, 31, MIN32),
        (alu::LSH, 0, high | 1, 32, 1),
        (alu::RSH, 0, high | MIN32, 31, 1),
        (alu::ARSH, 0, high | MIN32, 31, 0xffff_ffff),
        (alu::MOD, 0, high | 9, high | 4, 1),
        // By nothing: unchanged, but for the upper half.
        (alu::MOD, 0, high | 9, high, 9),
        (alu::MOD, 1, 0xffff_fff3, 3, 0xffff_ffff),
        (alu::MOD, 1, MIN32, 0xffff_ffff, 0),
        (alu::XOR, 0, high | 1, 3, 2),
        (alu::MOV, 0, 0, high | 7, 7),
        (alu::MOV, 8, 0, 0x80, 0xffff_ff80),
        (alu::MOV, 16, 0, 0x8000, 0xffff_8000),
    ] {
        let insn = Insn::new(class::ALU | op | X, R0, R1, off, 0);
        assert_eq!(after(dst, src, insn), wanted, "{op:#x} off {off}: {dst:#x} and {src:#x}");
    }
    let negated = after(high | 5, 0, Insn::new(class::ALU | alu::NEG, R0, 0, 0, 0));
    assert_eq!(negated, 0xffff_fffb);
}

#[test]
fn bytes_are_swapped_and_cut() {
    // RFC 9669, 4.2: class, whether to big endian, bits, result.
    let value = 0x0102_0304_0506_0708;
    for (class, big, bits, wanted) in [
        (class::ALU, false, 16, 0x0708),
        (class::ALU, false, 32, 0x0506_0708),
        (class::ALU, false, 64, value),
        (class::ALU, true, 16, 0x0807),
        (class::ALU, true, 32, 0x0807_0605),
        (class::ALU, true, 64, 0x0807_0605_0403_0201),
        (class::ALU64, false, 16, 0x0807),
        (class::ALU64, false, 32, 0x0807_0605),
        (class::ALU64, false, 64, 0x0807_0605_0403_0201),
    ] {
        let source = if big { X } else { 0 };
        let insn = Insn::new(class | alu::END | source, R0, 0, 0, bits);
        assert_eq!(after(value, 0, insn), wanted, "class {class} {big} {bits}");
    }
}

#[test]
fn conditions_compare_64_or_32_bits() {
    // RFC 9669, 4.3: operation, operands, whether taken with 64 bits, with 32.
    let high = 1 << 32;
    for (op, dst, src, wide, narrow) in [
        (jmp::JEQ, 5, 5, true, true),
        (jmp::JEQ, high | 5, 5, false, true),
        (jmp::JNE, high | 5, 5, true, false),
        (jmp::JGT, high | 1, 2, true, false),
        (jmp::JGT, u64::MAX, 1, true, true),
        (jmp::JGT, 5, 5, false, false),
        (jmp::JGE, 5, 5, true, true),
        (jmp::JGE, high, 1, true, false),
        (jmp::JLT, 1, high, true, false),
        (jmp::JLT, 5, 5, false, false),
        (jmp::JLE, 5, 5, true, true),
        (jmp::JLE, high | 6, 6, false, true),
        (jmp::JSGT, 1, u64::MAX, true, true),
        (jmp::JSGT, 1, MIN32, false, true),
        (jmp::JSGE, NEG(-1), NEG(-1), true, true),
        (jmp::JSGE, 0, 0xffff_ffff, false, true),
        (jmp::JSLT, NEG(-1), 1, true, true),
        (jmp::JSLT, MIN32, 1, false, true),
        (jmp::JSLE, NEG(-2), NEG(-1), true, true),
        (jmp::JSLE, 0xffff_ffff, 0, false, true),
        (jmp::JSET, 0b110, 0b010, true, true),
        (jmp::JSET, high, high, true, false),
        (jmp::JSET, 0b101, 0b010, false, false),
    ] {
        for (class, taken) in [(class::JMP, wide), (class::JMP32, narrow)] {
            let result = outcome(|asm| {
                let there = asm.label();
                asm.mov64(R1, dst).mov64(R2, src).mov(R0, 1);
                asm.jump_class(Insn::new(class | op | X, R1, R2, 0, 0), there);
                asm.mov(R0, 0).bind(there);
            });
            let said = std::format!("class {class} {op:#x}: {dst:#x} and {src:#x}");
            assert_eq!(result.0, Ok(u64::from(taken)), "{said}");
        }
    }
}

#[test]
fn an_immediate_is_compared_sign_extended() {
    for (class, op, dst, imm, taken) in [
        (class::JMP, jmp::JEQ, u64::MAX, -1, true),
        (class::JMP, jmp::JEQ, 0xffff_ffff, -1, false),
        (class::JMP, jmp::JGT, 0xffff_ffff, -1, false),
        (class::JMP, jmp::JGE, u64::MAX, -1, true),
        (class::JMP, jmp::JLT, 1 << 40, -1, true),
        (class::JMP, jmp::JSET, MIN, i32::MIN, true),
        (class::JMP32, jmp::JEQ, 0xffff_ffff, -1, true),
        (class::JMP32, jmp::JSLT, 0xffff_fffe, -1, true),
    ] {
        let result = outcome(|asm| {
            let there = asm.label();
            asm.mov64(R1, dst).mov(R0, 1).jump_class(Insn::new(class | op, R1, 0, 0, imm), there);
            asm.mov(R0, 0).bind(there);
        });
        assert_eq!(result.0, Ok(u64::from(taken)), "class {class} {op:#x}: {dst:#x} and {imm}");
    }
}

#[test]
fn a_jump_of_class_jmp32_goes_by_its_immediate() {
    let over = |insn| {
        outcome(|asm| {
            asm.mov(R0, 1).raw(insn).mov(R0, 2);
        })
        .0
    };
    assert_eq!(over(Insn::new(class::JMP32 | jmp::JA, 0, 0, 0, 1)), Ok(1));
    assert_eq!(over(Insn::new(class::JMP | jmp::JA, 0, 0, 1, 0)), Ok(1));
    assert_eq!(over(Insn::new(class::JMP32 | jmp::JA, 0, 0, 1, 0)), Ok(2));
}

#[test]
fn loads_extend_and_stores_cut() {
    // RFC 9669, 5.1 and 5.2, from the arena and from the stack, where the same bytes are.
    use Width::{Byte, Double, Half, Word};
    for (mode, width, wanted) in [
        (mode::MEM, Byte, 0xf0),
        (mode::MEM, Half, 0xe1f0),
        (mode::MEM, Word, 0xc3d2_e1f0),
        (mode::MEM, Double, 0x8796_a5b4_c3d2_e1f0),
        (mode::MEMSX, Byte, 0xffff_ffff_ffff_fff0),
        (mode::MEMSX, Half, 0xffff_ffff_ffff_e1f0),
        (mode::MEMSX, Word, 0xffff_ffff_c3d2_e1f0),
    ] {
        let from_arena = outcome(|asm| {
            let load = Insn::new(class::LDX | mode | width.bits(), R0, R1, 0, 0);
            asm.mov(R1, 0).raw(load);
        });
        let from_stack = outcome(|asm| {
            let load = Insn::new(class::LDX | mode | width.bits(), R0, R10, -8, 0);
            asm.mov64(R2, 0x8796_a5b4_c3d2_e1f0).store(Double, R10, -8, R2).raw(load);
        });
        assert_eq!([from_arena.0, from_stack.0], [Ok(wanted); 2], "{mode:#x} {width:?}");
    }
    for width in [Byte, Half, Word, Double] {
        let mut wanted = BYTES;
        let bytes = width.bytes() as usize;
        wanted[8..8 + bytes].copy_from_slice(&0x1122_3344_5566_7788u64.to_le_bytes()[..bytes]);
        let (result, bytes) = outcome(|asm| {
            asm.mov(R0, 0).mov(R1, 0).mov64(R2, 0x1122_3344_5566_7788).store(width, R1, 8, R2);
        });
        assert_eq!((result, bytes), (Ok(0), wanted), "{width:?}");
        let immediate = outcome(|asm| {
            asm.mov(R0, 0).mov(R1, 0).store_imm(width, R1, 8, -2);
        });
        let stored = &immediate.1[8..8 + width.bytes() as usize];
        assert_eq!(stored, &(-2i64).to_le_bytes()[..stored.len()], "{width:?}");
    }
}

#[test]
fn atomics_fetch_only_when_asked() {
    // RFC 9669, 5.3: operation, the word after it (low byte 0xb4 before), the source register.
    use atomic::{ADD, AND, CMPXCHG, FETCH, OR, XCHG, XOR};
    let before = u64::from(u32::from_le_bytes([0xb4, 0xa5, 0x96, 0x87]));
    for (op, word, source) in [
        (ADD, before + 0xff, 0xff),
        (ADD | FETCH, before + 0xff, before),
        (OR, before | 0xff, 0xff),
        (OR | FETCH, before | 0xff, before),
        (AND, before & 0xff, 0xff),
        (AND | FETCH, before & 0xff, before),
        (XOR, before ^ 0xff, 0xff),
        (XOR | FETCH, before ^ 0xff, before),
        (XCHG, 0xff, before),
        (CMPXCHG, before, 0xff),
    ] {
        let (result, bytes) = outcome(|asm| {
            asm.mov(R0, 0).mov(R1, 0).mov(R2, 0xff).atomic(Width::Word, op, R1, 4, R2);
            asm.mov_reg(R0, R2);
        });
        assert_eq!(result, Ok(source), "{op:#x}");
        assert_eq!(bytes[4..8], (word as u32).to_le_bytes(), "{op:#x}");
        assert_eq!((&bytes[..4], &bytes[8..]), (&BYTES[..4], &BYTES[8..]), "{op:#x}");
    }
}

#[test]
fn a_compare_exchange_tells_what_it_found_in_r0() {
    let (found, wrong) = (0x0807_0605_0403_0201u64, 5);
    for (expected, stored) in [(found, 77), (wrong, found)] {
        let (result, bytes) = outcome(|asm| {
            asm.mov64(R0, expected).mov(R1, 0).mov(R2, 77);
            asm.atomic(Width::Double, atomic::CMPXCHG, R1, 8, R2);
        });
        assert_eq!(result, Ok(found));
        assert_eq!(bytes[8..], stored.to_le_bytes());
    }
    // Of 32 bits, r0's upper half is not compared, and comes back zero.
    let narrow = outcome(|asm| {
        asm.mov64(R0, 0xffff_ffff_0403_0201).mov(R1, 0).mov(R2, 9);
        asm.atomic(Width::Word, atomic::CMPXCHG, R1, 8, R2);
    });
    assert_eq!((narrow.0, narrow.1[8]), (Ok(0x0403_0201), 9));
}

#[test]
fn acquire_loads_and_release_stores_have_every_width() {
    for width in [Width::Byte, Width::Half, Width::Word, Width::Double] {
        let bytes = width.bytes() as usize;
        let load = outcome(|asm| {
            let code = class::STX | mode::ATOMIC | width.bits();
            asm.mov(R1, 0).raw(Insn::new(code, R0, R1, 8, atomic::LOAD_ACQUIRE));
        });
        let mut word = [0; 8];
        word[..bytes].copy_from_slice(&BYTES[8..8 + bytes]);
        assert_eq!(load.0, Ok(u64::from_le_bytes(word)), "{width:?}");
        let store = outcome(|asm| {
            let code = class::STX | mode::ATOMIC | width.bits();
            asm.mov(R0, 0).mov(R1, 0).mov(R2, -1);
            asm.raw(Insn::new(code, R1, R2, 8, atomic::STORE_RELEASE));
        });
        let changed = store.1.iter().filter(|byte| **byte == 0xff).count();
        assert_eq!((store.0, changed), (Ok(0), bytes), "{width:?}");
    }
}

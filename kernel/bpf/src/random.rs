//! Random programs, the same for the same seed: for the comparison with another interpreter, and for
//! campaigns that look whether anything that is let in can harm the kernel.

use alloc::vec::Vec;

use crate::asm::{Asm, Label, R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10};
use crate::image::{self, Builder};
use crate::insn::{Insn, Reg, Width, X, alu, atomic, class, jmp};
use crate::kfunc::{Arg, Kfunc, TABLE};

/// A sequence of numbers (xorshift64*).
#[derive(Clone, Debug)]
pub struct Rng(u64);

/// Numbers at which something happens in an arena.
const EDGES: [u64; 12] = [
    0,
    1,
    4095,
    4096,
    4088,
    0x3_fff8,
    0x4_0000,
    0xffff_fff8,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_2000,
    u64::MAX,
];

const WIDTHS: [Width; 4] = [Width::Byte, Width::Half, Width::Word, Width::Double];

/// Comparisons.
const COMPARISONS: [u8; 11] = [
    jmp::JEQ,
    jmp::JNE,
    jmp::JGT,
    jmp::JGE,
    jmp::JLT,
    jmp::JLE,
    jmp::JSGT,
    jmp::JSGE,
    jmp::JSLT,
    jmp::JSLE,
    jmp::JSET,
];

impl Rng {
    /// The sequence number `seed`.
    pub fn new(seed: u64) -> Self {
        // Never 0, and far apart for neighbours.
        Self((seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        ((self.draw() >> 32) * end) >> 32
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    /// A number of any size, small ones and edges often.
    fn number(&mut self) -> u64 {
        match self.below(4) {
            0 => self.below(64),
            1 => self.one_of(&EDGES),
            2 => self.draw() >> self.below(64),
            _ => 1u64.rotate_left(self.below(64) as u32).wrapping_sub(self.below(3)),
        }
    }
}

/// A program of arithmetic, forward jumps and its own stack: whatever runs it, it returns the same.
/// Left out is what rbpf 0.4 does differently from RFC 9669: `-i64::MIN` (it panics), a 32-bit remainder
/// of a zero divisor (it keeps the upper half), and unsigned 64-bit comparisons with a negative
/// immediate (it extends that with zeroes).
pub fn pure(rng: &mut Rng) -> Vec<Insn> {
    let mut asm = Asm::new();
    for register in [R0, R1, R2, R3, R4, R5, R6, R7, R8, R9] {
        let value = rng.number();
        asm.mov64(register, value);
    }
    for slot in 1..=4 {
        asm.store(Width::Double, R10, -8 * slot, slot as Reg);
    }
    let mut pending: Vec<Label> = Vec::new();
    for _ in 0..4 + rng.below(40) {
        match rng.below(8) {
            0 => {
                let label = asm.label();
                let (op, dst, src) = (rng.one_of(&COMPARISONS), register(rng), register(rng));
                // A jump of 32 bits is one of class JMP32.
                let class = if rng.below(2) == 0 { class::JMP } else { class::JMP32 };
                jump(&mut asm, class, op, dst, src, rng, label);
                pending.push(label);
            }
            1 => {
                let (width, off) = (rng.one_of(&WIDTHS), slot(rng));
                asm.store(width, R10, off, register(rng));
            }
            2 => {
                let (width, off) = (rng.one_of(&WIDTHS), slot(rng));
                asm.load(width, register(rng), R10, off);
            }
            _ => arithmetic(&mut asm, rng),
        }
        if rng.below(3) == 0
            && let Some(label) = pending.pop()
        {
            asm.bind(label);
        }
    }
    for label in pending {
        asm.bind(label);
    }
    for register in [R1, R2, R6, R9] {
        asm.alu_reg(alu::XOR, R0, register);
    }
    asm.exit();
    asm.insns()
}

/// A program that does what programs do, and what they must not: wild accesses, kernel functions with
/// any argument, loops, functions; now and then with an instruction that was damaged.
pub fn wild(rng: &mut Rng) -> Vec<Insn> {
    let mut asm = Asm::new();
    let function = asm.label();
    let (top, out) = (asm.label(), asm.label());
    asm.load(Width::Double, R9, R1, 0).mov(R0, 0).mov(R7, 3);
    asm.mov64(R6, rng.number()).cast_kern(R6, R6);
    asm.bind(top).add(R7, -1).jump_if(jmp::JSLT, R7, 0, out);
    let mut calls = false;
    for _ in 0..2 + rng.below(12) {
        match rng.below(8) {
            0 | 1 => call(&mut asm, rng),
            2 => {
                let (width, off) = (rng.one_of(&WIDTHS), offset(rng));
                asm.load(width, R8, R6, off).alu_reg(alu::XOR, R9, R8);
            }
            3 => {
                let (width, off) = (rng.one_of(&WIDTHS), offset(rng));
                asm.store(width, R6, off, R9);
            }
            4 => {
                let (width, off) = (rng.one_of(&[Width::Word, Width::Double]), offset(rng));
                let op = rng.one_of(&[atomic::ADD | atomic::FETCH, atomic::OR, atomic::CMPXCHG]);
                asm.mov(R0, 0).atomic(width, op, R6, off & !7, R9);
            }
            5 => {
                asm.mov64(R6, rng.number()).cast_kern(R6, R6);
            }
            6 => {
                let off = slot(rng);
                asm.store(Width::Double, R10, off, R6).load(Width::Double, R6, R10, off);
            }
            _ => {
                calls = true;
                asm.mov_reg(R1, R6).call_local(function).alu_reg(alu::XOR, R9, R0);
            }
        }
    }
    if rng.below(4) == 0 {
        asm.jump(top);
    }
    asm.bind(out).mov(R0, 0).exit();
    asm.bind(function);
    if calls {
        asm.load(Width::Double, R0, R1, 8).exit();
    }
    let mut insns = asm.insns();
    if rng.below(4) == 0 {
        damage(&mut insns, rng);
    }
    insns
}

/// Changes one field of one instruction.
pub fn damage(insns: &mut [Insn], rng: &mut Rng) {
    let at = rng.below(insns.len() as u64) as usize;
    let insn = &mut insns[at];
    match rng.below(4) {
        0 => insn.code = rng.draw() as u8,
        1 => insn.regs = rng.draw() as u8,
        2 => insn.off = rng.number() as i16,
        _ => insn.imm = rng.number() as i32,
    }
}

/// An image of [`wild`] instructions, in the end sometimes with bytes of it changed and sealed again. It
/// asks for `pages` pages of arena and has a page of globals at a random place among them if
/// `has_globals`.
pub fn image(rng: &mut Rng, pages: u32, has_globals: bool) -> Vec<u8> {
    let mut builder = Builder::new("wild", &wild(rng));
    builder.arena(pages);
    if has_globals {
        let page = rng.below(u64::from(pages) + 1) * 4096;
        let bytes: [u8; 64] = core::array::from_fn(|_| rng.draw() as u8);
        builder.globals(page, &bytes);
    }
    let mut bytes = builder.build();
    if rng.below(8) == 0 {
        for _ in 0..1 + rng.below(3) {
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] = rng.number() as u8;
        }
        if rng.below(8) == 0 {
            bytes.truncate(rng.below(bytes.len() as u64) as usize);
        }
        if bytes.len() >= 16 && rng.below(4) != 0 {
            image::seal(&mut bytes);
        }
    }
    bytes
}

/// A call of any kernel function, with any arguments of the kinds that it takes.
fn call(asm: &mut Asm, rng: &mut Rng) {
    let signature = rng.one_of(TABLE);
    for (arg, register) in signature.args.iter().zip(R1..) {
        match arg {
            Arg::Map => {
                asm.arena(register);
            }
            Arg::Text | Arg::Bytes if rng.below(2) == 0 => {
                let off = slot(rng) as i32;
                asm.mov_reg(register, R10).add(register, off);
            }
            Arg::Scalar if rng.below(2) == 0 => {
                asm.mov(register, rng.below(9) as i32 - 1);
            }
            _ => {
                asm.mov64(register, rng.number());
            }
        }
    }
    if signature.kfunc == Kfunc::ArenaAllocPages {
        // Mostly well asked.
        asm.mov(R4, -1).mov(R5, i32::from(rng.below(9) == 0));
        if rng.below(2) == 0 {
            asm.mov(R2, 0);
        }
    }
    asm.call(signature.kfunc);
    if rng.below(2) == 0 {
        asm.cast_kern(R6, R0);
    }
}

fn arithmetic(asm: &mut Asm, rng: &mut Rng) {
    let ops = [
        alu::ADD,
        alu::SUB,
        alu::MUL,
        alu::DIV,
        alu::OR,
        alu::AND,
        alu::LSH,
        alu::RSH,
        alu::MOD,
        alu::XOR,
        alu::MOV,
        alu::ARSH,
        alu::NEG,
    ];
    let (op, dst) = (rng.one_of(&ops), register(rng));
    let class = if rng.below(2) == 0 { class::ALU64 } else { class::ALU };
    if op == alu::NEG {
        asm.alu(alu::RSH, dst, 1).raw(Insn::new(class | op, dst, 0, 0, 0));
    } else if op == alu::MOD && class == class::ALU {
        let cut = Insn::new(class::ALU | alu::MOV | X, dst, dst, 0, 0);
        asm.raw(cut).raw(Insn::new(class | op | X, dst, register(rng), 0, 0));
    } else if rng.below(2) == 0 {
        asm.raw(Insn::new(class | op | X, dst, register(rng), 0, 0));
    } else {
        let imm = match op {
            alu::LSH | alu::RSH | alu::ARSH => {
                rng.below(if class == class::ALU { 32 } else { 64 }) as i32
            }
            alu::DIV | alu::MOD => (rng.number() as i32).max(1),
            _ => rng.number() as i32,
        };
        asm.raw(Insn::new(class | op, dst, 0, 0, imm));
    }
}

fn jump(asm: &mut Asm, class: u8, op: u8, dst: Reg, src: Reg, rng: &mut Rng, to: Label) {
    if rng.below(2) == 0 {
        asm.jump_class(Insn::new(class | op | X, dst, src, 0, 0), to);
    } else {
        asm.jump_class(Insn::new(class | op, dst, 0, 0, rng.number() as i32 & i32::MAX), to);
    }
}

fn register(rng: &mut Rng) -> Reg {
    rng.below(10) as Reg
}

/// The offset of one of four slots.
fn slot(rng: &mut Rng) -> i16 {
    -8 * (1 + rng.below(4) as i16)
}

/// An offset of an access, mostly small and aligned.
fn offset(rng: &mut Rng) -> i16 {
    match rng.below(4) {
        0 => rng.draw() as i16,
        _ => 8 * rng.below(64) as i16,
    }
}

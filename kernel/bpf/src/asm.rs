//! An assembler for programs that are written in Rust: scenarios and tests.
//!
//! ```
//! use bpf::asm::{Asm, R0, R1};
//! use bpf::insn::{Width, jmp};
//!
//! // Counts the context's first word down; returns 7.
//! let mut asm = Asm::new();
//! let (top, done) = (asm.label(), asm.label());
//! asm.load(Width::Double, R0, R1, 0)
//!     .bind(top)
//!     .jump_if(jmp::JEQ, R0, 0, done)
//!     .add(R0, -1)
//!     .jump(top)
//!     .bind(done)
//!     .mov(R0, 7)
//!     .exit();
//! assert_eq!(asm.insns().len(), 6);
//! ```

use alloc::vec::Vec;

use crate::image::Builder;
use crate::insn::{
    ADDR_SPACE_CAST, CALL, CAST_KERN, CAST_USER, EXIT, GLOBAL_ARENA, GLOBAL_DATA, Insn, LD_IMM64,
    MAY_GOTO, MOV64_X, Reg, Width, X, alu, call, class, jmp, mode, wide,
};
use crate::kfunc::Kfunc;

/// Result, and the first of the registers that a call changes.
pub const R0: Reg = 0;
/// First argument.
pub const R1: Reg = 1;
/// Second argument.
pub const R2: Reg = 2;
/// Third argument.
pub const R3: Reg = 3;
/// Fourth argument.
pub const R4: Reg = 4;
/// Fifth argument.
pub const R5: Reg = 5;
/// Kept by calls.
pub const R6: Reg = 6;
/// Kept by calls.
pub const R7: Reg = 7;
/// Kept by calls.
pub const R8: Reg = 8;
/// Kept by calls.
pub const R9: Reg = 9;
pub use crate::insn::R10;

/// A program in the making.
#[derive(Default)]
pub struct Asm {
    insns: Vec<Insn>,
    /// Where each label stands.
    labels: Vec<Option<usize>>,
    /// Instructions that go to a label, and whether their immediate says how far.
    jumps: Vec<(usize, Label, bool)>,
}

/// A place to jump to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Label(usize);

impl Asm {
    /// No instructions yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A label, to be [bound](Self::bind) once.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Puts `label` before the next instruction.
    pub fn bind(&mut self, label: Label) -> &mut Self {
        self.labels[label.0] = Some(self.insns.len());
        self
    }

    /// Any instruction.
    pub fn raw(&mut self, insn: Insn) -> &mut Self {
        self.insns.push(insn);
        self
    }

    /// `dst = imm`, sign-extended.
    pub fn mov(&mut self, dst: Reg, imm: i32) -> &mut Self {
        self.alu(alu::MOV, dst, imm)
    }

    /// `dst = src`
    pub fn mov_reg(&mut self, dst: Reg, src: Reg) -> &mut Self {
        self.raw(Insn::new(MOV64_X, dst, src, 0, 0))
    }

    /// `dst = value`
    pub fn mov64(&mut self, dst: Reg, value: u64) -> &mut Self {
        self.raw(Insn::new(LD_IMM64, dst, wide::CONST, 0, value as i32));
        self.raw(Insn::new(0, 0, 0, 0, (value >> 32) as i32))
    }

    /// `dst += imm`
    pub fn add(&mut self, dst: Reg, imm: i32) -> &mut Self {
        self.alu(alu::ADD, dst, imm)
    }

    /// `dst op= imm`, 64 bits; see [`alu`].
    pub fn alu(&mut self, op: u8, dst: Reg, imm: i32) -> &mut Self {
        self.raw(Insn::new(class::ALU64 | op, dst, 0, 0, imm))
    }

    /// `dst op= src`, 64 bits.
    pub fn alu_reg(&mut self, op: u8, dst: Reg, src: Reg) -> &mut Self {
        self.raw(Insn::new(class::ALU64 | op | X, dst, src, 0, 0))
    }

    /// `dst = *(src + off)`, zero-extended.
    pub fn load(&mut self, width: Width, dst: Reg, src: Reg, off: i16) -> &mut Self {
        self.raw(Insn::new(class::LDX | mode::MEM | width.bits(), dst, src, off, 0))
    }

    /// `*(dst + off) = src`
    pub fn store(&mut self, width: Width, dst: Reg, off: i16, src: Reg) -> &mut Self {
        self.raw(Insn::new(class::STX | mode::MEM | width.bits(), dst, src, off, 0))
    }

    /// `*(dst + off) = imm`
    pub fn store_imm(&mut self, width: Width, dst: Reg, off: i16, imm: i32) -> &mut Self {
        self.raw(Insn::new(class::ST | mode::MEM | width.bits(), dst, 0, off, imm))
    }

    /// The read-modify-write `op` of `*(dst + off)` by `src`; see [`crate::insn::atomic`].
    pub fn atomic(&mut self, width: Width, op: i32, dst: Reg, off: i16, src: Reg) -> &mut Self {
        self.raw(Insn::new(class::STX | mode::ATOMIC | width.bits(), dst, src, off, op))
    }

    /// `dst` = the kernel form of the arena pointer `src`.
    pub fn cast_kern(&mut self, dst: Reg, src: Reg) -> &mut Self {
        self.raw(Insn::new(MOV64_X, dst, src, ADDR_SPACE_CAST, CAST_KERN))
    }

    /// `dst` = the user form of the arena pointer `src`.
    pub fn cast_user(&mut self, dst: Reg, src: Reg) -> &mut Self {
        self.raw(Insn::new(MOV64_X, dst, src, ADDR_SPACE_CAST, CAST_USER))
    }

    /// `dst` = the arena, as an argument.
    pub fn arena(&mut self, dst: Reg) -> &mut Self {
        self.raw(Insn::new(LD_IMM64, dst, wide::MAP, 0, 0)).raw(Insn::default())
    }

    /// `dst` = the global at `offset` in the arena, to be used at once.
    pub fn global(&mut self, dst: Reg, offset: u32) -> &mut Self {
        self.raw(Insn::new(LD_IMM64, dst, wide::GLOBAL, 0, GLOBAL_DATA));
        self.raw(Insn::new(0, 0, 0, 0, offset as i32))
    }

    /// `dst` = the user form of the address of that global.
    pub fn global_user(&mut self, dst: Reg, offset: u32) -> &mut Self {
        self.raw(Insn::new(LD_IMM64, dst, wide::GLOBAL, 0, GLOBAL_ARENA));
        self.raw(Insn::new(0, 0, 0, 0, offset as i32))
    }

    /// Goes on at `to`.
    pub fn jump(&mut self, to: Label) -> &mut Self {
        self.jump_by(Insn::new(class::JMP | jmp::JA, 0, 0, 0, 0), to, false)
    }

    /// Goes on at `to` if the comparison `op` of `dst` with `imm` holds; see [`jmp`].
    pub fn jump_if(&mut self, op: u8, dst: Reg, imm: i32, to: Label) -> &mut Self {
        self.jump_by(Insn::new(class::JMP | op, dst, 0, 0, imm), to, false)
    }

    /// The same with `src`.
    pub fn jump_if_reg(&mut self, op: u8, dst: Reg, src: Reg, to: Label) -> &mut Self {
        self.jump_by(Insn::new(class::JMP | op | X, dst, src, 0, 0), to, false)
    }

    /// Any other jump to `to`.
    pub fn jump_class(&mut self, insn: Insn, to: Label) -> &mut Self {
        self.jump_by(insn, to, false)
    }

    /// Goes on at `to` when the run's loops are used up.
    pub fn may_goto(&mut self, to: Label) -> &mut Self {
        self.jump_by(Insn::new(MAY_GOTO, 0, 0, 0, 0), to, false)
    }

    /// Calls a kernel function.
    pub fn call(&mut self, kfunc: Kfunc) -> &mut Self {
        self.raw(Insn::new(CALL, 0, call::KFUNC, 0, kfunc as i32))
    }

    /// Calls the function at `to`.
    pub fn call_local(&mut self, to: Label) -> &mut Self {
        self.jump_by(Insn::new(CALL, 0, call::LOCAL, 0, 0), to, true)
    }

    /// Returns r0.
    pub fn exit(&mut self) -> &mut Self {
        self.raw(Insn::new(EXIT, 0, 0, 0, 0))
    }

    /// The instructions, jumps resolved.
    ///
    /// # Panics
    /// If a label was never bound, or is out of a jump's reach: the author's mistake.
    pub fn insns(&self) -> Vec<Insn> {
        let mut insns = self.insns.clone();
        for &(at, label, by_imm) in &self.jumps {
            let target = self.labels[label.0].expect("every label is bound");
            let distance = target as i32 - at as i32 - 1;
            if by_imm {
                insns[at].imm = distance;
            } else {
                insns[at].off = distance.try_into().expect("a jump reaches 32768 instructions");
            }
        }
        insns
    }

    /// An image of the program, called `name`.
    pub fn image(&self, name: &str) -> Builder {
        Builder::new(name, &self.insns())
    }

    fn jump_by(&mut self, insn: Insn, to: Label, by_imm: bool) -> &mut Self {
        self.jumps.push((self.insns.len(), to, by_imm));
        self.raw(insn)
    }
}

//! Instructions as RFC 9669 encodes them: eight bytes, of which [`Insn`] is the value.

/// One instruction, or one half of a wide one ([`LD_IMM64`]).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C)]
pub struct Insn {
    /// The opcode.
    pub code: u8,
    /// Destination register in bits 0 to 3, source register in bits 4 to 7.
    pub regs: u8,
    /// Offset of a jump or an access.
    pub off: i16,
    /// Immediate operand.
    pub imm: i32,
}

/// Number of a register: r0 to r10.
pub type Reg = u8;

/// Registers that programs can name.
pub const REGISTERS: usize = 11;
/// r10, the frame pointer: read only, one past the frame's stack.
pub const R10: Reg = 10;

/// Instruction classes: bits 0 to 2 of the opcode.
pub mod class {
    /// Wide immediate loads.
    pub const LD: u8 = 0x00;
    /// Loads into a register.
    pub const LDX: u8 = 0x01;
    /// Stores of an immediate.
    pub const ST: u8 = 0x02;
    /// Stores of a register, and atomics.
    pub const STX: u8 = 0x03;
    /// 32-bit arithmetic.
    pub const ALU: u8 = 0x04;
    /// Jumps that compare 64 bits, calls, exit.
    pub const JMP: u8 = 0x05;
    /// Jumps that compare 32 bits.
    pub const JMP32: u8 = 0x06;
    /// 64-bit arithmetic.
    pub const ALU64: u8 = 0x07;
}

/// Arithmetic: bits 4 to 7 of the opcode.
pub mod alu {
    /// `dst += src`
    pub const ADD: u8 = 0x00;
    /// `dst -= src`
    pub const SUB: u8 = 0x10;
    /// `dst *= src`
    pub const MUL: u8 = 0x20;
    /// `dst /= src`, 0 if `src` is; signed with offset 1.
    pub const DIV: u8 = 0x30;
    /// `dst |= src`
    pub const OR: u8 = 0x40;
    /// `dst &= src`
    pub const AND: u8 = 0x50;
    /// `dst <<= src`
    pub const LSH: u8 = 0x60;
    /// `dst >>= src`
    pub const RSH: u8 = 0x70;
    /// `dst = -dst`
    pub const NEG: u8 = 0x80;
    /// `dst %= src`, unchanged if `src` is 0; signed with offset 1.
    pub const MOD: u8 = 0x90;
    /// `dst ^= src`
    pub const XOR: u8 = 0xa0;
    /// `dst = src`; sign-extending with offset 8, 16, 32.
    pub const MOV: u8 = 0xb0;
    /// Arithmetic shift right.
    pub const ARSH: u8 = 0xc0;
    /// Byte swap.
    pub const END: u8 = 0xd0;
}

/// Jumps: bits 4 to 7 of the opcode.
pub mod jmp {
    /// Always; by `off`, in class JMP32 by `imm`.
    pub const JA: u8 = 0x00;
    /// Equal.
    pub const JEQ: u8 = 0x10;
    /// Unsigned greater.
    pub const JGT: u8 = 0x20;
    /// Unsigned greater or equal.
    pub const JGE: u8 = 0x30;
    /// `dst & src`.
    pub const JSET: u8 = 0x40;
    /// Not equal.
    pub const JNE: u8 = 0x50;
    /// Signed greater.
    pub const JSGT: u8 = 0x60;
    /// Signed greater or equal.
    pub const JSGE: u8 = 0x70;
    /// A call; the source register says of what.
    pub const CALL: u8 = 0x80;
    /// Return.
    pub const EXIT: u8 = 0x90;
    /// Unsigned less.
    pub const JLT: u8 = 0xa0;
    /// Unsigned less or equal.
    pub const JLE: u8 = 0xb0;
    /// Signed less.
    pub const JSLT: u8 = 0xc0;
    /// Signed less or equal.
    pub const JSLE: u8 = 0xd0;
    /// `may_goto` (Linux `BPF_JCOND`): taken when the run's loops are used up.
    pub const JCOND: u8 = 0xe0;
}

/// Bit 3 of an arithmetic or jump opcode: the operand is a register.
pub const X: u8 = 0x08;

/// Modes of loads and stores: bits 5 to 7 of the opcode.
pub mod mode {
    /// 64-bit immediate.
    pub const IMM: u8 = 0x00;
    /// Plain.
    pub const MEM: u8 = 0x60;
    /// Sign-extending load.
    pub const MEMSX: u8 = 0x80;
    /// Atomic.
    pub const ATOMIC: u8 = 0xc0;
}

/// Opcode of the wide instruction: the next one's immediate is the upper half.
pub const LD_IMM64: u8 = 0x18;
/// Opcode of `exit`.
pub const EXIT: u8 = class::JMP | jmp::EXIT;
/// Opcode of every call.
pub const CALL: u8 = class::JMP | jmp::CALL;
/// Opcode of `may_goto`.
pub const MAY_GOTO: u8 = class::JMP | jmp::JCOND;
/// Opcode of a register move, which with offset 1 is the address-space cast.
pub const MOV64_X: u8 = class::ALU64 | alu::MOV | X;
/// Offset that makes [`MOV64_X`] a cast between address spaces.
pub const ADDR_SPACE_CAST: i16 = 1;
/// Immediate of a cast from address space 1 to 0: the kernel form, the low 32 bits.
pub const CAST_KERN: i32 = 1;
/// Immediate of a cast from address space 0 to 1: the user form.
pub const CAST_USER: i32 = 1 << 16;

/// Source register of a call: what is called.
pub mod call {
    /// A helper by number; none here.
    pub const HELPER: u8 = 0;
    /// A function of the program, `imm` instructions further.
    pub const LOCAL: u8 = 1;
    /// A kernel function by number.
    pub const KFUNC: u8 = 2;
}

/// Source register of [`LD_IMM64`]: what is loaded.
pub mod wide {
    /// A number.
    pub const CONST: u8 = 0;
    /// The arena as an argument of kernel functions.
    pub const MAP: u8 = 1;
    /// The address of a global; see [`GLOBAL_DATA`](super::GLOBAL_DATA).
    pub const GLOBAL: u8 = 2;
}

/// Immediate of a wide load of a global: of .rodata, .data, .bss, in kernel form. The second half's
/// immediate is the offset from the arena's base, here as below.
pub const GLOBAL_DATA: i32 = 0;
/// Immediate of a wide load of a global: of address space 1, in user form.
pub const GLOBAL_ARENA: i32 = 1;

/// Atomics: the immediate of a [`mode::ATOMIC`] store.
pub mod atomic {
    /// Add.
    pub const ADD: i32 = 0x00;
    /// Or.
    pub const OR: i32 = 0x40;
    /// And.
    pub const AND: i32 = 0x50;
    /// Exclusive or.
    pub const XOR: i32 = 0xa0;
    /// Added to the four above: the source register takes the old value.
    pub const FETCH: i32 = 0x01;
    /// Exchange.
    pub const XCHG: i32 = 0xe0 | FETCH;
    /// Compare with r0 and exchange; r0 takes the old value.
    pub const CMPXCHG: i32 = 0xf0 | FETCH;
    /// Load with acquire, of any width.
    pub const LOAD_ACQUIRE: i32 = 0x100;
    /// Store with release, of any width.
    pub const STORE_RELEASE: i32 = 0x110;
}

/// Width of an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// One byte.
    Byte,
    /// Two bytes.
    Half,
    /// Four bytes.
    Word,
    /// Eight bytes.
    Double,
}

impl Width {
    /// Number of bytes.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Byte => 1,
            Self::Half => 2,
            Self::Word => 4,
            Self::Double => 8,
        }
    }

    /// The width in bits 3 and 4 of an opcode of loads and stores.
    pub const fn of(code: u8) -> Self {
        match code & 0x18 {
            0x00 => Self::Word,
            0x08 => Self::Half,
            0x10 => Self::Byte,
            _ => Self::Double,
        }
    }

    /// Those bits.
    pub const fn bits(self) -> u8 {
        match self {
            Self::Word => 0x00,
            Self::Half => 0x08,
            Self::Byte => 0x10,
            Self::Double => 0x18,
        }
    }
}

impl Insn {
    /// An instruction of its fields.
    pub const fn new(code: u8, dst: Reg, src: Reg, off: i16, imm: i32) -> Self {
        Self { code, regs: dst | src << 4, off, imm }
    }

    /// The instruction in eight bytes, little-endian.
    pub const fn decode(bytes: [u8; 8]) -> Self {
        let [code, regs, o0, o1, i0, i1, i2, i3] = bytes;
        let imm = i32::from_le_bytes([i0, i1, i2, i3]);
        Self { code, regs, off: i16::from_le_bytes([o0, o1]), imm }
    }

    /// Those bytes.
    pub const fn encode(self) -> [u8; 8] {
        let [o0, o1] = self.off.to_le_bytes();
        let [i0, i1, i2, i3] = self.imm.to_le_bytes();
        [self.code, self.regs, o0, o1, i0, i1, i2, i3]
    }

    /// Destination register, 0 to 15: only up to [`R10`] are there.
    pub const fn dst(self) -> Reg {
        self.regs & 0xf
    }

    /// Source register, likewise.
    pub const fn src(self) -> Reg {
        self.regs >> 4
    }

    /// See [`class`].
    pub const fn class(self) -> u8 {
        self.code & 0x07
    }

    /// Operation of an arithmetic instruction or a jump; see [`alu`] and [`jmp`].
    pub const fn op(self) -> u8 {
        self.code & 0xf0
    }

    /// Mode of a load or store; see [`mode`].
    pub const fn mode(self) -> u8 {
        self.code & 0xe0
    }

    /// Whether the operand is a register.
    pub const fn is_x(self) -> bool {
        self.code & X != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_survives_its_bytes() {
        let insn = Insn::new(0x7b, 10, 3, -8, i32::MIN + 5);
        assert_eq!(Insn::decode(insn.encode()), insn);
        assert_eq!((insn.dst(), insn.src()), (10, 3));
        // RFC 9669, 3.1: `*(u64 *)(r10 - 8) = r3`.
        assert_eq!(insn.encode()[..4], [0x7b, 0x3a, 0xf8, 0xff]);
    }

    #[test]
    fn a_width_survives_its_bits() {
        for width in [Width::Byte, Width::Half, Width::Word, Width::Double] {
            assert_eq!(Width::of(width.bits()), width);
        }
    }
}

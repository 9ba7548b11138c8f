//! The interpreter: one loop over the instructions of RFC 9669, without heap and without recursion.
//!
//! A program was checked before it gets here. The interpreter does not rely on it: whatever the
//! instructions are, they touch the registers, the stack below, and what [`Machine`] does for them, and
//! a run ends after as many instructions as its budget has.

mod alu;
mod memory;

use crate::insn::{self, Insn, R10, REGISTERS, Width, atomic, call, class, jmp, mode, wide};
use crate::vm::{
    ARENA_USER_BASE, ArenaOffset, AtomicOp, CTX_BASE, CTX_WORDS, FRAMES, MAX_LOOPS, Machine,
    Program, Stop, Trace,
};
use memory::{FrameStacks, top_of};

/// What a run begins with.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The words of the context; r1 points to the first.
    pub ctx: [u64; CTX_WORDS],
    /// Instructions that it may execute.
    pub budget: u64,
}

/// A run in progress.
struct Run<'a, M> {
    insns: &'a [Insn],
    machine: &'a mut M,
    trace: &'a Trace,
    regs: [u64; REGISTERS],
    stacks: FrameStacks,
    /// Return address and r6 to r9 of each caller.
    saved: [(usize, [u64; 4]); FRAMES - 1],
    depth: usize,
    ctx: [u64; CTX_WORDS],
    loops: u64,
}

/// Why an instruction ends the run; it takes the instruction's index.
type Why = fn(usize) -> Stop;

/// Where a run goes on.
enum Flow {
    Next,
    To(usize),
    Exit,
}

/// Runs `program` to its `exit`; returns r0.
///
/// Context: whatever the machine's accesses and kernel functions allow. `trace` is kept up to date
/// before each access and each call.
///
/// # Errors
/// [`Stop`]: why it ended earlier.
pub fn run<M: Machine>(
    program: &Program<'_>,
    machine: &mut M,
    trace: &Trace,
    start: &Start,
) -> Result<u64, Stop> {
    let mut regs = [0; REGISTERS];
    regs[1] = CTX_BASE;
    regs[usize::from(R10)] = top_of(0);
    let mut run = Run {
        insns: program.insns,
        machine,
        trace,
        regs,
        stacks: FrameStacks::new(),
        saved: [(0, [0; 4]); FRAMES - 1],
        depth: 0,
        ctx: start.ctx,
        loops: MAX_LOOPS,
    };
    let (mut at, mut left) = (0, start.budget);
    loop {
        left = left.checked_sub(1).ok_or(Stop::Budget)?;
        let insn = *run.insns.get(at).ok_or(Stop::Bad(at))?;
        match run.step(at, insn)? {
            Flow::Next => at += 1,
            Flow::To(target) => {
                if target <= at && run.machine.should_stop() {
                    return Err(Stop::Aborted);
                }
                at = target;
            }
            Flow::Exit => match run.leave() {
                Some(caller) => at = caller,
                None => return Ok(run.regs[0]),
            },
        }
    }
}

impl<M: Machine> Run<'_, M> {
    fn step(&mut self, at: usize, insn: Insn) -> Result<Flow, Stop> {
        let bad = Stop::Bad(at);
        let dst = usize::from(insn.dst());
        if dst >= REGISTERS || usize::from(insn.src()) >= REGISTERS {
            return Err(bad);
        }
        match insn.class() {
            class::ALU64 | class::ALU => {
                self.write(dst, alu::result(insn, self.regs[dst], self.operand(insn)), bad)?;
            }
            class::JMP | class::JMP32 => return self.jump(at, insn),
            class::LDX => {
                self.trace.note(self.depth, at);
                let value = self.load(insn).map_err(|why| why(at))?;
                self.write(dst, Some(value), bad)?;
            }
            class::ST | class::STX => {
                self.trace.note(self.depth, at);
                self.store(insn).map_err(|why| why(at))?;
            }
            _ => {
                let high = self.insns.get(at + 1).filter(|_| insn.code == insn::LD_IMM64);
                let value = immediate(insn, *high.ok_or(bad)?);
                self.write(dst, value, bad)?;
                return Ok(Flow::To(at + 2));
            }
        }
        Ok(Flow::Next)
    }

    /// Puts a result into a register that a program may write.
    fn write(&mut self, dst: usize, value: Option<u64>, bad: Stop) -> Result<(), Stop> {
        if dst == usize::from(R10) {
            return Err(bad);
        }
        self.regs[dst] = value.ok_or(bad)?;
        Ok(())
    }

    /// The second operand of arithmetic or of a comparison, sign-extended.
    fn operand(&self, insn: Insn) -> u64 {
        if insn.is_x() { self.regs[usize::from(insn.src())] } else { insn.imm as i64 as u64 }
    }

    fn jump(&mut self, at: usize, insn: Insn) -> Result<Flow, Stop> {
        let narrow = insn.class() == class::JMP32;
        let by = |distance: i64| {
            let target = at as i64 + 1 + distance;
            usize::try_from(target).map(Flow::To).map_err(|_| Stop::Bad(at))
        };
        let taken = match insn.op() {
            jmp::JA => return by(if narrow { insn.imm.into() } else { insn.off.into() }),
            jmp::EXIT if insn.code == insn::EXIT => return Ok(Flow::Exit),
            jmp::CALL if insn.code == insn::CALL => return self.call(at, insn),
            jmp::JCOND if insn.code == insn::MAY_GOTO => {
                let spent = self.loops == 0;
                self.loops = self.loops.saturating_sub(1);
                spent
            }
            op => {
                let (dst, operand) = (self.regs[usize::from(insn.dst())], self.operand(insn));
                let holds = if narrow {
                    let signed = (i64::from(dst as i32), i64::from(operand as i32));
                    compare(op, dst & 0xffff_ffff, operand & 0xffff_ffff, signed)
                } else {
                    compare(op, dst, operand, (dst as i64, operand as i64))
                };
                holds.ok_or(Stop::Bad(at))?
            }
        };
        if taken { by(insn.off.into()) } else { Ok(Flow::Next) }
    }

    fn call(&mut self, at: usize, insn: Insn) -> Result<Flow, Stop> {
        self.trace.note(self.depth, at);
        if self.machine.should_stop() {
            return Err(Stop::Aborted);
        }
        match insn.src() {
            call::LOCAL => {
                let target = at as i64 + 1 + i64::from(insn.imm);
                let target = usize::try_from(target).map_err(|_| Stop::Bad(at))?;
                let saved = self.saved.get_mut(self.depth).ok_or(Stop::Bad(at))?;
                let [.., r6, r7, r8, r9, _] = self.regs;
                *saved = (at + 1, [r6, r7, r8, r9]);
                self.depth += 1;
                self.regs[usize::from(R10)] = top_of(self.depth);
                Ok(Flow::To(target))
            }
            call::KFUNC => {
                let [_, r1, r2, r3, r4, r5, ..] = self.regs;
                let args = [r1, r2, r3, r4, r5];
                self.regs[0] = self.machine.call(insn.imm as u32, args, &self.stacks)?;
                Ok(Flow::Next)
            }
            _ => Err(Stop::Bad(at)),
        }
    }

    /// Returns to the caller, if there is one.
    fn leave(&mut self) -> Option<usize> {
        self.depth = self.depth.checked_sub(1)?;
        let (at, [r6, r7, r8, r9]) = self.saved[self.depth];
        self.regs[6..10].copy_from_slice(&[r6, r7, r8, r9]);
        self.regs[usize::from(R10)] = top_of(self.depth);
        Some(at)
    }

    fn load(&mut self, insn: Insn) -> Result<u64, Why> {
        let (base, width) = (self.regs[usize::from(insn.src())], Width::of(insn.code));
        let value = self.read(base, insn.off, width, false)?;
        match (insn.mode(), width) {
            (mode::MEM, _) => Ok(value),
            (mode::MEMSX, Width::Byte) => Ok(value as i8 as u64),
            (mode::MEMSX, Width::Half) => Ok(value as i16 as u64),
            (mode::MEMSX, Width::Word) => Ok(value as i32 as u64),
            _ => Err(Stop::Bad),
        }
    }

    fn store(&mut self, insn: Insn) -> Result<(), Why> {
        let (base, width) = (self.regs[usize::from(insn.dst())], Width::of(insn.code));
        match (insn.mode(), insn.class()) {
            (mode::MEM, class::ST) => {
                self.put(base, insn.off, width, insn.imm as i64 as u64, false)
            }
            (mode::MEM, _) => {
                self.put(base, insn.off, width, self.regs[usize::from(insn.src())], false)
            }
            (mode::ATOMIC, class::STX) => self.change(insn, width),
            _ => Err(Stop::Bad),
        }
    }

    fn change(&mut self, insn: Insn, width: Width) -> Result<(), Why> {
        let (dst, src) = (usize::from(insn.dst()), usize::from(insn.src()));
        match insn.imm {
            atomic::LOAD_ACQUIRE => {
                let value = self.read(self.regs[src], insn.off, width, true)?;
                return self.take(dst, value);
            }
            atomic::STORE_RELEASE => {
                return self.put(self.regs[dst], insn.off, width, self.regs[src], true);
            }
            _ => {}
        }
        let mask = match width {
            Width::Word => u64::from(u32::MAX),
            Width::Double => u64::MAX,
            Width::Byte | Width::Half => return Err(Stop::Bad),
        };
        let op = match insn.imm & !atomic::FETCH {
            atomic::ADD => AtomicOp::Add,
            atomic::OR => AtomicOp::Or,
            atomic::AND => AtomicOp::And,
            atomic::XOR => AtomicOp::Xor,
            _ if insn.imm == atomic::XCHG => AtomicOp::Exchange,
            _ if insn.imm == atomic::CMPXCHG => AtomicOp::CompareExchange(self.regs[0] & mask),
            _ => return Err(Stop::Bad),
        };
        if memory::is_private(self.regs[dst]) {
            return Err(Stop::Stray);
        }
        let at = ArenaOffset::of(self.regs[dst], insn.off);
        let old = self.machine.atomic(at, width, op, self.regs[src] & mask);
        let old = old.ok_or(Stop::Unaligned as Why)?;
        match op {
            AtomicOp::CompareExchange(_) => self.regs[0] = old,
            _ if insn.imm & atomic::FETCH != 0 => self.take(src, old)?,
            _ => {}
        }
        Ok(())
    }

    /// Puts what an atomic found into a register.
    fn take(&mut self, register: usize, value: u64) -> Result<(), Why> {
        self.write(register, Some(value), Stop::Aborted).map_err(|_| Stop::Bad as Why)
    }

    fn read(&mut self, base: u64, off: i16, width: Width, ordered: bool) -> Result<u64, Why> {
        if !memory::is_private(base) {
            return Ok(self.machine.load(ArenaOffset::of(base, off), width, ordered));
        }
        let address = base.wrapping_add_signed(off.into());
        let in_ctx = address.wrapping_sub(CTX_BASE);
        let value = if in_ctx < 8 * CTX_WORDS as u64 {
            let whole = width == Width::Double && in_ctx.is_multiple_of(8);
            whole.then(|| self.ctx[(in_ctx / 8) as usize])
        } else {
            self.stacks.load(address, width)
        };
        value.ok_or(Stop::Stray)
    }

    fn put(
        &mut self,
        base: u64,
        off: i16,
        width: Width,
        value: u64,
        ordered: bool,
    ) -> Result<(), Why> {
        if memory::is_private(base) {
            let address = base.wrapping_add_signed(off.into());
            return self.stacks.store(address, width, value).ok_or(Stop::Stray);
        }
        self.machine.store(ArenaOffset::of(base, off), width, value, ordered);
        Ok(())
    }
}

/// Whether a conditional jump is taken; `None` if there is no such comparison.
fn compare(op: u8, dst: u64, operand: u64, (s_dst, s_operand): (i64, i64)) -> Option<bool> {
    Some(match op {
        jmp::JEQ => dst == operand,
        jmp::JNE => dst != operand,
        jmp::JGT => dst > operand,
        jmp::JGE => dst >= operand,
        jmp::JLT => dst < operand,
        jmp::JLE => dst <= operand,
        jmp::JSET => dst & operand != 0,
        jmp::JSGT => s_dst > s_operand,
        jmp::JSGE => s_dst >= s_operand,
        jmp::JSLT => s_dst < s_operand,
        jmp::JSLE => s_dst <= s_operand,
        _ => return None,
    })
}

/// What a wide instruction loads; `None` if it names what is not there.
fn immediate(low: Insn, high: Insn) -> Option<u64> {
    let upper = u64::from(high.imm as u32);
    match (low.src(), low.imm) {
        (wide::CONST, imm) => Some(u64::from(imm as u32) | upper << 32),
        (wide::MAP, _) => Some(0),
        (wide::GLOBAL, insn::GLOBAL_DATA) => Some(upper),
        (wide::GLOBAL, insn::GLOBAL_ARENA) => Some(ARENA_USER_BASE | upper),
        _ => None,
    }
}

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod tests;

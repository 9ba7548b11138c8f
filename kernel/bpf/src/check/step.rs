//! What one instruction does to kinds.

use super::types::{Kind, State};
use super::{Caller, Check, Reason, Rejection, form, types};
use crate::insn::{
    self, ADDR_SPACE_CAST, CAST_KERN, Insn, Reg, Width, alu, atomic, call, class, jmp, mode, wide,
};
use crate::kfunc::{Arg, Kfunc, Returns};
use crate::vm::{CTX_WORDS, STACK_BYTES};

/// Where paths go on.
pub enum Next {
    To(usize),
    /// There, and at the next instruction.
    Either(usize),
    Exit(Kind),
}

/// Why not, and whether it is this instruction's fault or one's in the function that it calls.
pub enum Refused {
    Here(Reason),
    Inside(Rejection),
}

type Step<T> = Result<T, Reason>;

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        Self::Here(reason)
    }
}

impl Check<'_> {
    /// Follows instruction `at`, whose form was checked.
    pub fn step(&mut self, at: usize, insn: Insn, state: &mut State) -> Result<Next, Refused> {
        let dst = usize::from(insn.dst());
        match insn.class() {
            class::ALU | class::ALU64 => state.regs[dst] = arithmetic(insn, state)?,
            class::JMP | class::JMP32 => return self.jump(at, insn, state),
            class::LDX => {
                let kind = self.load(insn.src(), insn.off, Width::of(insn.code), state)?;
                // Only a whole slot gives a pointer back.
                let whole = insn.mode() == mode::MEM;
                state.regs[dst] = if whole { kind } else { Kind::Scalar };
            }
            class::ST => {
                self.store(insn.dst(), insn.off, Width::of(insn.code), Kind::Scalar, 0, state)?;
            }
            class::STX if insn.mode() == mode::ATOMIC => self.change(insn, state)?,
            class::STX => {
                let kind = read(state, insn.src())?;
                let width = Width::of(insn.code);
                self.store(insn.dst(), insn.off, width, kind, insn.src(), state)?;
            }
            _ => {
                state.regs[dst] = self.wide(insn)?;
                return Ok(Next::To(at + 2));
            }
        }
        Ok(Next::To(at + 1))
    }

    fn wide(&self, insn: Insn) -> Step<Kind> {
        let kind = match (insn.src(), insn.imm) {
            (wide::CONST, _) => return Ok(Kind::Scalar),
            (wide::MAP, _) => Kind::Map,
            (_, insn::GLOBAL_DATA) => Kind::Arena,
            _ => Kind::Scalar,
        };
        if self.has_arena { Ok(kind) } else { Err(Reason::NoArena) }
    }

    fn jump(&mut self, at: usize, insn: Insn, state: &mut State) -> Result<Next, Refused> {
        let target = form::target(at, insn).map_or(0, |target| target as usize);
        match insn.op() {
            jmp::JA => Ok(Next::To(target)),
            jmp::EXIT => self.exit(state),
            jmp::CALL if insn.src() == call::LOCAL => {
                self.call_local(target, state)?;
                Ok(Next::To(at + 1))
            }
            jmp::CALL => {
                call_kernel(insn.imm as u32, state)?;
                Ok(Next::To(at + 1))
            }
            jmp::JCOND => Ok(Next::Either(target)),
            _ => {
                read(state, insn.dst())?;
                if insn.is_x() {
                    read(state, insn.src())?;
                }
                Ok(Next::Either(target))
            }
        }
    }

    /// The program's own end needs a result; a function may have none.
    fn exit(&self, state: &State) -> Result<Next, Refused> {
        let kind = state.regs[0];
        match kind {
            Kind::Unset if self.frames.is_empty() => Err(Reason::Unset(0).into()),
            _ if kind.is_private() => Err(Reason::Leak(0, kind).into()),
            _ => Ok(Next::Exit(kind)),
        }
    }

    fn call_local(&mut self, target: usize, state: &mut State) -> Result<(), Refused> {
        let mut args = [Kind::Unset; 5];
        args.copy_from_slice(&state.regs[1..6]);
        // Reserved when the check began; a call that nests too deep is refused below.
        self.frames.push(Caller { slots: state.slots, written: 0 });
        let callee = State::called(self.frames.len(), &args);
        let outcome = self.function(target, callee);
        let caller = self.frames.pop();
        state.regs[0] = outcome.map_err(Refused::Inside)?;
        state.regs[1..6].fill(Kind::Unset);
        let written = caller.map_or(0, |caller| caller.written);
        for (n, slot) in state.slots.iter_mut().enumerate() {
            if written & 1 << n != 0 {
                *slot = slot.smeared();
            }
        }
        Ok(())
    }

    fn load(&self, base: Reg, off: i16, width: Width, state: &State) -> Step<Kind> {
        match read(state, base)? {
            Kind::Arena => self.arena().map(|()| Kind::Scalar),
            Kind::Ctx => {
                let whole = width == Width::Double && off % 8 == 0;
                let inside = (0..8 * CTX_WORDS as i16).contains(&off);
                if whole && inside { Ok(Kind::Scalar) } else { Err(Reason::Context) }
            }
            Kind::Stack { frame, offset } => {
                let (first, last) = slots(offset, off, width)?;
                if width == Width::Double && first == last {
                    return Ok(self.slot(frame, first, state));
                }
                let parts = (first..=last).map(|slot| self.slot(frame, slot, state).smeared());
                Ok(parts.fold(Kind::Scalar, types::join))
            }
            kind => Err(Reason::NoPointer(base, kind)),
        }
    }

    /// Stores a value of `kind`, which is register `source`'s if it is a pointer.
    fn store(
        &mut self,
        base: Reg,
        off: i16,
        width: Width,
        kind: Kind,
        source: Reg,
        state: &mut State,
    ) -> Step<()> {
        match read(state, base)? {
            Kind::Arena if kind.is_private() => Err(Reason::Leak(source, kind)),
            Kind::Arena => self.arena(),
            Kind::Ctx => Err(Reason::Context),
            Kind::Stack { frame, offset } => {
                let (first, last) = slots(offset, off, width)?;
                let whole = width == Width::Double && first == last;
                if kind.is_private() && !whole {
                    return Err(Reason::Leak(source, kind));
                }
                match self.frames.get_mut(usize::from(frame)) {
                    None if whole => state.slots[first] = kind,
                    None => {
                        for slot in &mut state.slots[first..=last] {
                            *slot = slot.smeared();
                        }
                    }
                    // Another frame's slots are not followed, so no pointer goes there.
                    Some(_) if kind.is_private() => return Err(Reason::Leak(source, kind)),
                    Some(caller) => {
                        caller.written |= 1 << first | 1 << last;
                    }
                }
                Ok(())
            }
            other => Err(Reason::NoPointer(base, other)),
        }
    }

    /// What a slot of `frame` holds.
    fn slot(&self, frame: u8, slot: usize, state: &State) -> Kind {
        match self.frames.get(usize::from(frame)) {
            None => state.slots[slot],
            Some(caller) if caller.written & 1 << slot != 0 => caller.slots[slot].smeared(),
            Some(caller) => caller.slots[slot],
        }
    }

    fn change(&self, insn: Insn, state: &mut State) -> Step<()> {
        let is_load = insn.imm == atomic::LOAD_ACQUIRE;
        let base = if is_load { insn.src() } else { insn.dst() };
        match read(state, base)? {
            Kind::Arena => self.arena()?,
            kind => return Err(Reason::Atomic(base, kind)),
        }
        if is_load {
            state.regs[usize::from(insn.dst())] = Kind::Scalar;
            return Ok(());
        }
        let kind = read(state, insn.src())?;
        if kind.is_private() {
            return Err(Reason::Leak(insn.src(), kind));
        }
        if insn.imm == atomic::CMPXCHG {
            let kind = read(state, 0)?;
            if kind.is_private() {
                return Err(Reason::Leak(0, kind));
            }
            state.regs[0] = Kind::Scalar;
        } else if form::is_fetch(insn.imm) {
            state.regs[usize::from(insn.src())] = Kind::Scalar;
        }
        Ok(())
    }

    fn arena(&self) -> Step<()> {
        if self.has_arena { Ok(()) } else { Err(Reason::NoArena) }
    }
}

/// A register that holds something.
fn read(state: &State, register: Reg) -> Step<Kind> {
    match state.regs[usize::from(register)] {
        Kind::Unset => Err(Reason::Unset(register)),
        kind => Ok(kind),
    }
}

/// The first and the last slot that an access touches.
fn slots(offset: i16, off: i16, width: Width) -> Step<(usize, usize)> {
    let from = i32::from(offset) + i32::from(off);
    let to = from + width.bytes() as i32;
    if from < -(STACK_BYTES as i32) || to > 0 {
        return Err(Reason::StackBounds(from));
    }
    let first = (from + STACK_BYTES as i32) as usize;
    Ok((first / 8, (first + width.bytes() as usize - 1) / 8))
}

fn arithmetic(insn: Insn, state: &State) -> Step<Kind> {
    let (dst, src) = (insn.dst(), insn.src());
    let is_64 = insn.class() == class::ALU64;
    let operand = if insn.is_x() && insn.op() != alu::END { Some(read(state, src)?) } else { None };
    if insn.op() == alu::MOV {
        return moved(insn, operand);
    }
    let kind = read(state, dst)?;
    match (kind, operand.unwrap_or(Kind::Scalar)) {
        (Kind::Stack { frame, offset }, _) if operand.is_none() => {
            let by = match insn.op() {
                alu::ADD if is_64 => insn.imm,
                alu::SUB if is_64 => insn.imm.wrapping_neg(),
                _ => return Err(Reason::Arithmetic(dst, kind)),
            };
            let moved = i32::from(offset).checked_add(by).and_then(|to| i16::try_from(to).ok());
            let offset = moved.ok_or(Reason::Arithmetic(dst, kind))?;
            Ok(Kind::Stack { frame, offset })
        }
        (kind, _) if kind.is_private() => Err(Reason::Arithmetic(dst, kind)),
        (_, operand) if operand.is_private() => Err(Reason::Arithmetic(src, operand)),
        (Kind::Arena, Kind::Arena) if insn.op() == alu::SUB => Ok(Kind::Scalar),
        (Kind::Scalar, Kind::Scalar) => Ok(Kind::Scalar),
        // Anything may be done to an arena pointer: only its low 32 bits ever count.
        (Kind::Arena, _) => Ok(Kind::Arena),
        (_, Kind::Arena) if insn.op() == alu::ADD => Ok(Kind::Arena),
        _ => Ok(Kind::Scalar),
    }
}

fn moved(insn: Insn, operand: Option<Kind>) -> Step<Kind> {
    let Some(kind) = operand else { return Ok(Kind::Scalar) };
    let is_plain = insn.off == 0 && insn.class() == class::ALU64;
    match kind {
        kind if kind.is_private() && !is_plain => Err(Reason::Arithmetic(insn.src(), kind)),
        _ if insn.off == ADDR_SPACE_CAST && insn.imm == CAST_KERN => Ok(Kind::Arena),
        _ if insn.off == ADDR_SPACE_CAST => Ok(Kind::Scalar),
        kind => Ok(kind),
    }
}

fn call_kernel(id: u32, state: &mut State) -> Step<()> {
    let signature = Kfunc::from_id(id).ok_or(Reason::Kfunc(id))?;
    for (arg, register) in signature.args.iter().zip(1..) {
        let kind = read(state, register)?;
        let fits = match arg {
            Arg::Map => kind == Kind::Map,
            Arg::Arena | Arg::Scalar => matches!(kind, Kind::Arena | Kind::Scalar),
            Arg::Text | Arg::Bytes => !matches!(kind, Kind::Ctx | Kind::Map),
        };
        if !fits {
            return Err(Reason::Argument(register, kind));
        }
    }
    state.regs[1..6].fill(Kind::Unset);
    state.regs[0] = match signature.returns {
        Returns::Scalar => Kind::Scalar,
        Returns::Arena => Kind::Arena,
    };
    Ok(())
}

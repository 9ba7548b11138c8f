//! What is let in, and each reason for which something is not.

use std::string::ToString;
use std::vec;
use std::vec::Vec;

use super::*;
use crate::asm::{Asm, R0, R1, R2, R3, R4, R5, R6, R7, R10};
use crate::insn::{CALL, EXIT, Reg, Width, X, alu, atomic, call, class, jmp, mode};
use crate::kfunc::Kfunc;

fn of(insns: &[Insn], has_arena: bool) -> Result<(), Rejection> {
    check(&Program { insns }, has_arena)
}

fn accepted(build: impl FnOnce(&mut Asm)) {
    let mut asm = Asm::new();
    build(&mut asm);
    assert_eq!(of(&asm.insns(), true), Ok(()));
}

fn refused(build: impl FnOnce(&mut Asm)) -> (usize, Reason) {
    let mut asm = Asm::new();
    build(&mut asm);
    let Rejection { insn, reason } = of(&asm.insns(), true).unwrap_err();
    (insn, reason)
}

fn alone(insn: Insn) -> Reason {
    let exit = Insn::new(EXIT, 0, 0, 0, 0);
    let zero = Insn::new(class::ALU64 | alu::MOV, 0, 0, 0, 0);
    let Rejection { insn, reason } = of(&[zero, insn, exit], true).unwrap_err();
    assert_eq!(insn, 1, "{reason}");
    reason
}

const STACK: fn(i16) -> Kind = |offset| Kind::Stack { frame: 0, offset };

#[test]
fn what_clang_emits_for_an_arena_program_is_let_in() {
    accepted(|asm| {
        let (again, done, function) = (asm.label(), asm.label(), asm.label());
        asm.load(Width::Double, R6, R1, 0).store(Width::Double, R10, -8, R1);
        asm.arena(R1).mov(R2, 0).mov(R3, 1).mov(R4, -1).mov(R5, 0).call(Kfunc::ArenaAllocPages);
        asm.jump_if(jmp::JEQ, R0, 0, done).cast_kern(R7, R0).mov(R6, 0);
        asm.store(Width::Double, R10, -16, R7);
        asm.bind(again).alu_reg(alu::ADD, R7, R6).store(Width::Word, R7, 4, R6).add(R6, 8);
        asm.may_goto(done).jump_if(jmp::JLT, R6, 512, again);
        // A pointer comes back from where it was spilled.
        asm.load(Width::Double, R1, R10, -16).load(Width::Byte, R2, R1, 0);
        asm.mov_reg(R2, R10).add(R2, -32).call_local(function);
        asm.bind(done).mov(R0, 0).exit();
        asm.bind(function).store_imm(Width::Word, R2, 4, 7).load(Width::Double, R0, R1, 8).exit();
    });
}

#[test]
fn arithmetic_on_arena_pointers_is_free() {
    accepted(|asm| {
        asm.global(R1, 0).global(R2, 64).mov_reg(R3, R1).alu_reg(alu::SUB, R3, R2);
        asm.alu(alu::AND, R1, -8).alu(alu::LSH, R1, 1).load(Width::Byte, R0, R1, 0);
        asm.alu_reg(alu::ADD, R3, R2).load(Width::Byte, R0, R3, 0).exit();
    });
    let difference = refused(|asm| {
        asm.global(R1, 0).global(R2, 64).alu_reg(alu::SUB, R1, R2).load(Width::Byte, R0, R1, 0);
        asm.exit();
    });
    assert_eq!(difference, (5, Reason::NoPointer(1, Kind::Scalar)));
}

#[test]
fn a_null_on_one_path_is_still_an_arena_pointer() {
    accepted(|asm| {
        let join = asm.label();
        asm.load(Width::Double, R2, R1, 0).mov(R3, 0).jump_if(jmp::JEQ, R2, 0, join).global(R3, 8);
        asm.bind(join).load(Width::Byte, R0, R3, 0).exit();
    });
}

#[test]
fn reserved_fields_and_opcodes_are_looked_at() {
    use Reason::{Call, Field, FramePointer, Opcode, Register};
    let x = |op| class::ALU64 | op | X;
    for (insn, reason) in [
        (Insn::new(class::ALU64, 11, 0, 0, 0), Register(11)),
        (Insn::new(x(alu::ADD), 0, 15, 0, 0), Register(15)),
        (Insn::new(class::ALU64, 10, 0, 0, 8), FramePointer),
        (Insn::new(class::LDX | mode::MEM, 10, 10, -8, 0), FramePointer),
        (Insn::new(class::ALU64, 0, 1, 0, 0), Field),
        (Insn::new(x(alu::ADD), 0, 0, 0, 3), Field),
        (Insn::new(class::ALU64, 0, 0, 1, 0), Field),
        (Insn::new(class::ALU64 | alu::DIV, 0, 0, 0, 0), Field),
        (Insn::new(class::ALU64 | alu::LSH, 0, 0, 0, 64), Field),
        (Insn::new(class::ALU | alu::LSH, 0, 0, 0, 32), Field),
        (Insn::new(class::ALU64 | alu::END, 0, 0, 0, 24), Field),
        (Insn::new(x(alu::END), 0, 0, 0, 16), Opcode(0xdf)),
        (Insn::new(x(alu::NEG), 0, 0, 0, 0), Opcode(0x8f)),
        (Insn::new(x(alu::MOV), 0, 0, 1, 2), Field),
        (Insn::new(class::ALU | alu::MOV | X, 0, 0, 32, 0), Field),
        (Insn::new(0xe7, 0, 0, 0, 0), Opcode(0xe7)),
        (Insn::new(class::LDX | 0x20, 0, 0, 0, 0), Opcode(0x21)),
        (Insn::new(class::LDX | mode::MEMSX | 0x18, 0, 0, 0, 0), Opcode(0x99)),
        (Insn::new(class::LDX | mode::MEM, 0, 10, -8, 1), Field),
        (Insn::new(class::ST | mode::ATOMIC, 0, 0, 0, 0), Opcode(0xc2)),
        (Insn::new(class::STX | mode::ATOMIC | 0x10, 0, 0, 0, 0), Opcode(0xd3)),
        (Insn::new(class::STX | mode::ATOMIC, 0, 0, 0, 0x77), Field),
        (Insn::new(0x30, 0, 0, 0, 0), Opcode(0x30)),
        (Insn::new(CALL, 0, call::HELPER, 0, 1), Call),
        (Insn::new(CALL | X, 0, 0, 0, 0), Opcode(0x8d)),
        (Insn::new(EXIT, 1, 0, 0, 0), Field),
        (Insn::new(class::JMP32 | jmp::EXIT, 0, 0, 0, 0), Opcode(0x96)),
        (Insn::new(class::JMP | 0xf0, 0, 0, 0, 0), Opcode(0xf5)),
        (Insn::new(class::JMP | jmp::JEQ, 0, 1, 0, 0), Field),
    ] {
        assert_eq!(alone(insn), reason, "{insn:?}");
    }
}

#[test]
fn control_never_leaves_the_instructions() {
    let exit = Insn::new(EXIT, 0, 0, 0, 0);
    let zero = Insn::new(class::ALU64 | alu::MOV, 0, 0, 0, 0);
    let ja = |off| Insn::new(class::JMP | jmp::JA, 0, 0, off, 0);
    let wide = [Insn::new(LD_IMM64, 0, 0, 0, 1), Insn::default()];
    let reason = |insns: &[Insn]| {
        let rejection = of(insns, false).unwrap_err();
        (rejection.insn, rejection.reason)
    };
    assert_eq!(reason(&[]), (0, Reason::Length(0)));
    assert_eq!(reason(&vec![exit; MAX_INSNS + 1]), (0, Reason::Length(MAX_INSNS + 1)));
    assert_eq!(reason(&[zero, ja(1), exit]), (1, Reason::Target(3)));
    assert_eq!(reason(&[zero, ja(-3), exit]), (1, Reason::Target(-1)));
    assert_eq!(reason(&[ja(1), wide[0], wide[1], exit]), (0, Reason::Target(2)));
    assert_eq!(reason(&[zero, wide[0]]), (1, Reason::HalfWide));
    assert_eq!(reason(&[wide[0], zero, exit]), (0, Reason::HalfWide));
    assert_eq!(reason(&[zero]), (0, Reason::FallsOff));
    assert_eq!(reason(&[wide[0], wide[1]]), (1, Reason::FallsOff));
    assert_eq!(reason(&[zero, exit, zero, exit]), (2, Reason::Unreachable));
    let itself = [zero, Insn::new(CALL, 0, call::LOCAL, 0, -2), exit];
    assert_eq!(reason(&itself), (0, Reason::Depth));
}

/// A program, and where and why it is refused.
type Case<'a> = (&'a dyn Fn(&mut Asm), (usize, Reason));

#[test]
fn kinds_are_followed() {
    use Reason::{Argument, Arithmetic, Atomic, Context, Leak, NoPointer, StackBounds, Unset};
    let cases: [Case<'_>; 18] = [
        (&|a| drop(a.exit().insns()), (0, Unset(0))),
        (&|a| drop(a.mov_reg(R0, R2).exit().insns()), (0, Unset(2))),
        (
            &|a| drop(a.mov(R2, 8).load(Width::Byte, R0, R2, 0).exit().insns()),
            (1, NoPointer(2, Kind::Scalar)),
        ),
        (&|a| drop(a.load(Width::Double, R0, R10, -520).exit().insns()), (0, StackBounds(-520))),
        (&|a| drop(a.load(Width::Double, R0, R10, -4).exit().insns()), (0, StackBounds(-4))),
        (&|a| drop(a.load(Width::Word, R0, R1, 0).exit().insns()), (0, Context)),
        (&|a| drop(a.load(Width::Double, R0, R1, 32).exit().insns()), (0, Context)),
        (&|a| drop(a.store_imm(Width::Double, R1, 0, 1).exit().insns()), (0, Context)),
        (&|a| drop(a.mov_reg(R0, R10).exit().insns()), (1, Leak(0, STACK(0)))),
        (
            &|a| drop(a.global(R2, 0).store(Width::Double, R2, 0, R10).exit().insns()),
            (2, Leak(10, STACK(0))),
        ),
        (
            &|a| drop(a.global(R2, 0).store(Width::Double, R2, 0, R1).exit().insns()),
            (2, Leak(1, Kind::Ctx)),
        ),
        (&|a| drop(a.store(Width::Word, R10, -8, R1).exit().insns()), (0, Leak(1, Kind::Ctx))),
        (
            &|a| drop(a.mov_reg(R2, R10).alu(alu::AND, R2, -8).exit().insns()),
            (1, Arithmetic(2, STACK(0))),
        ),
        (
            &|a| drop(a.mov(R2, 4).mov_reg(R3, R10).alu_reg(alu::ADD, R3, R2).exit().insns()),
            (2, Arithmetic(3, STACK(0))),
        ),
        (
            &|a| {
                drop(
                    a.mov_reg(R2, R10)
                        .atomic(Width::Double, atomic::ADD, R2, -8, R2)
                        .exit()
                        .insns(),
                )
            },
            (1, Atomic(2, STACK(0))),
        ),
        (
            &|a| {
                drop(a.mov(R1, 1).mov(R2, 1).mov(R3, 1).call(Kfunc::ArenaFreePages).exit().insns())
            },
            (3, Argument(1, Kind::Scalar)),
        ),
        (&|a| drop(a.call(Kfunc::ReadStruct).exit().insns()), (0, Argument(1, Kind::Ctx))),
        (
            &|a| drop(a.mov(R1, 0).call(Kfunc::ReadStruct).mov_reg(R0, R1).exit().insns()),
            (2, Unset(1)),
        ),
    ];
    for (n, (build, expected)) in cases.iter().enumerate() {
        assert_eq!(refused(build), *expected, "case {n}");
    }
    assert_eq!(
        refused(|a| drop(a.raw(Insn::new(CALL, 0, call::KFUNC, 0, 99)).exit().insns())),
        (0, Reason::Kfunc(99))
    );
}

#[test]
fn a_register_that_differs_between_paths_is_not_set() {
    let reason = refused(|asm| {
        let join = asm.label();
        asm.load(Width::Double, R2, R1, 0).mov_reg(R3, R10).jump_if(jmp::JEQ, R2, 0, join);
        asm.mov(R3, 5).bind(join).mov_reg(R0, R3).exit();
    });
    assert_eq!(reason, (4, Reason::Unset(3)));
}

#[test]
fn a_program_without_an_arena_does_not_use_one() {
    let mut asm = Asm::new();
    asm.mov(R2, 0).cast_kern(R2, R2).load(Width::Byte, R0, R2, 0).exit();
    let rejection = of(&asm.insns(), false).unwrap_err();
    assert_eq!((rejection.insn, rejection.reason), (2, Reason::NoArena));
    let mut asm = Asm::new();
    asm.arena(R1).mov(R0, 0).exit();
    assert_eq!(of(&asm.insns(), false).unwrap_err().reason, Reason::NoArena);
}

#[test]
fn a_function_s_writes_to_its_caller_s_stack_are_seen() {
    // The spilled pointer is overwritten by the callee: it is a number now.
    let reason = refused(|asm| {
        let function = asm.label();
        asm.global(R6, 0).store(Width::Double, R10, -8, R6).mov_reg(R1, R10).call_local(function);
        asm.load(Width::Double, R2, R10, -8).load(Width::Byte, R0, R2, 0).exit();
        asm.bind(function).store_imm(Width::Byte, R1, -3, 1).mov(R0, 0).exit();
    });
    assert_eq!(reason, (6, Reason::NoPointer(2, Kind::Scalar)));
}

#[test]
fn a_program_of_many_paths_ends_in_a_refusal() {
    // Each function calls the next one twice, down to the eighth, which is long.
    let mut asm = Asm::new();
    let labels: Vec<_> = (0..7).map(|_| asm.label()).collect();
    asm.call_local(labels[0]).call_local(labels[0]).mov(R0, 0).exit();
    for (n, label) in labels.iter().enumerate() {
        asm.bind(*label);
        if let Some(next) = labels.get(n + 1) {
            for _ in 0..4 {
                asm.call_local(*next);
            }
        } else {
            for _ in 0..3000 {
                asm.mov(R0, 1);
            }
        }
        asm.mov(R0, 0).exit();
    }
    assert_eq!(of(&asm.insns(), true).unwrap_err().reason, Reason::TooComplex);
}

#[test]
fn a_refusal_is_one_line_that_says_where_and_why() {
    let mut asm = Asm::new();
    asm.mov(R2, 8).load(Width::Byte, R0, R2, 0).exit();
    let line = of(&asm.insns(), true).unwrap_err().to_string();
    assert_eq!(line, "insn 1: r2 is a number, no pointer to memory");
}

#[test]
fn a_loop_does_not_read_a_caller_s_slot_as_it_was_before_the_loop_wrote_it() {
    // The function reads a pointer out of its caller's slot and then puts a number there: the second
    // turn of the loop reads the number.
    let program = |value: Option<Reg>| {
        move |asm: &mut Asm| {
            let (function, top, out) = (asm.label(), asm.label(), asm.label());
            asm.global(R2, 0).store(Width::Double, R10, -8, R2).mov_reg(R1, R10);
            asm.call_local(function).mov(R0, 0).exit();
            asm.bind(function).mov(R0, 0).mov(R5, 5).bind(top).load(Width::Double, R2, R1, -8);
            asm.load(Width::Byte, R3, R2, 0);
            if let Some(register) = value {
                asm.store(Width::Double, R1, -8, register);
            }
            asm.may_goto(out).jump_if(jmp::JEQ, R0, 0, top).bind(out).exit();
        }
    };
    accepted(program(None));
    assert_eq!(refused(program(Some(R5))), (10, Reason::NoPointer(2, Kind::Scalar)));
}

#[test]
fn a_slot_that_held_a_stack_pointer_gives_no_number() {
    // Overwritten in part, or perhaps, or read in part: some of its bytes would be the address's.
    let part = refused(|asm| {
        asm.store(Width::Double, R10, -8, R10).store_imm(Width::Byte, R10, -8, 0);
        asm.load(Width::Double, R0, R10, -8).exit();
    });
    assert_eq!(part, (3, Reason::Unset(0)));
    let read_in_part = refused(|asm| {
        asm.store(Width::Double, R10, -8, R10).load(Width::Word, R0, R10, -8).exit();
    });
    assert_eq!(read_in_part, (2, Reason::Unset(0)));
    let perhaps = refused(|asm| {
        let (function, out) = (asm.label(), asm.label());
        asm.load(Width::Double, R2, R1, 0).store(Width::Double, R10, -8, R10).mov_reg(R1, R10);
        asm.call_local(function).load(Width::Double, R0, R10, -8).exit();
        asm.bind(function).jump_if(jmp::JEQ, R2, 0, out).store_imm(Width::Double, R1, -8, 0);
        asm.bind(out).exit();
    });
    assert_eq!(perhaps, (5, Reason::Unset(0)));
}

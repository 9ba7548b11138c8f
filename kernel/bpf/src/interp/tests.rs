//! What a run as a whole does; single instructions are a table of their own.

use std::vec;
use std::vec::Vec;

use super::*;
use crate::insn::{CALL, EXIT, LD_IMM64, MAY_GOTO, MOV64_X, alu};
use crate::vm::Stack;

/// A machine with a few words of arena, and a kernel function that adds its arguments.
#[derive(Default)]
struct Flat {
    words: [u64; 8],
    stops: bool,
    log: Vec<u32>,
}

impl Machine for Flat {
    fn load(&mut self, at: ArenaOffset, _: Width, _: bool) -> u64 {
        let word = usize::try_from(at.get() / 8).ok();
        word.and_then(|word| self.words.get(word)).copied().unwrap_or(0)
    }

    fn store(&mut self, at: ArenaOffset, _: Width, value: u64, _: bool) {
        if let Some(word) = self.words.get_mut(at.get() as usize / 8) {
            *word = value;
        }
    }

    fn atomic(&mut self, at: ArenaOffset, width: Width, op: AtomicOp, operand: u64) -> Option<u64> {
        if at.get() % width.bytes() as i64 != 0 {
            return None;
        }
        let Some(word) = self.words.get_mut(at.get() as usize / 8) else { return Some(0) };
        let old = *word;
        *word = match op {
            AtomicOp::Add => old.wrapping_add(operand),
            AtomicOp::Or => old | operand,
            AtomicOp::And => old & operand,
            AtomicOp::Xor => old ^ operand,
            AtomicOp::Exchange => operand,
            AtomicOp::CompareExchange(expected) if expected == old => operand,
            AtomicOp::CompareExchange(_) => old,
        };
        Some(old)
    }

    fn call(&mut self, id: u32, args: [u64; 5], stack: &dyn Stack) -> Result<u64, Stop> {
        self.log.push(id);
        let mut bytes = [0; 8];
        if stack.read(args[0], &mut bytes) {
            return Ok(u64::from_le_bytes(bytes));
        }
        Ok(args.iter().fold(0, |sum, arg| sum.wrapping_add(*arg)))
    }

    fn should_stop(&self) -> bool {
        self.stops
    }
}

const EXIT_INSN: Insn = Insn::new(EXIT, 0, 0, 0, 0);

fn mov(dst: u8, imm: i32) -> Insn {
    Insn::new(class::ALU64 | alu::MOV, dst, 0, 0, imm)
}

fn run_on(machine: &mut Flat, insns: &[Insn], budget: u64) -> Result<u64, Stop> {
    let start = Start { ctx: [11, 12, 13, 14], budget };
    run(&Program { insns }, machine, &Trace::new(), &start)
}

fn result(insns: &[Insn]) -> Result<u64, Stop> {
    run_on(&mut Flat::default(), insns, 10_000)
}

#[test]
fn a_program_returns_r0() {
    assert_eq!(result(&[mov(0, -7), EXIT_INSN]), Ok(-7i64 as u64));
}

#[test]
fn the_budget_counts_every_instruction() {
    let insns = [mov(0, 1), mov(0, 2), EXIT_INSN];
    assert_eq!(run_on(&mut Flat::default(), &insns, 3), Ok(2));
    assert_eq!(run_on(&mut Flat::default(), &insns, 2), Err(Stop::Budget));
}

#[test]
fn an_endless_loop_ends_with_the_budget_or_an_abort() {
    let insns = [Insn::new(class::JMP | jmp::JA, 0, 0, -1, 0)];
    assert_eq!(run_on(&mut Flat::default(), &insns, 1000), Err(Stop::Budget));
    let mut aborted = Flat { stops: true, ..Flat::default() };
    assert_eq!(run_on(&mut aborted, &insns, u64::MAX), Err(Stop::Aborted));
}

#[test]
fn may_goto_leaves_a_loop_when_its_turns_are_spent() {
    // loop: if may_goto out; r0 += 1; goto loop; out: exit
    let insns = [
        mov(0, 0),
        Insn::new(MAY_GOTO, 0, 0, 2, 0),
        Insn::new(class::ALU64, 0, 0, 0, 1),
        Insn::new(class::JMP | jmp::JA, 0, 0, -3, 0),
        EXIT_INSN,
    ];
    assert_eq!(run_on(&mut Flat::default(), &insns, u64::MAX), Ok(MAX_LOOPS));
}

#[test]
fn a_function_has_a_stack_and_saved_registers_of_its_own() {
    let store =
        |off, src| Insn::new(class::STX | mode::MEM | Width::Double.bits(), 10, src, off, 0);
    let load = |dst, off| Insn::new(class::LDX | mode::MEM | Width::Double.bits(), dst, 10, off, 0);
    let insns = [
        mov(6, 40),
        store(-8, 6),
        Insn::new(CALL, 0, call::LOCAL, 0, 4),
        load(1, -8),
        Insn::new(class::ALU64 | crate::insn::X, 0, 1, 0, 0),
        Insn::new(class::ALU64 | crate::insn::X, 0, 6, 0, 0),
        EXIT_INSN,
        // The function: spoils its own r6 and stack, returns what lay on its stack plus 2.
        load(0, -8),
        mov(6, 1000),
        store(-8, 6),
        Insn::new(class::ALU64, 0, 0, 0, 2),
        EXIT_INSN,
    ];
    assert_eq!(result(&insns), Ok(82));
}

#[test]
fn functions_nest_eight_deep_and_no_deeper() {
    // r1 counts down; each level calls the next.
    let insns = |levels| {
        vec![
            mov(1, levels),
            Insn::new(CALL, 0, call::LOCAL, 0, 1),
            EXIT_INSN,
            Insn::new(class::JMP | jmp::JEQ, 1, 0, 2, 1),
            Insn::new(class::ALU64, 1, 0, 0, -1),
            Insn::new(CALL, 0, call::LOCAL, 0, -3),
            mov(0, 5),
            EXIT_INSN,
        ]
    };
    assert_eq!(result(&insns(7)), Ok(5));
    assert_eq!(result(&insns(8)), Err(Stop::Bad(5)));
}

#[test]
fn a_stack_ends_where_it_ends() {
    let store = |off| {
        let code = class::ST | mode::MEM | Width::Double.bits();
        result(&[mov(0, 0), Insn::new(code, 10, 0, off, 1), EXIT_INSN])
    };
    assert_eq!([store(-8), store(-512)], [Ok(0); 2]);
    assert_eq!([store(-7), store(0), store(-513)], [Err(Stop::Stray(1)); 3]);
}

#[test]
fn the_context_is_read_in_whole_words_and_never_written() {
    let load = |off, width: Width| {
        let code = class::LDX | mode::MEM | width.bits();
        result(&[Insn::new(code, 0, 1, off, 0), EXIT_INSN])
    };
    assert_eq!([load(0, Width::Double), load(24, Width::Double)], [Ok(11), Ok(14)]);
    let refused = [load(32, Width::Double), load(4, Width::Double), load(0, Width::Word)];
    assert_eq!(refused, [Err(Stop::Stray(0)); 3]);
    let code = class::ST | mode::MEM | Width::Double.bits();
    assert_eq!(result(&[Insn::new(code, 1, 0, 0, 1), EXIT_INSN]), Err(Stop::Stray(0)));
}

#[test]
fn casts_keep_the_low_half_and_give_the_user_s_base_back() {
    let cast = |imm| Insn::new(MOV64_X, 0, 2, 1, imm);
    let through = |low: i32, imm| result(&[mov(2, low), cast(imm), EXIT_INSN]);
    assert_eq!(through(-1, insn::CAST_KERN), Ok(0xffff_ffff));
    assert_eq!(through(0x2000, insn::CAST_USER), Ok(ARENA_USER_BASE + 0x2000));
    assert_eq!(through(0, insn::CAST_USER), Ok(0));
    assert_eq!(through(0, 7), Err(Stop::Bad(1)));
}

#[test]
fn globals_are_arena_addresses() {
    let load = |src, imm, high| {
        let (low, high) = (Insn::new(LD_IMM64, 0, src, 0, imm), Insn::new(0, 0, 0, 0, high));
        result(&[low, high, EXIT_INSN])
    };
    assert_eq!(load(wide::CONST, -1, 2), Ok(0x2_ffff_ffff));
    assert_eq!(load(wide::GLOBAL, insn::GLOBAL_DATA, 8), Ok(8));
    assert_eq!(load(wide::GLOBAL, insn::GLOBAL_ARENA, 8), Ok(ARENA_USER_BASE + 8));
    assert_eq!(load(9, 0, 0), Err(Stop::Bad(0)));
}

#[test]
fn a_kernel_function_gets_its_arguments_and_the_stack() {
    let mut machine = Flat::default();
    let mut insns: Vec<Insn> = (1..=5).map(|n| mov(n, i32::from(n) * 10)).collect();
    insns.extend([Insn::new(CALL, 0, call::KFUNC, 0, 9), EXIT_INSN]);
    assert_eq!(run_on(&mut machine, &insns, 100), Ok(150));
    let code = class::ST | mode::MEM | Width::Double.bits();
    let insns = [
        Insn::new(code, 10, 0, -16, 77),
        Insn::new(MOV64_X, 1, 10, 0, 0),
        Insn::new(class::ALU64, 1, 0, 0, -16),
        Insn::new(CALL, 0, call::KFUNC, 0, 3),
        EXIT_INSN,
    ];
    assert_eq!(run_on(&mut machine, &insns, 100), Ok(77));
    assert_eq!(machine.log, [9, 3]);
}

#[test]
fn a_trace_tells_where_each_function_stands() {
    struct Looks<'t>(&'t Trace, Vec<u32>);
    impl Machine for Looks<'_> {
        fn load(&mut self, _: ArenaOffset, _: Width, _: bool) -> u64 {
            self.1 = self.0.frames().collect();
            0
        }
        fn store(&mut self, _: ArenaOffset, _: Width, _: u64, _: bool) {}
        fn atomic(&mut self, _: ArenaOffset, _: Width, _: AtomicOp, _: u64) -> Option<u64> {
            None
        }
        fn call(&mut self, _: u32, _: [u64; 5], _: &dyn Stack) -> Result<u64, Stop> {
            Ok(0)
        }
        fn should_stop(&self) -> bool {
            false
        }
    }
    let trace = Trace::new();
    let mut looks = Looks(&trace, Vec::new());
    let insns = [
        mov(0, 0),
        Insn::new(CALL, 0, call::LOCAL, 0, 1),
        EXIT_INSN,
        mov(2, 64),
        Insn::new(class::LDX | mode::MEM, 0, 2, 0, 0),
        EXIT_INSN,
    ];
    let start = Start { ctx: [0; 4], budget: 100 };
    assert_eq!(run(&Program { insns: &insns }, &mut looks, &trace, &start), Ok(0));
    assert_eq!(looks.1, [4, 1]);
}

#[test]
fn no_instruction_whatever_its_bytes_does_more_than_end_the_run() {
    for code in 0..=u8::MAX {
        for (regs, off, imm) in
            [(0, 0, 0), (0xbb, -1, -1), (0x0a, 1, 1), (0x21, 5, 16), (0xff, 0, 9)]
        {
            let insns = [Insn { code, regs, off, imm }, EXIT_INSN, EXIT_INSN];
            // It ends, one way or another.
            let _ = run_on(&mut Flat::default(), &insns, 50);
        }
    }
}

#[test]
fn another_interpreter_comes_to_the_same_results() {
    for seed in 0..5000 {
        let insns = crate::random::pure(&mut crate::random::Rng::new(seed));
        let ours = run_on(&mut Flat::default(), &insns, 10_000);
        let bytes: Vec<u8> = insns.iter().flat_map(|insn| insn.encode()).collect();
        let other = rbpf::EbpfVmNoData::new(Some(&bytes)).unwrap().execute_program().unwrap();
        assert_eq!(ours, Ok(other), "seed {seed}: {insns:x?}");
    }
}

#[test]
fn what_is_let_in_is_run_without_a_bad_instruction() {
    let (mut let_in, mut ended) = (0, 0);
    for seed in 0..20_000 {
        let insns = crate::random::wild(&mut crate::random::Rng::new(seed));
        if crate::check::check(&Program { insns: &insns }, true).is_ok() {
            let_in += 1;
            let outcome = run_on(&mut Flat::default(), &insns, 2000);
            assert!(!matches!(outcome, Err(Stop::Bad(_))), "seed {seed}: {outcome:?} {insns:x?}");
            ended += u32::from(outcome.is_ok());
        }
    }
    // The campaign would say little if hardly anything were let in.
    assert!(let_in > 10_000 && ended > 8_000, "{let_in} were let in, {ended} came to their end");
}

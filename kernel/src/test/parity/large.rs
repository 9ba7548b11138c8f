//! An arena of 4 GiB: `verifier_arena_large.c`. The machine has not that much memory, so most of it is
//! reserved where Linux's tests allocate it.

use arena::arena::AllocError;
use bpf::asm::{R0, R1, R2, R6, R7, R8, R9};
use bpf::insn::{Width, alu, jmp};

use super::steps::{PAGE, Steps};
use crate::mem::arena::KernelArena;
use crate::mem::{frame, heap};
use crate::runner::{Ctx, Failure, Outcome, claim, item};

item! {
    name: "both-ends-of-4-gib-can-be-had-and-nothing-beyond",
    suite: "parity",
    about: "big_alloc1: the first page, the last, and the one behind, which is the first again",
    run: ends,
}

item! {
    name: "holes-are-filled-from-the-lowest-up",
    suite: "parity",
    about: "big_alloc2: 100 pages, every other one freed, then as many as there were, and a pair",
    run: holes,
}

item! {
    name: "thousands-of-pages-come-and-go-by-one-call-each",
    suite: "parity",
    about: "big_alloc3: 2051 pages, of which the first and the last are written",
    run: thousands,
}

item! {
    name: "a-reservation-of-256-mib-comes-back-by-one-free",
    suite: "parity",
    about: "a range of 65536 pages: what is left is found behind it, and all of it afterwards",
    run: reserved,
}

item! {
    name: "a-request-for-too-much-keeps-no-memory",
    suite: "parity",
    about: "memory for the frees to come is taken in advance, but none of it for what is refused",
    run: too_much,
}

/// Pages of 4 GiB.
const ALL: u32 = 1 << 20;

fn ends(_: &Ctx) -> Outcome {
    let mut steps = Steps::new();
    steps.alloc(R6, Some(0), 1).is_page(R6, 0).alloc(R7, Some(ALL - 1), 1).is_page(R7, ALL - 1);
    steps.store(R6, 0, 1).store(R7, 4088, 2);
    // The low 32 bits of this are those of the first page, which is taken (Linux `compute_pgoff()`).
    steps.alloc(R8, Some(ALL), 1).is(R8, 0).alloc(R8, Some(ALL - 1), 2).is(R8, 0);
    steps.alloc(R8, None, ALL).is(R8, 0).alloc(R8, None, ALL + 1).is(R8, 0);
    steps.holds(R6, 0, 1).holds(R7, 4088, 2).free(R7, 1).holds(R7, 4088, 0).holds(R6, 0, 1);
    steps.alloc(R8, Some(ALL - 2), 2).is_page(R8, ALL - 2).holds(R7, 4088, 0);
    steps.pass(ALL, 1)
}

fn holes(_: &Ctx) -> Outcome {
    const COUNT: i32 = 100;
    let mut steps = Steps::new();
    let fail = steps.asm.label();
    // Page n holds n; r6 counts, r7 is where the next must be.
    let take_all = |steps: &mut Steps, by: i32| {
        let top = steps.asm.label();
        steps.asm.mov(R6, 0).global_user(R7, 0).bind(top);
        steps.alloc(R0, None, 1);
        steps.asm.jump_if_reg(jmp::JNE, R0, R7, fail).load(Width::Double, R1, R0, 0);
        steps.asm.jump_if(jmp::JNE, R1, 0, fail).store(Width::Double, R0, 0, R6);
        steps.asm.add(R7, by * PAGE as i32).add(R6, by).jump_if(jmp::JLT, R6, COUNT, top);
    };
    take_all(&mut steps, 1);
    let top = steps.asm.label();
    steps.asm.mov(R8, 0).bind(top).mov_reg(R9, R8).alu(alu::MUL, R9, PAGE as i32);
    steps.asm.global_user(R2, 0).alu_reg(alu::ADD, R9, R2);
    steps.free(R9, 1);
    steps.asm.add(R8, 2).jump_if(jmp::JLT, R8, COUNT, top);
    // Two in one piece are not among the holes.
    steps.alloc(R8, None, 2).is_page(R8, COUNT as u32);
    take_all(&mut steps, 2);
    steps.alloc(R8, None, 1).is_page(R8, COUNT as u32 + 2);
    let done = steps.asm.label();
    steps.asm.jump(done).bind(fail).mov(R0, -1).exit().bind(done);
    steps.pass(ALL, 0)
}

fn thousands(_: &Ctx) -> Outcome {
    const COUNT: u32 = 2051;
    if frame::total() - frame::in_use() < u64::from(2 * COUNT) {
        return Err(Failure::Skip("less than 16 MiB are free"));
    }
    let mut steps = Steps::new();
    let last = (COUNT - 1) as i32;
    steps.alloc(R6, None, COUNT).is_page(R6, 0).store(R6, 0, 1);
    steps.asm.mov_reg(R7, R6).add(R7, last * PAGE as i32);
    steps.store(R7, 0, 2).holds(R6, 0, 1).holds_beside(R6, last, 2).holds_beside(R6, 1, 0);
    steps.free(R6, COUNT).holds(R6, 0, 0).holds(R7, 0, 0);
    steps.pass(ALL, 2)
}

fn reserved(_: &Ctx) -> Outcome {
    const SOME: u32 = 1 << 16;
    let mut steps = Steps::new();
    steps.reserve(1, SOME, 0).alloc(R6, None, 1).is_page(R6, 0);
    steps.alloc(R7, None, 1).is_page(R7, SOME + 1).free_at(0, ALL);
    steps.alloc(R6, Some(SOME / 2), 2).is_page(R6, SOME / 2).alloc(R7, None, 1).is_page(R7, 0);
    steps.pass(ALL, 0)
}

fn too_much(_: &Ctx) -> Outcome {
    let arena = KernelArena::create(ALL).map_err(Failure::of("arena"))?;
    let page = |n| arena.window().page(n);
    arena.alloc(Some(page(9)), 1).map_err(Failure::of("alloc"))?;
    let before = heap::free_bytes();
    // What is not there, at any price, and what would cost more than there is.
    let refusals = [arena.alloc(None, ALL), arena.alloc(Some(page(0)), ALL)];
    let wanted = [Err(AllocError::NoRange), Err(AllocError::InUse)];
    claim!(refusals == wanted, "{refusals:?}");
    let reserved = arena.reserve(page(10), ALL - 10);
    if reserved.is_ok() {
        return Err(Failure::Skip("there is memory for a reservation of 4 GiB"));
    }
    claim!(reserved == Err(AllocError::NoMemory), "{reserved:?}");
    let lost = before - heap::free_bytes();
    claim!(lost == 0, "the refusals keep {lost} bytes of the heap");
    let next = arena.alloc(None, 1);
    claim!(next == Ok(page(0)), "the next allocation: {next:?}");
    Ok(())
}

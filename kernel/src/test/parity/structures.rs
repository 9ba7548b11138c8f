//! Data structures and a lock in the arena: `arena_list.c`, `arena_htab.c`, `arena_strsearch.c`,
//! `arena_spin_lock.c`.

use alloc::sync::Arc;

use bpf::asm::{Asm, R0, R1, R2, R3, R4, R5, R6, R7, R8, R9};
use bpf::insn::{Width, alu, atomic, jmp};
use bpf::kfunc::Kfunc;

use super::steps::{BASE, Steps};
use crate::arch::access;
use crate::arch::smp::{self, CpuSet};
use crate::prog::load;
use crate::prog::program::Program;
use crate::runner::{Ctx, Failure, Outcome, claim, item};

item! {
    name: "a-list-in-the-arena-is-walked-by-program-and-kernel",
    suite: "parity",
    about: "arena_list: 100 nodes pushed, summed by both, every other one taken out, summed again",
    run: list,
}

item! {
    name: "a-hash-table-in-the-arena-finds-what-was-put-in",
    suite: "parity",
    about: "arena_htab: 200 keys in 16 buckets, updated, looked up, and none that was not put in",
    run: table,
}

item! {
    name: "a-text-in-the-arena-is-searched-byte-by-byte",
    suite: "parity",
    about: "arena_strsearch: a pattern at the start, in the middle, across a page, at the end, nowhere",
    run: search,
}

item! {
    name: "a-lock-in-the-arena-keeps-cpus-apart",
    suite: "parity",
    about: "arena_spin_lock: a counter under a compare-and-exchange lock, by the same program on all CPUs",
    min_cpus: 2,
    run: lock,
}

const EIGHT: Width = Width::Double;

fn list(_: &Ctx) -> Outcome {
    let mut steps = Steps::new();
    // Nodes of 16 bytes: next, value. r6 is the head, r7 the next node, r8 its value.
    steps.alloc(R7, None, 1).is_page(R7, 0);
    let asm = &mut steps.asm;
    let push = asm.label();
    asm.mov(R6, 0).mov(R8, 0).bind(push).store(EIGHT, R7, 0, R6).store(EIGHT, R7, 8, R8);
    asm.mov_reg(R6, R7).add(R7, 16).add(R8, 1).jump_if(jmp::JLT, R8, 100, push);
    sum(&mut steps, 4950);
    // Takes out every second node: those with even values.
    let asm = &mut steps.asm;
    let (take, done) = (asm.label(), asm.label());
    asm.mov_reg(R7, R6).cast_kern(R7, R7).bind(take).load(EIGHT, R8, R7, 0).cast_kern(R8, R8);
    asm.jump_if(jmp::JEQ, R8, 0, done).load(EIGHT, R9, R8, 0).store(EIGHT, R7, 0, R9);
    asm.cast_kern(R7, R9).jump_if(jmp::JNE, R7, 0, take).bind(done);
    sum(&mut steps, 2500);
    steps.pass(2, 0)
}

/// Checks the sum of a list that begins at r6, as the program finds it and as the kernel does.
fn sum(steps: &mut Steps, wanted: i32) {
    let asm = &mut steps.asm;
    let (top, end) = (asm.label(), asm.label());
    asm.mov(R3, 0).cast_kern(R1, R6).bind(top).jump_if(jmp::JEQ, R1, 0, end);
    asm.load(EIGHT, R2, R1, 8).alu_reg(alu::ADD, R3, R2).load(EIGHT, R1, R1, 0).cast_kern(R1, R1);
    asm.jump(top).bind(end);
    steps.is(R3, wanted);
    steps.asm.mov_reg(R1, R6).mov(R2, 1000).call(Kfunc::FollowList);
    steps.is(R0, wanted);
}

/// Puts into r1 the bucket of the key in r2: the first 16 words of page 0.
fn bucket(asm: &mut Asm) {
    asm.mov_reg(R1, R2).alu(alu::MUL, R1, 0x9e37).alu(alu::RSH, R1, 3).alu(alu::AND, R1, 15);
    asm.alu(alu::LSH, R1, 3).cast_kern(R1, R1);
}

/// Puts into r3 the element of the key in r2, or 0: next, key, value.
fn find(asm: &mut Asm) {
    let (top, end) = (asm.label(), asm.label());
    bucket(asm);
    asm.load(EIGHT, R3, R1, 0).cast_kern(R3, R3).bind(top).jump_if(jmp::JEQ, R3, 0, end);
    asm.load(EIGHT, R4, R3, 8).jump_if_reg(jmp::JEQ, R4, R2, end);
    asm.load(EIGHT, R3, R3, 0).cast_kern(R3, R3).jump(top).bind(end);
}

fn table(_: &Ctx) -> Outcome {
    const KEYS: i32 = 200;
    let mut steps = Steps::new();
    // Page 0 has the buckets, the pages behind it the elements: 24 bytes each.
    steps.alloc(R6, None, 3).is_page(R6, 0);
    let asm = &mut steps.asm;
    let (put, known, next, fail) = (asm.label(), asm.label(), asm.label(), asm.label());
    // Twice: at the first turn of r9 each key is put in, at the second its value is made another.
    let again = asm.label();
    asm.mov(R9, 1).bind(again).mov(R8, 0).bind(put);
    asm.mov_reg(R2, R8).alu(alu::MUL, R2, 7);
    find(asm);
    asm.jump_if(jmp::JNE, R3, 0, known).jump_if(jmp::JNE, R9, 1, fail);
    asm.mov_reg(R5, R8).alu(alu::MUL, R5, 24).add(R5, 4096).cast_kern(R5, R5);
    asm.load(EIGHT, R4, R1, 0).store(EIGHT, R5, 0, R4).store(EIGHT, R5, 8, R2);
    asm.store(EIGHT, R5, 16, R8).store(EIGHT, R1, 0, R5).jump(next);
    asm.bind(known).jump_if(jmp::JEQ, R9, 1, fail).load(EIGHT, R4, R3, 16).add(R4, 1000);
    asm.store(EIGHT, R3, 16, R4);
    asm.bind(next).add(R8, 1).jump_if(jmp::JLT, R8, KEYS, put);
    asm.add(R9, 1).jump_if(jmp::JLE, R9, 2, again);
    // All are there with their second value, and nothing else is.
    let look = asm.label();
    asm.mov(R8, 0).bind(look).mov_reg(R2, R8).alu(alu::MUL, R2, 7);
    find(asm);
    asm.jump_if(jmp::JEQ, R3, 0, fail).load(EIGHT, R4, R3, 16).add(R4, -1000);
    asm.jump_if_reg(jmp::JNE, R4, R8, fail).mov_reg(R2, R8).alu(alu::MUL, R2, 7).add(R2, 3);
    find(asm);
    asm.jump_if(jmp::JNE, R3, 0, fail).add(R8, 1).jump_if(jmp::JLT, R8, KEYS, look);
    let done = asm.label();
    asm.jump(done).bind(fail).mov(R0, -1).exit().bind(done);
    steps.pass(4, 0)
}

/// Page of the pattern; the text is in the pages in front.
const PATTERN: u32 = 2;

/// A program that returns where the pattern begins in the text, both ended by a zero, or -1.
fn searcher() -> Asm {
    let mut asm = Asm::new();
    let (start, compare, next, found, none) =
        (asm.label(), asm.label(), asm.label(), asm.label(), asm.label());
    asm.mov(R0, 0).bind(start).mov_reg(R1, R0).cast_kern(R1, R1).global(R2, PATTERN * 4096);
    asm.load(Width::Byte, R3, R1, 0).jump_if(jmp::JEQ, R3, 0, none);
    asm.bind(compare).load(Width::Byte, R4, R2, 0).jump_if(jmp::JEQ, R4, 0, found);
    asm.load(Width::Byte, R3, R1, 0).jump_if_reg(jmp::JNE, R3, R4, next);
    asm.add(R1, 1).add(R2, 1).jump(compare);
    asm.bind(next).add(R0, 1).jump(start).bind(none).mov(R0, -1).bind(found).exit();
    asm
}

fn search(_: &Ctx) -> Outcome {
    let mut text = [b'a'; 8192];
    text[8191] = 0;
    text[..6].copy_from_slice(b"begin,");
    text[4000..4003].copy_from_slice(b"mid");
    text[4094..4099].copy_from_slice(b"cross");
    text[8188..8191].copy_from_slice(b"end");
    let cases: [(&[u8], i64); 6] = [
        (b"begin\0", 0),
        (b"mid\0", 4000),
        (b"cross\0", 4094),
        (b"end\0", 8188),
        (b"endless\0", -1),
        (b"aaab\0", -1),
    ];
    for (pattern, wanted) in cases {
        let mut image = searcher().image("search");
        image.arena(4).globals(0, &text).globals(u64::from(PATTERN) * 4096, pattern);
        let program = load::load(&image.build()).map_err(Failure::of("load"))?;
        let found = program.run(0).map_err(Failure::of_debug("run"))? as i64;
        claim!(found == wanted, "{}: at {found}, not {wanted}", pattern.escape_ascii());
        claim!(program.blame().is_none(), "{:?}", program.blame());
        program.tear_down().map_err(Failure::of_debug("teardown"))?;
    }
    Ok(())
}

/// Times that each run takes the lock.
const TURNS: i32 = 200;

/// Takes the lock in word 0, adds 1 to the words 8 and 16 by load and store, gives the lock back.
fn locker() -> Asm {
    let mut asm = Asm::new();
    let (top, spin) = (asm.label(), asm.label());
    asm.global(R6, 0).mov(R7, 0).bind(top);
    asm.bind(spin).mov(R0, 0).mov(R1, 1).atomic(Width::Word, atomic::CMPXCHG, R6, 0, R1);
    asm.jump_if(jmp::JNE, R0, 0, spin);
    for off in [8, 16] {
        asm.load(EIGHT, R2, R6, off).add(R2, 1).store(EIGHT, R6, off, R2);
    }
    asm.mov(R1, 0).atomic(Width::Word, atomic::STORE_RELEASE, R6, 0, R1);
    asm.add(R7, 1).jump_if(jmp::JLT, R7, TURNS, top).mov(R0, 0).exit();
    asm
}

fn lock(_: &Ctx) -> Outcome {
    let mut image = locker().image("lock");
    image.arena(1).globals(0, &[0; 24]).budget(bpf::image::MAX_BUDGET);
    let program: Arc<Program> = load::load(&image.build()).map_err(Failure::of("load"))?;
    let cpus = CpuSet::online();
    smp::on_each(cpus, |_| {
        // One that did not run is missed in the sum.
        let _ = program.run(0);
    });
    let base = program.arena().map(|arena| arena.window().base());
    let base = base.ok_or_else(|| Failure::new("no arena".into()))?;
    let wanted = cpus.len() as u64 * TURNS as u64;
    for at in [8, 16] {
        let sum = access::probe_read_u64(base.offset(at));
        claim!(sum == Ok(wanted), "the word at {at} is {sum:?}, not {wanted} (from {BASE:#x})");
    }
    program.tear_down().map_err(Failure::of_debug("teardown"))
}

//! Programs as bytecode on the machine: accesses, reports, kernel functions, life and end.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use arena::lifecycle::State as Life;
use arena::stream::{Record, Violation};
use bpf::asm::{Asm, R0, R1, R2, R3, R4, R5, R6, R10};
use bpf::insn::{Width, alu, atomic};
use bpf::kfunc::Kfunc;

use crate::arch::atomic as arch_atomic;
use crate::arch::features;
use crate::prog::load;
use crate::prog::program::{Program, Refused};
use crate::runner::{Ctx, Failure, Outcome, claim, item};

item! {
    name: "a-program-s-own-wild-access-reads-zero-and-goes-on",
    suite: "program",
    about: "loads and stores of every width to an unmapped page: zero, one report each, no scratch",
    run: own_accesses,
}

item! {
    name: "a-program-s-atomics-do-what-they-say",
    suite: "program",
    about: "every atomic in both widths, by LSE and by exclusive pairs, mapped and unmapped",
    run: atomics,
}

item! {
    name: "a-kernel-function-s-wild-access-ends-the-program",
    suite: "program",
    about: "scratch for the run, a report with both call traces, an abort behind it",
    run: wild_kfuncs,
}

item! {
    name: "a-program-allocates-writes-reads-and-frees",
    suite: "program",
    about: "pages from the arena by bytecode alone, and access behind the free reads zero",
    run: allocates,
}

item! {
    name: "a-program-prints-on-its-streams",
    suite: "program",
    about: "formats, strings, both streams, and what is refused",
    run: prints,
}

item! {
    name: "a-program-without-end-is-stopped-by-its-budget",
    suite: "program",
    about: "an endless loop is told of on stderr, and does not run again",
    run: budget,
}

item! {
    name: "a-program-that-is-refused-leaves-nothing",
    suite: "program",
    about: "a refusal names the instruction and why, and costs neither a frame nor a room",
    run: refused,
}

item! {
    name: "a-program-finds-its-globals",
    suite: "program",
    about: "initial bytes lie where the image says, and stay between runs",
    run: globals,
}

const LSE: [bool; 2] = [false, true];

/// Loads `asm` with an arena of so many pages.
fn loaded(asm: &Asm, pages: u32) -> Result<Arc<Program>, Failure> {
    let image = asm.image("test").arena(pages).build();
    load::load(&image).map_err(Failure::of("load"))
}

fn run(program: &Program) -> Result<u64, Failure> {
    program.run(0).map_err(Failure::of_debug("run"))
}

/// Violations on stderr, and its text.
pub fn stderr(program: &Program) -> (Vec<Violation>, String) {
    let (mut violations, mut text) = (Vec::new(), String::new());
    for record in program.stderr.reader().into_iter().flatten() {
        match record {
            Record::Violation(violation) => violations.push(violation),
            Record::Text(part) => text += &String::from_utf8_lossy(part.as_bytes()),
        }
    }
    (violations, text)
}

/// What a program printed.
pub fn stdout(program: &Program) -> String {
    let of_text = |record| match record {
        Record::Text(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        Record::Violation(_) => None,
    };
    program.stdout.reader().into_iter().flatten().filter_map(of_text).collect()
}

fn own_accesses(_: &Ctx) -> Outcome {
    let mut asm = Asm::new();
    // r0 would keep what a load does not zero.
    asm.mov(R2, 0x3000).cast_kern(R2, R2).mov(R0, -1);
    for width in [Width::Byte, Width::Half, Width::Word, Width::Double] {
        asm.load(width, R3, R2, 8).alu_reg(alu::AND, R0, R3).store(width, R2, 16, R2);
    }
    // Below the window and above it: the guards are not mapped either.
    asm.mov(R2, 0).cast_kern(R2, R2).load(Width::Word, R3, R2, -4).alu_reg(alu::OR, R0, R3);
    asm.mov(R2, -1).cast_kern(R2, R2).load(Width::Byte, R3, R2, 1).alu_reg(alu::OR, R0, R3);
    asm.exit();
    let program = loaded(&asm, 16)?;
    claim!(run(&program)? == 0, "a load from an unmapped page did not read zero");
    let (violations, _) = stderr(&program);
    let seen: Vec<_> = violations.iter().map(|v| (v.write, v.address)).collect();
    let base = 0x1_0000_0000;
    let mut expected: Vec<(bool, u64)> = Vec::new();
    for _ in 0..4 {
        expected.extend([(false, base + 0x3008), (true, base + 0x3010)]);
    }
    expected.extend([(false, base - 4), (false, base + (4 << 30))]);
    claim!(seen == expected, "reported: {seen:x?}");
    let insns: Vec<_> = violations.iter().flat_map(|v| v.frames.as_slice()).copied().collect();
    claim!(insns == [3, 5, 6, 8, 9, 11, 12, 14, 17, 21], "reported at {insns:?}");
    let stats = program.arena().and_then(|arena| arena.stats().ok()).unwrap_or_default();
    claim!(stats.scratch_installs == 0 && stats.own_faults == 10, "{stats:?}");
    claim!(program.life().state() == Life::Running, "it is {:?}", program.life().state());
    program.tear_down().map_err(Failure::of_debug("teardown"))
}

/// Adds 5, ors 0x30, ands 0x3c, xors 0xff, exchanges for 9, compares and exchanges twice; sums what was
/// fetched, each times another power of 100.
fn chain(width: Width, at: i32) -> Asm {
    let mut asm = Asm::new();
    asm.mov(R2, at).cast_kern(R2, R2).mov(R6, 0);
    let steps = [(atomic::ADD, 5), (atomic::OR, 0x30), (atomic::AND, 0x3c), (atomic::XOR, 0xff)];
    for (op, operand) in steps {
        asm.mov(R3, operand).atomic(width, op | atomic::FETCH, R2, 8, R3);
        asm.alu(alu::MUL, R6, 1000).alu_reg(alu::ADD, R6, R3);
    }
    asm.mov(R3, 9).atomic(width, atomic::XCHG, R2, 8, R3);
    asm.alu(alu::MUL, R6, 1000).alu_reg(alu::ADD, R6, R3);
    // Not equal, then equal.
    for expected in [1, 9] {
        asm.mov(R0, expected).mov(R3, 77).atomic(width, atomic::CMPXCHG, R2, 8, R3);
        asm.alu(alu::MUL, R6, 1000).alu_reg(alu::ADD, R6, R0);
    }
    asm.atomic(width, atomic::LOAD_ACQUIRE, R4, 8, R2);
    asm.mov_reg(R0, R6);
    asm.exit();
    asm
}

fn atomics(_: &Ctx) -> Outcome {
    let had_lse = features::system().lse;
    let modes = LSE.into_iter().filter(|&lse| !lse || had_lse);
    for (lse, width) in modes.flat_map(|lse| [(lse, Width::Word), (lse, Width::Double)]) {
        arch_atomic::use_lse(lse);
        let outcome = atomics_of(width);
        arch_atomic::use_lse(had_lse);
        outcome?;
    }
    Ok(())
}

fn atomics_of(width: Width) -> Outcome {
    let mut asm = chain(width, 0x1000);
    let image = asm.image("atomics").arena(4).globals(0x1000, &[0; 16]).build();
    let program = load::load(&image).map_err(Failure::of("load"))?;
    // Fetched: 0, 5, 0x35, 0x34, 0xcb, then 9 twice.
    let expected = [0, 5, 0x35, 0x34, 0xcb, 9, 9].iter().fold(0, |sum: u64, v| sum * 1000 + v);
    let got = run(&program)?;
    claim!(got == expected, "{width:?}: the fetched values were {got}, not {expected}");
    claim!(stderr(&program).0.is_empty(), "an access to a mapped page was reported");
    program.tear_down().map_err(Failure::of_debug("teardown"))?;
    // Not mapped: each reads zero and is a write, whatever half of it faulted.
    asm = chain(width, 0x2000);
    let program = loaded(&asm, 4)?;
    claim!(run(&program)? == 0, "an atomic on an unmapped page did not fetch zero");
    let (violations, _) = stderr(&program);
    let writes = violations.iter().filter(|violation| violation.write).count();
    claim!((violations.len(), writes) == (8, 7), "{} reports, {writes} writes", violations.len());
    program.tear_down().map_err(Failure::of_debug("teardown"))
}

fn wild_kfuncs(_: &Ctx) -> Outcome {
    let calls: [(Kfunc, bool); 5] = [
        (Kfunc::ReadStruct, false),
        (Kfunc::WriteStruct, true),
        (Kfunc::FillMask, true),
        (Kfunc::FollowList, false),
        (Kfunc::LeafRead, false),
    ];
    for (kfunc, writes) in calls {
        let mut asm = Asm::new();
        let function = asm.label();
        asm.call_local(function).exit();
        // A function, so that there are two frames to tell.
        asm.bind(function).mov(R1, 0x2008).mov(R2, 128).call(kfunc).mov(R0, 1).exit();
        let program = loaded(&asm, 16)?;
        let name = kfunc.signature().name;
        claim!(run(&program)? == 1, "{name}: the program did not run to its end");
        let (violations, _) = stderr(&program);
        let Some(first) = violations.first() else {
            return Err(Failure::new(alloc::format!("{name}: no report")));
        };
        claim!(first.address == 0x1_0000_2008, "{name}: reported at {:#x}", first.address);
        claim!(first.write == writes, "{name}: reported as write={}", first.write);
        let frames = first.frames.as_slice();
        claim!(frames == [4, 0], "{name}: the program stood at {frames:?}");
        claim!(!first.backtrace.as_slice().is_empty(), "{name}: no kernel frames");
        claim!(violations.len() == 1, "{name}: {} reports for one page", violations.len());
        let state = program.life().state();
        claim!(state == Life::Aborted, "{name}: the program is {state:?}");
        let again = program.run(0);
        claim!(again == Err(Refused::NotRunnable), "{name}: it ran again: {again:?}");
        program.tear_down().map_err(Failure::of_debug("teardown"))?;
    }
    Ok(())
}

fn allocates(_: &Ctx) -> Outcome {
    let mut asm = Asm::new();
    let fail = asm.label();
    asm.arena(R1).mov(R2, 0).mov(R3, 2).mov(R4, -1).mov(R5, 0).call(Kfunc::ArenaAllocPages);
    asm.jump_if(bpf::insn::jmp::JEQ, R0, 0, fail);
    asm.mov_reg(R6, R0).store_imm(Width::Word, R6, 4092, 42).store_imm(Width::Word, R6, 4096, 43);
    asm.load(Width::Word, R2, R6, 4092).load(Width::Word, R3, R6, 4096);
    asm.alu_reg(alu::ADD, R2, R3).store(Width::Double, R10, -8, R2);
    asm.arena(R1).mov_reg(R2, R6).mov(R3, 2).call(Kfunc::ArenaFreePages);
    // Behind the free it reads zero.
    asm.load(Width::Double, R0, R6, 8).load(Width::Double, R2, R10, -8);
    asm.alu_reg(alu::ADD, R0, R2).exit();
    asm.bind(fail).mov(R0, -1).exit();
    let program = loaded(&asm, 4)?;
    claim!(run(&program)? == 85, "the sum is wrong");
    let (violations, _) = stderr(&program);
    claim!(violations.len() == 1, "{} reports of the access behind the free", violations.len());
    let stats = program.arena().and_then(|arena| arena.stats().ok()).unwrap_or_default();
    claim!((stats.mapped_pages, stats.peak_pages) == (0, 2), "{stats:?}");
    program.tear_down().map_err(Failure::of_debug("teardown"))
}

/// A program that prints `format`, which lies in its globals, with two words from its stack.
fn printer(stream: i32, format: &[u8], bytes: i32) -> Result<Arc<Program>, Failure> {
    let mut asm = Asm::new();
    asm.store_imm(Width::Double, R10, -16, -5).store_imm(Width::Double, R10, -8, 0x800);
    asm.mov(R1, stream).global(R2, 0).mov_reg(R3, R10).add(R3, -16).mov(R4, bytes);
    asm.call(Kfunc::StreamPrintk).exit();
    let mut data = [0; 0x810];
    data[..format.len()].copy_from_slice(format);
    data[0x800..0x806].copy_from_slice(b"world\0");
    let image = asm.image("printer").arena(4).globals(0, &data).build();
    load::load(&image).map_err(Failure::of("load"))
}

fn prints(_: &Ctx) -> Outcome {
    let texts: [(&[u8], &str); 5] = [
        (b"%d %s\0", "-5 world"),
        (b"%lx=%p%%\0", "fffffffffffffffb=0x800%"),
        (b"%u %04x\0", "4294967291 0800"),
        (b"[%6d][%2d]\0", "[    -5][2048]"),
        (b"%c%X\0", "\u{fffd}800"),
    ];
    for (format, expected) in texts {
        let program = printer(1, format, 16)?;
        let value = run(&program)?;
        let text = stdout(&program);
        claim!(text == expected, "printed {text:?}, returned {}", value as i64);
        program.tear_down().map_err(Failure::of_debug("teardown"))?;
    }
    const INVAL: i64 = -22;
    const NOENT: i64 = -2;
    let refusals: [(i32, &[u8], i32, i64); 6] = [
        (3, b"%d%d\0", 16, NOENT),
        (1, b"%d\0", 16, INVAL),
        (1, b"%d%d%d\0", 16, INVAL),
        (1, b"%d%q\0", 16, INVAL),
        (1, b"%d%d\0", 15, INVAL),
        (1, b"%d%d%\0", 16, INVAL),
    ];
    for (stream, format, bytes, expected) in refusals {
        let program = printer(stream, format, bytes)?;
        let value = run(&program)? as i64;
        claim!(value == expected, "{:?} to {stream}: {value}", String::from_utf8_lossy(format));
        claim!(stdout(&program).is_empty(), "a refused text was printed");
        program.tear_down().map_err(Failure::of_debug("teardown"))?;
    }
    let program = printer(2, b"%d%d\0", 16)?;
    run(&program)?;
    claim!(stderr(&program).1 == "-52048", "stderr has another text");
    program.tear_down().map_err(Failure::of_debug("teardown"))
}

fn budget(_: &Ctx) -> Outcome {
    let mut asm = Asm::new();
    let top = asm.label();
    asm.bind(top).jump(top);
    let image = asm.image("endless").budget(10_000).build();
    let program = load::load(&image).map_err(Failure::of("load"))?;
    claim!(run(&program)? == 0, "a run that was stopped returned a value");
    let text = stderr(&program).1;
    claim!(text == "ERROR: endless: the instruction budget is spent\n", "stderr: {text:?}");
    claim!(program.run(0) == Err(Refused::NotRunnable), "it ran again");
    program.tear_down().map_err(Failure::of_debug("teardown"))
}

fn globals(_: &Ctx) -> Outcome {
    let mut asm = Asm::new();
    asm.global(R2, 0x1ffe).load(Width::Half, R0, R2, 0).add(R0, 1).store(Width::Half, R2, 0, R0);
    asm.global_user(R3, 0x1ffe).cast_kern(R3, R3).load(Width::Half, R0, R3, 0).exit();
    let mut data = [0; 0x2000];
    data[0x1ffe] = 40;
    let image = asm.image("globals").arena(2).globals(0, &data).build();
    let program = load::load(&image).map_err(Failure::of("load"))?;
    claim!(run(&program)? == 41 && run(&program)? == 42, "a global did not keep its value");
    program.tear_down().map_err(Failure::of_debug("teardown"))
}

fn refused(_: &Ctx) -> Outcome {
    let mut asm = Asm::new();
    asm.mov(R2, 8).load(Width::Byte, R0, R2, 0).exit();
    let image = asm.image("refused").arena(64).build();
    let Err(error) = load::load(&image) else {
        return Err(Failure::new("the program was let in".into()));
    };
    let line = alloc::format!("{error}");
    let expected = "program rejected: insn 1: r2 is a number, no pointer to memory";
    claim!(line == expected, "refused with {line:?}");
    let Err(error) = load::load(&image[..image.len() - 3]) else {
        return Err(Failure::new("a cut image was let in".into()));
    };
    let line = alloc::format!("{error}");
    claim!(line.starts_with("program image: it is cut"), "refused with {line:?}");
    Ok(())
}

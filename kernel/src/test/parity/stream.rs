//! What programs print and what is reported about them: `stream.c`, `stream_fail.c`.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use arena::stream::Record;
use bpf::asm::{Asm, R0, R1, R2, R3, R4, R6, R7, R8, R10};
use bpf::insn::{Width, jmp};
use bpf::kfunc::Kfunc;

use super::steps::{PAGE, Steps};
use crate::prog::load::{self, Terms};
use crate::prog::program::Program;
use crate::prog::tracepoint::MM_PAGE_ALLOC;
use crate::runner::{Ctx, Failure, Outcome, claim, item};
use crate::test::program::{stderr, stdout};

item! {
    name: "a-full-stream-refuses-and-has-room-again-once-it-is-read",
    suite: "parity",
    about: "stream_exhaust: ENOSPC to the program, a count to the reader, the first texts whole",
    run: exhausted,
}

item! {
    name: "a-report-says-what-was-done-where-and-by-whom",
    suite: "parity",
    about: "stream_arena_read_fault, write_fault, subprog_fault: Linux's words, the program's address, its frames",
    run: reports,
}

item! {
    name: "a-program-prints-its-own-stack",
    suite: "parity",
    about: "stream_print_stack: each function that waits for another, innermost first",
    run: own_stack,
}

item! {
    name: "a-program-prints-under-the-arena-s-lock",
    suite: "parity",
    about: "stream_print_kfuncs_locked: printing takes no lock and waits for nobody",
    run: under_lock,
}

item! {
    name: "a-stream-is-read-in-parts",
    suite: "parity",
    about: "stream_syscall: what one reader leaves the next one gets, in order, and nothing twice",
    run: in_parts,
}

item! {
    name: "what-is-no-text-or-no-stream-is-refused-before-it-runs",
    suite: "parity",
    about: "stream_fail: the context, the arena itself, a register that was never set",
    run: refused,
}

const ENOSPC: i32 = -28;

/// A program that prints the text in its globals, `count` times at most, until that is refused; returns
/// what the last call returned.
fn printer(count: i32) -> Asm {
    let mut asm = Asm::new();
    let (top, out) = (asm.label(), asm.label());
    asm.mov(R6, 0).bind(top).mov(R1, 1).global(R2, 0).mov_reg(R3, R10).add(R3, -8);
    asm.store(Width::Double, R10, -8, R6).mov(R4, 8).call(Kfunc::StreamPrintk);
    asm.jump_if(jmp::JSLT, R0, 0, out).add(R6, 1).jump_if(jmp::JLT, R6, count, top);
    asm.bind(out).exit();
    asm
}

fn loaded(asm: &Asm, text: &[u8], stream_bytes: usize) -> Result<Arc<Program>, Failure> {
    let image = asm.image("prints").arena(4).globals(0, text).build();
    let terms = Terms { stream_bytes, ..Terms::USUAL };
    load::load_on(terms, &image).map_err(Failure::of("load"))
}

fn tear_down(program: &Program) -> Outcome {
    program.tear_down().map_err(Failure::of_debug("teardown"))
}

fn exhausted(_: &Ctx) -> Outcome {
    let program = loaded(&printer(1000), b"line %d of many\n\0", 1024)?;
    let run = || program.run(0).map_err(Failure::of_debug("run"));
    let last = run()? as i32;
    claim!(last == ENOSPC, "the last text was answered by {last}");
    claim!(program.stdout.dropped().records == 1, "{:?}", program.stdout.dropped());
    let text = stdout(&program);
    let lines: Vec<&str> = text.lines().collect();
    let whole = (0..).zip(&lines).all(|(n, line)| **line == format!("line {n} of many"));
    claim!(whole && lines.len() > 20, "{} lines were kept: {text}", lines.len());
    // The same again: what was read has left its room.
    claim!(run()? as i32 == ENOSPC, "it did not fill up again");
    claim!(stdout(&program) == text, "another text than before");
    tear_down(&program)
}

/// What the reports on stderr say, and where the program's functions stood.
fn said(program: &Program) -> (Vec<String>, Vec<u32>) {
    let (violations, _) = stderr(program);
    let frames = violations.iter().flat_map(|violation| violation.frames.as_slice());
    let text = violations.iter().map(|violation| {
        let mut text = String::new();
        // Writing to a string cannot fail; who called in the kernel is not looked at.
        let _ = violation.render(&mut text, &mut |_, _| Ok(()));
        text
    });
    (text.collect(), frames.copied().collect())
}

fn reports(_: &Ctx) -> Outcome {
    let mut steps = Steps::new();
    let (function, behind) = (steps.asm.label(), steps.asm.label());
    // Instructions 2 and 3: globals are wide.
    steps.asm.global(R6, PAGE).load(Width::Word, R0, R6, 0x10).store(Width::Half, R6, 0x20, R0);
    steps.asm.call_local(function).mov_reg(R1, R6).mov(R2, 1).call(Kfunc::WriteStruct);
    steps.asm.jump(behind).bind(function).global(R7, 2 * PAGE).load(Width::Byte, R8, R7, 3);
    steps.asm.exit().bind(behind);
    let program = steps.load(4)?;
    program.run(0).map_err(Failure::of_debug("run"))?;
    let (lines, frames) = said(&program);
    let wanted = [
        "ERROR: Arena READ access at unmapped address 0x100001010",
        "ERROR: Arena WRITE access at unmapped address 0x100001020",
        "ERROR: Arena READ access at unmapped address 0x100002003",
        "ERROR: Arena WRITE access at unmapped address 0x100001000",
    ];
    let right = lines.len() == 4 && lines.iter().zip(wanted).all(|(line, it)| line.starts_with(it));
    claim!(right, "{lines:?}");
    // The third is the function's, and then its caller's.
    claim!(frames == [2, 3, 11, 4, 7], "the program stood at {frames:?}");
    tear_down(&program)
}

fn own_stack(_: &Ctx) -> Outcome {
    let mut asm = Asm::new();
    let (outer, inner) = (asm.label(), asm.label());
    asm.call_local(outer).mov(R0, 0).exit().bind(outer).call_local(inner).exit();
    asm.bind(inner).mov(R1, 1).call(Kfunc::StreamPrintStack).exit();
    let program = loaded(&asm, b"\0", 4096)?;
    program.run(0).map_err(Failure::of_debug("run"))?;
    let text = stdout(&program);
    claim!(text == "Call trace:\n  insn 6\n  insn 3\n  insn 0\n", "{text:?}");
    tear_down(&program)
}

fn under_lock(_: &Ctx) -> Outcome {
    let program = loaded(&printer(2), b"call %d\n\0", 4096)?;
    let arena = program.arena().ok_or_else(|| Failure::new("no arena".into()))?;
    MM_PAGE_ALLOC.attach(program.clone()).map_err(Failure::of_debug("attach"))?;
    let outcome = arena.alloc(None, 1);
    drop(MM_PAGE_ALLOC.detach());
    claim!(outcome.is_ok(), "the allocation: {outcome:?}");
    let text = stdout(&program);
    claim!(text == "call 0\ncall 1\n", "{text:?}");
    tear_down(&program)
}

fn in_parts(_: &Ctx) -> Outcome {
    let program = loaded(&printer(3), b"%d\0", 4096)?;
    program.run(0).map_err(Failure::of_debug("run"))?;
    let next = || match program.stdout.reader().and_then(|mut reader| reader.next()) {
        Some(Record::Text(text)) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        Some(Record::Violation(_)) => "a violation".into(),
        None => "nothing".into(),
    };
    let read = [next(), next()];
    claim!(read == ["0", "1"], "{read:?}");
    program.run(0).map_err(Failure::of_debug("run"))?;
    let read = [next(), next(), next(), next(), next()];
    claim!(read == ["2", "0", "1", "2", "nothing"], "{read:?}");
    tear_down(&program)
}

/// A program that is not let in, and why.
type Refusal<'a> = (&'a dyn Fn(&mut Asm), &'a str);

fn refused(_: &Ctx) -> Outcome {
    let print = |asm: &mut Asm| {
        asm.call(Kfunc::StreamPrintk).exit();
    };
    let cases: [Refusal<'_>; 4] = [
        (
            &|asm| {
                asm.mov_reg(R2, R1).mov(R1, 1).mov(R3, 0).mov(R4, 0);
                print(asm);
            },
            "insn 4: the kernel function takes no r2 that is the context",
        ),
        (
            &|asm| {
                asm.mov(R1, 1).global(R2, 0).arena(R3).mov(R4, 8);
                print(asm);
            },
            "insn 6: the kernel function takes no r3 that is the arena itself",
        ),
        (
            &|asm| {
                asm.mov(R1, 1).mov(R2, 0).mov(R3, 0);
                print(asm);
            },
            "insn 3: r4 is not set, or not to the same kind on every path",
        ),
        (
            &|asm| {
                asm.mov_reg(R1, R10).call(Kfunc::StreamPrintStack).exit();
            },
            "insn 1: the kernel function takes no r1 that is a stack pointer",
        ),
    ];
    for (build, wanted) in cases {
        let mut asm = Asm::new();
        build(&mut asm);
        let said = match loaded(&asm, b"\0", 64) {
            Ok(_) => "it was let in".into(),
            Err(Failure::Claim(said)) => said,
            Err(Failure::Skip(_)) => "a skip".into(),
        };
        claim!(said.ends_with(wanted), "{said}, not {wanted}");
    }
    // A null pointer leads to the first global: here an empty text.
    let mut asm = Asm::new();
    asm.mov(R1, 1).mov(R2, 0).mov(R3, 0).mov(R4, 0).call(Kfunc::StreamPrintk).exit();
    let program = loaded(&asm, b"\0", 64)?;
    let value = program.run(0).map_err(Failure::of_debug("run"))? as i64;
    claim!(value == 0 && stdout(&program).is_empty(), "an empty text at 0 gave {value}");
    tear_down(&program)
}

//! The item `prog`: runs the program that the host hands over, and tells what came of it. See
//! `cargo xtask qemu --prog`.

use alloc::string::String;
use alloc::sync::Arc;

use arena::lifecycle::State;
use arena::stream::{Code, Record, Stream};

use crate::arch::barrier;
use crate::arch::exit;
use crate::arch::timer::Deadline;
use crate::dev::fwcfg;
use crate::mem::frame;
use crate::prog::load::{self, LoadError};
use crate::prog::program::Program;
use crate::prog::tracepoint::{self, Tracepoint};
use crate::runner::{Ctx, Failure, Outcome, claim, item};

/// The file in which the host hands over the image.
const FILE: &str = "opt/org.faultline/prog";
/// Ticks that a program on the tick gets, and how long they may take.
const TICKS: u64 = 5;
const TICKS_NS: u64 = 2_000_000_000;

item! {
    name: "prog",
    suite: "program",
    about: "the program of --prog: loaded, attached, fired, torn down",
    run: prog,
}

fn prog(ctx: &Ctx) -> Outcome {
    let Some(image) = fwcfg::read(FILE) else {
        return Err(Failure::Skip("no program was handed over; see `cargo xtask qemu --prog`"));
    };
    let program = match load::load(&image) {
        Err(LoadError::Image(bad)) => exit::bail_out(format_args!("program image: {bad}")),
        loaded => loaded.map_err(Failure::of("load"))?,
    };
    let name = load::attach_point(&image);
    let outcome = match tracepoint::find(name) {
        _ if name.is_empty() => run_once(ctx, &program),
        Some(point) => fire(ctx, &program, point),
        None => Err(Failure::new(alloc::format!("there is no tracepoint {name}"))),
    };
    let violations = tell_streams(ctx, &program);
    tell_arena(ctx, &program);
    let state = program.life().state();
    program.tear_down().map_err(Failure::of_debug("teardown"))?;
    outcome?;
    claim!(state != State::Aborted, "the program was aborted behind {violations} violations");
    claim!(violations == 0, "the program made {violations} wild accesses");
    Ok(())
}

fn run_once(ctx: &Ctx, program: &Program) -> Outcome {
    let value = program.run(0).map_err(Failure::of_debug("run"))?;
    ctx.note(format_args!("prog: returned {}", value as i64));
    Ok(())
}

/// Attaches the program, makes the tracepoint fire, and detaches it.
fn fire(ctx: &Ctx, program: &Arc<Program>, point: &'static Tracepoint) -> Outcome {
    let before = point.hits();
    point.attach(program.clone()).map_err(Failure::of_debug("attach"))?;
    let outcome = match point.name() {
        "sched_tick" => wait_for_ticks(point, before),
        _ => allocate(program),
    };
    drop(point.detach());
    ctx.note(format_args!("prog: {} fired {} times", point.name(), point.hits() - before));
    outcome
}

/// An allocation from the program's own arena, under whose lock the tracepoint fires, its free, and one
/// of a bare frame.
fn allocate(program: &Program) -> Outcome {
    if let Some(arena) = program.arena() {
        let page = arena.alloc(None, 1).map_err(Failure::of("alloc"))?;
        arena.free(page, 1).map_err(Failure::of("free"))?;
    }
    let frame = frame::alloc().ok_or_else(|| Failure::new("no frame".into()))?;
    frame::free(frame);
    Ok(())
}

fn wait_for_ticks(point: &Tracepoint, before: u64) -> Outcome {
    let deadline = Deadline::after_ns(TICKS_NS);
    while point.hits() - before < TICKS {
        claim!(!deadline.has_passed(), "the tick did not come {TICKS} times");
        barrier::wfi();
    }
    Ok(())
}

/// Tells what is on the streams, line by line; returns the number of violations.
fn tell_streams(ctx: &Ctx, program: &Program) -> u64 {
    tell(ctx, "stdout", &program.stdout);
    tell(ctx, "stderr", &program.stderr)
}

fn tell(ctx: &Ctx, name: &str, stream: &Stream) -> u64 {
    let (mut text, mut violations) = (String::new(), 0);
    for record in stream.reader().into_iter().flatten() {
        match record {
            Record::Text(part) => text += &String::from_utf8_lossy(part.as_bytes()),
            Record::Violation(violation) => {
                violations += 1;
                // Writing to a string cannot fail.
                let _ = violation.render(&mut text, &mut |out, code| match code {
                    Code::Program(insn) => writeln!(out, "  insn {insn}"),
                    Code::Kernel(pc) => writeln!(out, "  bt {pc:#018x}"),
                });
            }
        }
    }
    for line in text.lines().filter(|line| !line.is_empty()) {
        ctx.note(format_args!("{name}: {line}"));
    }
    let dropped = stream.dropped();
    if dropped.records > 0 {
        ctx.note(format_args!("{name}: {} records more were dropped", dropped.records));
    }
    violations + dropped.records
}

fn tell_arena(ctx: &Ctx, program: &Program) {
    let Some(Ok(stats)) = program.arena().map(|arena| arena.stats()) else { return };
    ctx.note(format_args!("arena stat: {stats}"));
}

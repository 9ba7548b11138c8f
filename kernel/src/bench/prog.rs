//! Programs: tracepoints, kernel functions, the interpreter.

use alloc::sync::Arc;

use bpf::asm::{Asm, R0, R1, R6};
use bpf::insn::{Width, jmp};
use bpf::kfunc::Kfunc;

use super::{figure, plain, quietly};
use crate::prog::load;
use crate::prog::program::Program;
use crate::prog::tracepoint::MM_PAGE_FREE;
use crate::runner::{Ctx, Failure, Outcome, item};

item! {
    name: "bench-programs",
    suite: "bench",
    about: "a tracepoint without and with a program, a kernel function, instructions of the interpreter",
    run: programs,
}

fn loaded(build: impl FnOnce(&mut Asm)) -> Result<Arc<Program>, Failure> {
    let mut asm = Asm::new();
    build(&mut asm);
    let image = asm.image("bench").arena(4).globals(0, &[0; 64]).build();
    load::load(&image).map_err(Failure::of("load"))
}

/// Turns of the loops here.
const TURNS: i32 = 1000;

fn programs(_: &Ctx) -> Outcome {
    let idle = loaded(|asm| {
        asm.mov(R0, 0).exit();
    })?;
    // Three instructions a turn: a load, an addition, a jump.
    let looping = loaded(|asm| {
        let top = asm.label();
        asm.mov(R6, 0).global(R1, 0).bind(top).load(Width::Double, R0, R1, 8);
        asm.add(R6, 1).jump_if(jmp::JLT, R6, TURNS, top).mov(R0, 0).exit();
    })?;
    // And with a call in each, which costs two more instructions of the program's.
    let calling = loaded(|asm| {
        let top = asm.label();
        asm.mov(R6, 0).bind(top).global(R1, 0).call(Kfunc::LeafRead);
        asm.add(R6, 1).jump_if(jmp::JLT, R6, TURNS, top).mov(R0, 0).exit();
    })?;
    let outcome = quietly(|| {
        plain("tracepoint-empty", || MM_PAGE_FREE.fire(0))?;
        MM_PAGE_FREE.attach(idle.clone()).map_err(Failure::of_debug("attach"))?;
        let outcome = plain("tracepoint-attached", || MM_PAGE_FREE.fire(0));
        drop(MM_PAGE_FREE.detach());
        outcome?;
        let turns = TURNS as u64;
        figure("bpf-loop-3-insns", turns, || Ok(()), |()| looping.run(0).is_ok())?;
        figure("bpf-loop-kfunc", turns, || Ok(()), |()| calling.run(0).is_ok())
    });
    for program in [idle, looping, calling] {
        program.tear_down().map_err(Failure::of_debug("teardown"))?;
    }
    outcome
}

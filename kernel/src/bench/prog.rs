//! Programs: tracepoints, kernel functions, the interpreter.

use alloc::sync::Arc;

use bpf::asm::{Asm, R0, R1, R6};
use bpf::insn::{Width, jmp};
use bpf::kfunc::Kfunc;

use super::{measured, plain, quietly};
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
    // And with a call in each turn, or a move in its place.
    let turning = |calls: bool| {
        loaded(move |asm| {
            let top = asm.label();
            asm.mov(R6, 0).bind(top).global(R1, 0);
            if calls {
                asm.call(Kfunc::LeafRead);
            } else {
                asm.mov(R0, 0);
            }
            asm.add(R6, 1).jump_if(jmp::JLT, R6, TURNS, top).mov(R0, 0).exit();
        })
    };
    let (calling, moving) = (turning(true)?, turning(false)?);
    let outcome = quietly(|| {
        plain("tracepoint-empty", || MM_PAGE_FREE.fire(0))?;
        MM_PAGE_FREE.attach(idle.clone()).map_err(Failure::of_debug("attach"))?;
        let outcome = plain("tracepoint-attached", || MM_PAGE_FREE.fire(0));
        drop(MM_PAGE_FREE.detach());
        outcome?;
        let turns = TURNS as u64;
        let run = |program: &Program| measured(|| Ok(()), |()| program.run(0).is_ok());
        let (empty, looped) = (run(&idle)?, run(&looping)?);
        empty.print("bpf-run-empty", 1);
        // An image has one page of globals: the load meets no fault.
        looped.beyond(&empty, 3 * turns).print("bpf-instruction", 1);
        // All of them: one takes less than the clock of a host can tell.
        looped.beyond(&empty, 1).print("bpf-instructions", 3 * turns);
        run(&calling)?.beyond(&run(&moving)?, turns).print("kfunc-call", 1);
        Ok(())
    });
    for program in [idle, looping, calling, moving] {
        program.tear_down().map_err(Failure::of_debug("teardown"))?;
    }
    outcome
}

//! Faults: from the access to the instruction behind it.

use alloc::string::String;

use arena::stream::{Code, Record};

use super::{figure, plain, quietly};
use crate::arch::access;
use crate::lab::variant::trylock_retry::TrylockRetry;
use crate::mem::arena::KernelArena;
use crate::mem::kmap;
use crate::prog::kfunc;
use crate::prog::program::{Code as ProgramCode, Program};
use crate::prog::running;
use crate::runner::{Ctx, Failure, Outcome, item};

item! {
    name: "bench-faults",
    suite: "bench",
    about: "bare, fixup, scratch with its report, rendering",
    run: faults,
}

item! {
    name: "bench-trylock-handler",
    suite: "bench",
    about: "scratch with its report by a handler that takes the lock",
    run: trylock_handler,
}

/// Kernel functions are called on its behalf.
struct Idle;

static IDLE: Idle = Idle;

impl ProgramCode for Idle {
    fn run(&self, _: &Program, _: u64) -> u64 {
        0
    }
}

/// A wild access whose handler takes the lock, which here is free: where it is not, that handler waits
/// for ever.
fn trylock_handler(_: &Ctx) -> Outcome {
    let arena = KernelArena::create_with::<TrylockRetry>(64).map_err(Failure::of("arena"))?;
    let program = Program::load("bench", &IDLE, Some(arena.clone()));
    let program = program.map_err(Failure::of_debug("program"))?;
    let wild = arena.window().page(9);
    let outcome = quietly(|| {
        let _entered = running::enter(&program).map_err(Failure::of_debug("enter"))?;
        let empty = || {
            program.stderr.reader().into_iter().flatten().for_each(drop);
            arena.free(wild, 1).map_err(Failure::of("free"))
        };
        figure("fault-trylock-recorded", 1, empty, |()| kfunc::read_word(wild))
    });
    program.life().abort();
    program.tear_down().map_err(Failure::of_debug("teardown"))?;
    outcome
}

fn faults(_: &Ctx) -> Outcome {
    let arena = KernelArena::create(64).map_err(Failure::of("arena"))?;
    let program = Program::load("bench", &IDLE, Some(arena.clone()));
    let program = program.map_err(Failure::of_debug("program"))?;
    let wild = arena.window().page(9);
    let drain = || program.stderr.reader().into_iter().flatten().for_each(drop);
    let empty = || {
        drain();
        arena.free(wild, 1).map_err(Failure::of("free"))
    };
    let outcome = quietly(|| {
        // The barest round trip of a translation fault: whatever it is, the instruction is stepped over.
        plain("fault-bare", || access::trial_read_u64(kmap::TEST_PAGE))?;
        plain("fault-fixup", || access::probe_read_u64(kmap::TEST_PAGE))?;
        let entered = running::enter(&program).map_err(Failure::of_debug("enter"))?;
        figure("fault-own-access", 1, empty, |()| access::probe_read_u64(wild))?;
        figure("fault-scratch-recorded", 1, empty, |()| kfunc::read_word(wild))?;
        let room = || {
            empty()?;
            Ok(String::with_capacity(4096))
        };
        figure("fault-scratch-rendered", 1, room, |text| {
            kfunc::read_word(wild);
            for record in program.stderr.reader().into_iter().flatten() {
                if let Record::Violation(violation) = record {
                    // Writing to a string with room cannot fail.
                    let _ = violation.render(text, &mut |out, code| match code {
                        Code::Program(insn) => writeln!(out, "  insn {insn}"),
                        Code::Kernel(pc) => writeln!(out, "  bt {pc:#018x}"),
                    });
                }
            }
        })?;
        drop(entered);
        alloc_at(&arena)
    });
    program.life().abort();
    program.tear_down().map_err(Failure::of_debug("teardown"))?;
    outcome
}

/// An allocation at an address, over an empty slot and over scratch.
fn alloc_at(arena: &KernelArena) -> Outcome {
    let page = arena.window().page(20);
    let empty = || arena.free(page, 1).map_err(Failure::of("free"));
    let at = |(): &mut ()| arena.alloc(Some(page), 1);
    figure("arena-alloc-at-empty", 1, empty, at)?;
    let scratch = || {
        empty()?;
        let _ = arena.recover(page);
        Ok(())
    };
    figure("arena-alloc-at-scratch", 1, scratch, at)?;
    empty()
}

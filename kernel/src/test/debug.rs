//! The interface to debuggers says what is there, and no longer than it is there. That scripts
//! understand it is tested with them, in `xtask/gdb`.

use alloc::vec::Vec;

use crate::debug;
use crate::mem::arena::KernelArena;
use crate::prog::program::{Code, Program};
use crate::runner::{Ctx, Failure, Outcome, claim, item};

item! {
    name: "arenas-are-listed-while-they-exist",
    suite: "debug",
    about: "a debugger finds an arena from its creation to its destruction",
    run: arenas,
}

item! {
    name: "programs-beyond-the-list-are-counted",
    suite: "debug",
    about: "the list of programs fills, overflows into a count, and empties",
    run: programs,
}

struct Nothing;

impl Code for Nothing {
    fn run(&self, _: &Program, _: u64) -> u64 {
        0
    }
}

fn arenas(_: &Ctx) -> Outcome {
    let arena = KernelArena::create(16).map_err(Failure::of("arena"))?;
    let room = arena.room();
    let Some(words) = debug::arena_words(room) else {
        return Err(Failure::new("a new arena is not listed".into()));
    };
    let base = arena.window().base().get();
    claim!(words[0] == base, "listed at {:#x}, not {base:#x}", words[0]);
    let scratch = arena.scratch().start().get();
    claim!(words[4] == scratch, "scratch is listed at {:#x}, not {scratch:#x}", words[4]);
    arena.alloc(None, 3).map_err(Failure::of("alloc"))?;
    let counts = [7, 8, 9].map(|n| read_count(words[n]));
    claim!(counts == [3, 3, 13], "mapped, peak, free are listed as {counts:?}");
    drop(arena);
    claim!(debug::arena_words(room).is_none(), "a destroyed arena is still listed");
    Ok(())
}

fn programs(_: &Ctx) -> Outcome {
    let load = || {
        // Small streams: so many programs must fit into the smallest memory.
        Program::load_with_streams("nothing", &Nothing, None, 1024)
            .map_err(Failure::of_debug("program"))
    };
    let mut programs = Vec::new();
    while programs.len() < debug::PROGRAMS {
        let program = load()?;
        claim!(is_listed(&program), "program {} is not listed", program.id());
        programs.push(program);
    }
    let last = load()?;
    claim!(debug::program_words(&last).is_none(), "more programs are listed than there is room");
    claim!(debug::unlisted() == 1, "{} programs are counted unlisted, not 1", debug::unlisted());
    drop(last);
    claim!(debug::unlisted() == 0, "an unlisted program was not counted out");
    programs.clear();
    let next = load()?;
    claim!(is_listed(&next), "room on the list did not come back");
    Ok(())
}

/// By its number, too: the last program at the same address may not have been forgotten.
fn is_listed(program: &Program) -> bool {
    debug::program_words(program).is_some_and(|words| words[1] == program.id())
}

fn read_count(at: u64) -> u32 {
    // SAFETY: the list names an aligned count of the arena that the caller still holds, and nobody
    // else knows the arena, so nobody writes it.
    unsafe { (at as *const u32).read_volatile() }
}

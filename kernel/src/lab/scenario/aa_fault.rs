//! `aa-fault`: the founding case.
//!
//! Actors: L, an allocation that holds the arena's lock; P, a program on `mm_page_alloc`.
//! Steps: L takes the lock and allocates a frame; the tracepoint runs P with the lock held; P
//! hands a kfunc the address one entry past its array; the kfunc reads and writes there.
//! Right: scratch is installed without the lock, both accesses complete, the violation is on P's
//! stream, L gets its pages, P is aborted and torn down.
//! Wrong (`trylock-retry`): the handler waits for the lock below it on its own CPU, for ever.

use core::sync::atomic::{AtomicU64, Ordering};

use arena::addr::{PAGE_SIZE, VirtAddr};
use arena::lifecycle::State as Life;
use arena::pte::State;

use super::{drain_stdout, drain_violations, load, new_arena, page, tear_down, user_address};
use crate::arch::percpu::CpuId;
use crate::fault;
use crate::mem::kmap;
use crate::prog::kfunc;
use crate::prog::program::{Code, Program};
use crate::prog::tracepoint::MM_PAGE_ALLOC;
use crate::runner::item::variant;
use crate::runner::{Ctx, Failure, Outcome, claim, item};

item! {
    name: "aa-fault",
    suite: "scenario",
    about: "a program under the arena lock sends a kfunc one past its array",
    variants: &[
        variant("trylock-retry", "the abort handler waits for the lock", "deadlock: lock arena held by cpu0; abort on top"),
    ],
    run: aa_fault,
}

/// Entries of the program's array, which fills one page.
const ENTRIES: u64 = PAGE_SIZE / 8;
/// What the kfunc writes past the end.
const WRITTEN: u64 = 0x5c2a_7c11_fa17_0001;

/// P: the array's address is in its data.
struct OnePastEnd {
    array: AtomicU64,
    read: AtomicU64,
    runs: AtomicU64,
}

static CODE: OnePastEnd = OnePastEnd {
    array: AtomicU64::new(0),
    read: AtomicU64::new(u64::MAX),
    runs: AtomicU64::new(0),
};

impl Code for OnePastEnd {
    fn run(&self, program: &Program, frame: u64) -> u64 {
        self.runs.fetch_add(1, Ordering::Relaxed);
        kfunc::stream_print(program, format_args!("frame {frame:#x} was allocated"));
        let past = VirtAddr::new(self.array.load(Ordering::Relaxed)).offset(ENTRIES * 8);
        self.read.store(kfunc::read_word(past), Ordering::Relaxed);
        kfunc::write_word(past, WRITTEN);
        0
    }
}

fn aa_fault(ctx: &Ctx) -> Outcome {
    let arena = new_arena(ctx)?;
    let array = arena.alloc(None, 1).map_err(Failure::of("array page"))?;
    let wild = array.offset(ENTRIES * 8);
    CODE.array.store(array.get(), Ordering::Relaxed);
    ctx.story(format_args!("arena {}: array of {ENTRIES} entries at {array}", arena.room()));
    let program = load("one-past-end", &CODE, &arena)?;
    MM_PAGE_ALLOC.attach(program.clone()).map_err(Failure::of_debug("attach"))?;
    ctx.story(format_args!("program one-past-end attached to {}", MM_PAGE_ALLOC.name()));

    let hits = MM_PAGE_ALLOC.hits();
    ctx.story(format_args!(
        "cpu{}: arena_alloc_pages(8 pages) takes the arena lock",
        CpuId::current()
    ));
    let got = arena.alloc(Some(page(&arena, 8)), 8).map_err(Failure::of("alloc"))?;
    let hits = MM_PAGE_ALLOC.hits() - hits;
    let detached = MM_PAGE_ALLOC.detach();
    claim!(detached.is_some(), "the tracepoint had lost its program");
    drop(detached);

    let seen = fault::last(CpuId::current());
    ctx.story(format_args!(
        "abort at {:#018x} with {} lock held: ESR {:#010x}, FAR {}, slot {} -> {}",
        seen.elr, seen.locks_held, seen.esr, seen.far, seen.before, seen.after
    ));
    claim!(seen.far == wild, "the fault was at {} and not at {wild}", seen.far);
    claim!(seen.locks_held == 1, "{} locks were held at the fault", seen.locks_held);
    claim!(seen.before.state() == State::Empty, "the slot was not empty: {}", seen.before);
    let slot = arena.entry(wild).ok_or_else(|| Failure::new("no slot".into()))?;
    claim!(slot.frame() == Some(arena.scratch()), "the slot holds {slot}, not scratch");
    claim!(CODE.read.load(Ordering::Relaxed) == 0, "the read did not see scratch's zeroes");
    let in_scratch = kfunc::read_word(kmap::to_virt(arena.scratch().start()));
    claim!(in_scratch == WRITTEN, "the write did not reach scratch: {in_scratch:#x}");

    let violations = drain_violations(ctx, &program);
    claim!(violations.len() == 1, "{} violations on the stream", violations.len());
    claim!(!violations[0].write, "the first wild access was a read");
    let expected = user_address(&arena, 1, 0);
    claim!(violations[0].address == expected, "reported at {:#x}", violations[0].address);
    claim!(drain_stdout(ctx, &program) == 1, "the program did not print once");
    let runs = CODE.runs.load(Ordering::Relaxed);
    claim!((hits, runs) == (8, 1), "8 frames fired {hits} times and ran the program {runs} times");
    claim!(program.life().state() == Life::Aborted, "the program was not aborted");
    ctx.story(format_args!("program one-past-end aborted; it will not run again"));

    for n in 0..8 {
        let at = got.offset(n * PAGE_SIZE);
        let frame = arena.entry(at).and_then(|entry| entry.frame());
        claim!(frame.is_some_and(|frame| frame != arena.scratch()), "page {n} is not mapped");
        claim!(kfunc::read_word(at) == 0, "page {n} is not zeroed");
    }
    ctx.story(format_args!("arena_alloc_pages returned {got}: 8 pages, mapped and zeroed"));
    tear_down(ctx, program, arena)
}

//! Arenas in the kernel's address space: rooms, and what a program may do there by itself.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use arena::addr::VirtAddr;
use arena::lifecycle::State as Life;
use arena::stream::Record;

use crate::arch::percpu::CpuId;
use crate::arch::smp::{self, CpuSet};
use crate::arch::timer::Deadline;
use crate::arch::{access, barrier, layout};
use crate::mem::arena::KernelArena;
use crate::mem::frame;
use crate::prog::kfunc;
use crate::prog::program::{Code, Program, Refused};
use crate::prog::tracepoint::MM_PAGE_ALLOC;
use crate::runner::{Ctx, Failure, Outcome, claim, item};

item! {
    name: "an-arena-s-room-comes-back",
    suite: "arena",
    about: "the room of an arena that is gone is given to the next",
    run: room_comes_back,
}

item! {
    name: "two-arenas-share-no-address-and-no-page",
    suite: "arena",
    about: "a write to a page of one is not seen in the other",
    run: two_arenas,
}

item! {
    name: "a-program-s-own-wild-access-is-a-violation-without-scratch",
    suite: "arena",
    about: "a fault-safe access of the program to its arena is reported, and nothing is mapped for it",
    run: own_access,
}

item! {
    name: "a-program-is-not-run-inside-itself",
    suite: "arena",
    about: "a nested run is refused and counted, the outer one goes on",
    run: nested,
}

item! {
    name: "detach-waits-for-the-program-on-another-cpu",
    suite: "arena",
    about: "a program that runs under the tracepoint is over when detach returns",
    min_cpus: 2,
    run: detach_waits,
}

item! {
    name: "a-leaked-frame-fails-its-test",
    suite: "arena",
    about: "the page accounting of every item notices one frame",
    expect: "fail: 1 leaked",
    run: leak,
}

fn room_comes_back(_: &Ctx) -> Outcome {
    let room = || KernelArena::create(1).map(|arena| arena.room()).map_err(Failure::of("arena"));
    let (first, second) = (room()?, room()?);
    claim!(first == second, "room {first} was free again, and room {second} was given");
    Ok(())
}

fn two_arenas(_: &Ctx) -> Outcome {
    let arenas: Vec<_> = (0..2).filter_map(|_| KernelArena::create(4).ok()).collect();
    claim!(arenas.len() == 2, "{} arenas", arenas.len());
    claim!(arenas[0].room() != arenas[1].room(), "both are in room {}", arenas[0].room());
    let first = arenas[0].alloc(None, 1).map_err(Failure::of("alloc"))?;
    let second = arenas[1].alloc(None, 1).map_err(Failure::of("alloc"))?;
    kfunc::write_word(first, 1);
    let seen = kfunc::read_word(second);
    claim!(seen == 0, "the other arena reads {seen}");
    Ok(())
}

/// Accesses its own arena with instructions that may fault, then the mapped page.
struct Probe {
    wild: AtomicU64,
    refused: AtomicU64,
}

static PROBE: Probe = Probe { wild: AtomicU64::new(0), refused: AtomicU64::new(0) };

impl Code for Probe {
    fn run(&self, _: &Program, _: u64) -> u64 {
        let wild = VirtAddr::new(self.wild.load(Ordering::Relaxed));
        let refused = access::probe_read_u64(wild).is_err();
        self.refused.store(u64::from(refused), Ordering::Relaxed);
        0
    }
}

fn own_access(_: &Ctx) -> Outcome {
    let arena = KernelArena::create(4).map_err(Failure::of("arena"))?;
    let wild = arena.window().page(2);
    PROBE.wild.store(wild.get(), Ordering::Relaxed);
    let program = load(&PROBE, &arena)?;
    program.run(0).map_err(Failure::of_debug("run"))?;
    claim!(PROBE.refused.load(Ordering::Relaxed) == 1, "the access was not refused");
    let entry = arena.entry(wild);
    claim!(entry.is_some_and(|entry| !entry.is_valid()), "the slot holds {entry:?}");
    let reports: Vec<_> = program.stderr.reader().into_iter().flatten().collect();
    claim!(reports.len() == 1, "{} reports", reports.len());
    let Record::Violation(violation) = &reports[0] else {
        return Err(Failure::new("the report is no violation".into()));
    };
    let user = arena.window().to_user(wild).get();
    claim!(violation.address == user && !violation.write, "reported at {:#x}", violation.address);
    let in_text = layout::text().contains(&violation.pc);
    claim!(in_text, "the instruction is at {:#x}, outside text", violation.pc);
    claim!(program.life().state() == Life::Running, "the program is {:?}", program.life().state());
    let again = program.run(0);
    claim!(again.is_ok(), "a program does not run again behind an access of its own: {again:?}");
    let counted = arena.stats().map_err(Failure::of_debug("arena lock"))?.own_faults;
    claim!(counted == 2, "{counted} such accesses were counted, of 2");
    program.tear_down().map_err(Failure::of_debug("teardown"))
}

/// Runs itself.
struct Inside(AtomicU64);

static INSIDE: Inside = Inside(AtomicU64::new(0));

impl Code for Inside {
    fn run(&self, program: &Program, depth: u64) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed);
        if depth < 3 && program.run(depth + 1) == Err(Refused::Nested) { 77 } else { 0 }
    }
}

fn nested(_: &Ctx) -> Outcome {
    let arena = KernelArena::create(4).map_err(Failure::of("arena"))?;
    let program = load(&INSIDE, &arena)?;
    let value = program.run(0);
    claim!(value == Ok(77), "the outer run came to {value:?}");
    let runs = INSIDE.0.load(Ordering::Relaxed);
    claim!((runs, program.missed()) == (1, 1), "{runs} runs, {} missed", program.missed());
    program.tear_down().map_err(Failure::of_debug("teardown"))
}

/// Takes its time.
struct Slow {
    began: AtomicU64,
    ended: AtomicU64,
}

static SLOW: Slow = Slow { began: AtomicU64::new(0), ended: AtomicU64::new(0) };

impl Code for Slow {
    fn run(&self, _: &Program, _: u64) -> u64 {
        self.began.store(1, Ordering::Release);
        let deadline = Deadline::after_ns(20_000_000);
        while !deadline.has_passed() {
            core::hint::spin_loop();
        }
        self.ended.store(1, Ordering::Release);
        0
    }
}

fn detach_waits(_: &Ctx) -> Outcome {
    let program = Program::load("slow", &SLOW, None).map_err(Failure::of_debug("program"))?;
    MM_PAGE_ALLOC.attach(program).map_err(Failure::of_debug("attach"))?;
    let here = CpuId::current();
    let seen = AtomicU64::new(0);
    smp::on_each(CpuSet::online(), |cpu| {
        if cpu != here {
            // The first to come runs the program; nested and later ones do as well.
            frame::alloc().into_iter().for_each(frame::free);
            return;
        }
        while SLOW.began.load(Ordering::Acquire) == 0 {
            barrier::wait_hint();
        }
        drop(MM_PAGE_ALLOC.detach());
        seen.store(SLOW.ended.load(Ordering::Acquire), Ordering::Relaxed);
    });
    claim!(seen.into_inner() == 1, "detach returned while the program ran");
    Ok(())
}

fn leak(_: &Ctx) -> Outcome {
    frame::alloc().map(drop).ok_or_else(|| Failure::new("no frame".into()))
}

fn load(code: &'static dyn Code, arena: &Arc<KernelArena>) -> Result<Arc<Program>, Failure> {
    Program::load("test", code, Some(arena.clone())).map_err(Failure::of_debug("program"))
}

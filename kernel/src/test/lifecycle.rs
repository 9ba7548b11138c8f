//! The life of a program: who can end it, who waits for whom, what outlives it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use arena::lifecycle::{NotDown, State};
use bpf::asm::{Asm, R0, R1};
use bpf::image::MAX_BUDGET;
use bpf::insn::Width;

use crate::arch::percpu::CpuId;
use crate::arch::smp::{self, CpuSet};
use crate::arch::timer::Deadline;
use crate::arch::{access, barrier};
use crate::lab::accounting::Snapshot;
use crate::mem::arena::KernelArena;
use crate::prog::load::{self, Terms};
use crate::prog::program::{Code, Program, Refused};
use crate::prog::running;
use crate::prog::tracepoint::{MM_PAGE_FREE, Occupied};
use crate::runner::{Ctx, Failure, Outcome, claim, item};

item! {
    name: "a-running-program-is-aborted-from-another-cpu",
    suite: "program",
    about: "an endless loop ends, teardown waits for it, and it never runs again",
    min_cpus: 2,
    run: aborted,
}

item! {
    name: "an-arena-lives-as-long-as-somebody-has-it",
    suite: "program",
    about: "two programs share it; it outlives the first, and its frames come back with the last",
    run: shared_arena,
}

item! {
    name: "a-tracepoint-has-room-for-one-program",
    suite: "program",
    about: "a second is refused and not kept; after the detach there is room",
    run: one_program,
}

item! {
    name: "programs-nest-to-a-bound-and-what-is-beyond-is-counted",
    suite: "program",
    about: "the one too deep is refused and counts it; those around it run to their ends",
    run: nested,
}

/// How long another CPU is waited for, on however loaded a host.
const WAIT_NS: u64 = 20_000_000_000;

fn teardown(program: &Program) -> Outcome {
    program.tear_down().map_err(Failure::of_debug("teardown"))
}

/// Whether it came in time.
fn wait_for(come: impl Fn() -> bool) -> bool {
    let deadline = Deadline::after_ns(WAIT_NS);
    while !come() {
        if deadline.has_passed() {
            return false;
        }
        barrier::wfi();
    }
    true
}

fn aborted(_: &Ctx) -> Outcome {
    let mut asm = Asm::new();
    let top = asm.label();
    asm.global(R1, 0).store_imm(Width::Double, R1, 0, 1).bind(top).jump(top);
    let image = asm.image("endless").arena(1).globals(0, &[0; 8]).budget(MAX_BUDGET).build();
    let program = load::load(&image).map_err(Failure::of("load"))?;
    let word = program.arena().map(|arena| arena.window().base());
    let word = word.ok_or_else(|| Failure::new("no arena".into()))?;
    let (came, busy) = (AtomicBool::new(false), AtomicBool::new(false));
    let second = CpuSet::online().iter().nth(1).ok_or(Failure::Skip("needs more CPUs"))?;
    smp::on_each(CpuSet::NONE.with(CpuId::BOOT).with(second), |cpu| {
        if cpu != CpuId::BOOT {
            let _ = program.run(0);
            return;
        }
        came.store(wait_for(|| access::probe_read_u64(word) == Ok(1)), Ordering::Relaxed);
        // It does not leave by itself, so it cannot be taken down.
        let torn = program.tear_down();
        busy.store(torn == Err(NotDown::Busy { inside: 1 }), Ordering::Relaxed);
        program.life().abort();
    });
    claim!(came.into_inner(), "the program never began");
    claim!(busy.into_inner(), "it was taken down with a CPU inside");
    // Its budget would have ended it too, and been told of.
    claim!(program.blame().is_none(), "it ended by itself: {:?}", program.blame());
    claim!(program.life().state() == State::Aborted, "it is {:?}", program.life().state());
    claim!(program.run(0) == Err(Refused::NotRunnable), "it ran again");
    teardown(&program)
}

fn shared_arena(_: &Ctx) -> Outcome {
    let frames = Snapshot::take();
    let arena = KernelArena::create(4).map_err(Failure::of("arena"))?;
    let writes = |asm: &mut Asm| {
        asm.global(R1, 0).store_imm(Width::Double, R1, 0, 77).mov(R0, 0).exit();
    };
    let reads = |asm: &mut Asm| {
        asm.global(R1, 0).load(Width::Double, R0, R1, 0).exit();
    };
    let load = |build: &dyn Fn(&mut Asm)| {
        let mut asm = Asm::new();
        build(&mut asm);
        let image = asm.image("shares").arena(4).build();
        let terms = Terms { arena: Some(arena.clone()), ..Terms::USUAL };
        load::load_on(terms, &image).map_err(Failure::of("load"))
    };
    let (first, second) = (load(&writes)?, load(&reads)?);
    arena.alloc(None, 1).map_err(Failure::of("alloc"))?;
    claim!(Arc::strong_count(&arena) == 3, "{} have the arena", Arc::strong_count(&arena));
    drop(arena);
    first.run(0).map_err(Failure::of_debug("run"))?;
    teardown(&first)?;
    drop(first);
    claim!(frames.check().is_err(), "the arena went with the first of its programs");
    let read = second.run(0);
    claim!(read == Ok(77), "the second program reads {read:?}");
    teardown(&second)?;
    drop(second);
    frames.check()
}

fn one_program(_: &Ctx) -> Outcome {
    let mut asm = Asm::new();
    asm.mov(R0, 0).exit();
    let image = asm.image("idle").build();
    let load = || load::load(&image).map_err(Failure::of("load"));
    let (first, second) = (load()?, load()?);
    MM_PAGE_FREE.attach(first.clone()).map_err(Failure::of_debug("attach"))?;
    let refused = MM_PAGE_FREE.attach(second.clone());
    let detached = MM_PAGE_FREE.detach();
    claim!(refused == Err(Occupied), "a second program: {refused:?}");
    claim!(Arc::strong_count(&second) == 1, "a refused program is kept");
    claim!(detached.is_some_and(|it| it.id() == first.id()), "another program was detached");
    claim!(Arc::strong_count(&first) == 1, "a detached program is kept");
    MM_PAGE_FREE.attach(second.clone()).map_err(Failure::of_debug("attach"))?;
    drop(MM_PAGE_FREE.detach());
    [first, second].iter().try_for_each(|program| teardown(program))
}

/// Runs the program inside it, if there is one, and counts itself.
struct Chain {
    inner: Option<Arc<Program>>,
    ran: Arc<AtomicU32>,
}

impl Code for Chain {
    fn run(&self, _: &Program, argument: u64) -> u64 {
        if let Some(inner) = &self.inner {
            let _ = inner.run(argument);
        }
        self.ran.fetch_add(1, Ordering::Relaxed);
        0
    }
}

fn nested(_: &Ctx) -> Outcome {
    let ran = Arc::new(AtomicU32::new(0));
    let mut chain: Option<Arc<Program>> = None;
    let mut all = Vec::new();
    for _ in 0..=running::DEPTH {
        let code = Chain { inner: chain.take(), ran: ran.clone() };
        let code = Box::new(code);
        let program = Program::load_owned("chain", code, None, 64);
        let program = program.map_err(Failure::of_debug("load"))?;
        all.push(program.clone());
        chain = Some(program);
    }
    let outermost = chain.ok_or_else(|| Failure::new("no program".into()))?;
    outermost.run(0).map_err(Failure::of_debug("run"))?;
    let missed: Vec<_> = all.iter().map(|program| program.missed()).collect();
    let ran = ran.load(Ordering::Relaxed) as usize;
    claim!(ran == running::DEPTH, "{ran} programs ran, {} may nest", running::DEPTH);
    // The innermost was made first.
    let right = missed[0] == 1 && missed[1..].iter().all(|&missed| missed == 0);
    claim!(right, "missed, innermost first: {missed:?}");
    claim!(running::depth() == 0, "{} programs still run", running::depth());
    all.iter().try_for_each(|program| teardown(program))
}

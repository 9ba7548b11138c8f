//! The scheduler's hook: what a policy decides, and how it is ejected.

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use bpf::asm::{Asm, R0, R1, R2, R6};
use bpf::insn::{Width, atomic, jmp};

use crate::arch::irq::IrqGuard;
use crate::arch::percpu::{CpuId, PerCpu};
use crate::arch::smp::{self, CpuSet};
use crate::arch::timer::Deadline;
use crate::arch::{access, barrier};
use crate::lab::accounting::Snapshot;
use crate::mem::arena::KernelArena;
use crate::prog::load;
use crate::prog::policy::{self, KEEP, NotInstalled};
use crate::prog::program::{Program, Refused};
use crate::runner::{Ctx, Failure, Outcome, claim, item};
use crate::task::schedule::Schedule;
use crate::task::user::{self, Program as UserProgram};
use crate::task::{End, Ended, Task};
use crate::test::program::stderr;

item! {
    name: "a-policy-sees-idle-cpus-and-decides-the-turns",
    suite: "policy",
    about: "the kernel writes the mask, the task that the policy favours is never preempted",
    run: rules,
}

item! {
    name: "a-policy-whose-mask-is-one-past-its-page-is-ejected-in-the-tick",
    suite: "policy",
    about: "the kernel's write meets scratch, round robin rules from that tick on, no tick is lost",
    run: wild_mask,
}

item! {
    name: "a-policy-without-end-is-ejected-by-its-budget",
    suite: "policy",
    about: "the tick goes on, and the reason is the budget",
    run: endless,
}

item! {
    name: "a-policy-aborted-from-another-cpu-is-ejected",
    suite: "policy",
    about: "in the middle of a tick that would not have ended before",
    min_cpus: 2,
    run: aborted,
}

item! {
    name: "there-is-one-policy-at-a-time",
    suite: "policy",
    about: "a second is refused and costs nothing; after a removal there is room again",
    run: one,
}

/// Where the policies here have things in their only page of globals; the tasks' word is the first.
const WORD: i16 = 0;
const TICKS: i16 = 8;
const ALL: i16 = 16;
const ANY: i16 = 24;
const MASK: u32 = 64;
/// The end of that page, behind which nothing is mapped.
const PAST: u32 = 4096;
/// What the task waits for that a policy favours.
const WORD_TO_COME: u64 = 9;
/// Ticks after which it comes.
const PATIENCE: i32 = 5;
/// How long a tick is waited for, on however loaded a host.
const WAIT_NS: u64 = 20_000_000_000;

/// A policy: returns `mask` when it is installed, and does what `at_tick` says at a tick, with r1 at its
/// globals and the CPU's number plus one in r6.
fn load(mask: u32, at_tick: impl FnOnce(&mut Asm)) -> Result<Arc<Program>, Failure> {
    let mut asm = Asm::new();
    let tick = asm.label();
    asm.load(Width::Double, R6, R1, 0).jump_if(jmp::JNE, R6, 0, tick).global(R0, mask).exit();
    asm.bind(tick).global(R1, 0);
    at_tick(&mut asm);
    let mut globals = [0; PAST as usize];
    globals[ALL as usize..][..8].fill(0xff);
    let image = asm.image("policy").arena(4).globals(0, &globals).budget(5_000_000).build();
    load::load(&image).map_err(Failure::of("load"))
}

/// Notes the mask and keeps the turn; the word comes after some ticks at which the boot CPU, where the
/// tests run, was not idle.
fn favours(asm: &mut Asm) {
    let early = asm.label();
    let boot = 1 << CpuId::BOOT.index();
    asm.load(Width::Double, R2, R1, MASK as i16).atomic(Width::Double, atomic::AND, R1, ALL, R2);
    asm.atomic(Width::Double, atomic::OR, R1, ANY, R2);
    asm.jump_if(jmp::JSET, R2, boot, early).mov(R2, 1);
    asm.atomic(Width::Double, atomic::ADD | atomic::FETCH, R1, TICKS, R2);
    asm.jump_if(jmp::JLT, R2, PATIENCE, early);
    asm.store_imm(Width::Double, R1, WORD, WORD_TO_COME as i32);
    asm.bind(early).mov(R0, KEEP as i32).exit();
}

/// Installs a policy, does something, and removes it. Claims that each CPU's ticks were decided, each
/// once; returns how many the policy decided.
fn ruled_by(program: &Arc<Program>, act: impl FnOnce() -> Outcome) -> Result<u64, Failure> {
    let before = all_counts();
    policy::install(program.clone()).map_err(Failure::of("install"))?;
    let outcome = act();
    let removed = policy::remove();
    claim!(removed.is_some_and(|it| it.id() == program.id()), "another policy was removed");
    outcome?;
    let (mut ruled, after) = (0, all_counts());
    for (before, after) in before.iter().zip(&after) {
        let [ticks, by_policy, by_default] = [0, 1, 2].map(|n: usize| after[n] - before[n]);
        claim!(
            ticks == by_policy + by_default,
            "{ticks} ticks, {by_policy} + {by_default} decided"
        );
        ruled += by_policy;
    }
    Ok(ruled)
}

/// Ticks of each CPU, those that policies decided, those that the default did.
fn all_counts() -> Vec<[u64; 3]> {
    let counts: Vec<[AtomicU64; 3]> = CpuSet::online().iter().map(|_| Default::default()).collect();
    smp::on_each(CpuSet::online(), |cpu| {
        let masked = IrqGuard::new();
        let policy::Counts { ruled, defaults } = policy::counts(cpu);
        let ticks = PerCpu::of(cpu).ticks.load(Ordering::Relaxed);
        drop(masked);
        for (place, count) in counts[cpu.index()].iter().zip([ticks, ruled, defaults]) {
            place.store(count, Ordering::Relaxed);
        }
    });
    counts.into_iter().map(|of| of.map(AtomicU64::into_inner)).collect()
}

/// Waits for the next interrupts until `come`.
fn wait_for(what: &str, come: impl Fn() -> bool) -> Outcome {
    let deadline = Deadline::after_ns(WAIT_NS);
    while !come() {
        claim!(!deadline.has_passed(), "{what} did not come");
        barrier::wfi();
    }
    Ok(())
}

/// The word at `at` of a policy's globals.
fn global(program: &Program, at: i16) -> Result<u64, Failure> {
    let arena = program.arena().ok_or_else(|| Failure::new("no arena".into()))?;
    let word = access::probe_read_u64(arena.window().base().offset(at as u64));
    word.map_err(Failure::of_debug("a global cannot be read"))
}

/// Runs a task that waits for the word, and one that does not, with the policy's arena.
fn tasks(arena: &Arc<KernelArena>, last: &UserProgram) -> Result<Vec<Ended>, Failure> {
    let mut schedule = Schedule::new();
    for (name, program, argument) in
        [("1st", &user::WAIT, WORD_TO_COME), ("2nd", last, WORD_TO_COME)]
    {
        let task = Task::create(name, program, argument, Some(arena.clone()));
        schedule.add(task.map_err(Failure::of("task"))?).map_err(Failure::of("schedule"))?;
    }
    let mut ended = schedule.run();
    ended.sort_unstable_by_key(|task| task.name);
    Ok(ended)
}

fn tear_down(program: &Program) -> Outcome {
    program.tear_down().map_err(Failure::of_debug("teardown"))
}

fn rules(_: &Ctx) -> Outcome {
    let program = load(MASK, favours)?;
    let arena = program.arena().ok_or_else(|| Failure::new("no arena".into()))?.clone();
    let me = 1 << CpuId::current().index();
    let ruled = ruled_by(&program, || {
        let ended = tasks(&arena, &user::HELLO)?;
        let first = &ended[0];
        claim!(first.end == End::Exited(WORD_TO_COME), "the favoured task: {:?}", first.end);
        claim!(first.preemptions == 0, "the favoured task was preempted {}", first.preemptions);
        Ok(())
    })?;
    claim!(ruled >= PATIENCE as u64, "the policy decided {ruled} ticks");
    let (all, any) = (global(&program, ALL)?, global(&program, ANY)?);
    let online = CpuSet::online().iter().fold(0, |set, cpu| set | 1 << cpu.index());
    claim!(all & me == 0, "this CPU ran tasks and was idle at every tick: {all:#x}");
    claim!(any & !online == 0, "CPUs that are not there were idle: {any:#x} of {online:#x}");
    claim!(all | me == online, "the others were idle at every tick: {all:#x} of {online:#x}");
    claim!(!policy::is_ejected() && program.blame().is_none(), "{:?}", program.blame());
    tear_down(&program)
}

fn wild_mask(_: &Ctx) -> Outcome {
    let program = load(PAST, favours)?;
    let arena = program.arena().ok_or_else(|| Failure::new("no arena".into()))?.clone();
    let before = all_counts();
    let mut at_ejection = Vec::new();
    ruled_by(&program, || {
        wait_for("the ejection", policy::is_ejected)?;
        at_ejection = all_counts();
        // Round robin: the one that waits is preempted for the one that it waits for.
        let ended = tasks(&arena, &user::TELL)?;
        claim!(ended[0].preemptions > 0, "the waiting task kept its turn");
        Ok(())
    })?;
    let ruled = |counts: &[[u64; 3]]| counts.iter().map(|count| count[1]).collect::<Vec<_>>();
    let (first, then, last) = (ruled(&before), ruled(&at_ejection), ruled(&all_counts()));
    claim!(then == last, "it decided ticks behind its ejection: {then:?} and then {last:?}");
    let why = program.blame().map(|why| why.to_string()).unwrap_or_default();
    claim!(why == "arena WRITE access at unmapped address 0x100001000", "ejected for: {why}");
    let (violations, _) = stderr(&program);
    let stats = arena.stats().map_err(Failure::of_debug("stats"))?;
    // Several CPUs may have met it at once; another one, whose write found the scratch already, may have
    // had a tick decided by the policy before it was condemned.
    let met: Vec<_> = violations.iter().map(|violation| violation.cpu as usize).collect();
    claim!(!met.is_empty() && stats.scratch_installs == 1, "{} reports; {stats}", met.len());
    for cpu in met {
        claim!(first[cpu] == then[cpu], "the tick in which CPU {cpu} met it was the policy's");
    }
    claim!(program.run(1) == Err(Refused::NotRunnable), "it can run again");
    tear_down(&program)
}

fn endless(_: &Ctx) -> Outcome {
    let program = load(MASK, |asm| {
        let top = asm.label();
        asm.bind(top).jump(top);
    })?;
    let ruled = ruled_by(&program, || wait_for("the ejection", policy::is_ejected))?;
    claim!(ruled == 0, "the policy decided {ruled} ticks");
    let why = program.blame().map(|why| why.to_string()).unwrap_or_default();
    claim!(why == "the instruction budget is spent", "ejected for: {why}");
    tear_down(&program)
}

fn aborted(_: &Ctx) -> Outcome {
    // Only the second CPU's tick stays in it.
    let program = load(MASK, |asm| {
        let (top, out) = (asm.label(), asm.label());
        asm.jump_if(jmp::JNE, R6, 2, out).store_imm(Width::Double, R1, WORD, 1);
        asm.bind(top).jump(top).bind(out).mov(R0, 0).exit();
    })?;
    ruled_by(&program, || {
        wait_for("the loop", || global(&program, WORD).is_ok_and(|word| word == 1))?;
        program.life().abort();
        wait_for("the ejection", policy::is_ejected)
    })?;
    claim!(program.blame().is_none(), "blamed: {:?}", program.blame());
    tear_down(&program)
}

fn one(_: &Ctx) -> Outcome {
    let frames = Snapshot::take();
    {
        let first = load(MASK, favours)?;
        ruled_by(&first, || {
            let second = load(MASK, favours)?;
            let outcome = policy::install(second.clone());
            claim!(outcome == Err(NotInstalled::Occupied), "a second one: {outcome:?}");
            claim!(Arc::strong_count(&second) == 1, "a refused policy is kept");
            tear_down(&second)
        })?;
        tear_down(&first)?;
        let mut asm = Asm::new();
        asm.mov(R0, 0).exit();
        let homeless = load::load(&asm.image("homeless").build()).map_err(Failure::of("load"))?;
        let outcome = policy::install(homeless);
        claim!(outcome == Err(NotInstalled::NoArena), "one without an arena: {outcome:?}");
        let outcome = policy::install(first);
        let torn = NotInstalled::Refused(Refused::NotRunnable);
        claim!(outcome == Err(torn), "one that was torn down: {outcome:?}");
    }
    claim!(policy::remove().is_none(), "somebody is left");
    let third = load(MASK, favours)?;
    ruled_by(&third, || Ok(()))?;
    tear_down(&third)?;
    drop(third);
    frames.check()
}

//! The scheduler's hook: a program that is asked at each tick whether the running task keeps its turn.
//!
//! A miniature of what makes the kernel write to a program's arena: before each question the kernel
//! writes the mask of idle CPUs through the arena pointer that the policy gave when it was installed, and
//! nobody has checked that anything is mapped there. A policy that makes the kernel fault, spends its
//! budget, or is aborted, is *ejected* in that very tick: the default decides it and all further ones,
//! and a line of the log says why. The tick waits for nothing and is never lost.
//!
//! The default ends the turn of the running task at every tick. Answers to Linux kernel/sched/ext.c
//! (`scx_ops_enable()`, `scx_error()` and its bypass).

use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arena::addr::VirtAddr;

use crate::arch::percpu::{CpuId, CpuLocal, MAX_CPUS};
use crate::arch::smp::CpuSet;
use crate::prog::kfunc;
use crate::prog::program::{Program, Refused};
use crate::prog::tracepoint::Tracepoint;

/// What a policy is called with when it is installed: it returns where its mask is. At a tick it is
/// called with the number of the CPU plus one.
pub const INSTALL: u64 = 0;
/// What a policy returns at a tick so that the running task keeps its turn.
pub const KEEP: u64 = 1;

/// What becomes of the running task's turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// The next task runs.
    Over,
    /// It goes on.
    Kept,
}

/// Why a policy was not installed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotInstalled {
    /// There is one.
    Occupied,
    /// It has no arena for the mask.
    NoArena,
    /// It did not run to its end.
    Refused(Refused),
}

/// Who decided a CPU's ticks.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Those that the policy decided.
    pub ruled: u64,
    /// Those that the default decided.
    pub defaults: u64,
}

/// One CPU's. Only its own interrupt writes them.
struct Tally {
    ruled: AtomicU64,
    defaults: AtomicU64,
}

static HOOK: Tracepoint = Tracepoint::new("sched_policy");
/// Whether a policy is installed, ejected or not, or about to be.
static TAKEN: AtomicBool = AtomicBool::new(false);
/// The kernel's address of the installed policy's mask. Written while no tick can see a policy.
static MASK: AtomicU64 = AtomicU64::new(0);
static EJECTED: AtomicBool = AtomicBool::new(false);
/// A bit for each CPU that runs a task.
static BUSY: AtomicU64 = AtomicU64::new(0);
static TALLIES: CpuLocal<Tally> = CpuLocal::new([const { Tally::new() }; MAX_CPUS]);

impl Tally {
    const fn new() -> Self {
        Self { ruled: AtomicU64::new(0), defaults: AtomicU64::new(0) }
    }
}

/// Asks `program` where its mask is, and lets it rule from the next tick on. Not from a program.
///
/// # Errors
/// [`NotInstalled`]; whatever ruled before goes on.
pub fn install(program: Arc<Program>) -> Result<(), NotInstalled> {
    // Acquire: behind the removal of the one before.
    if TAKEN.swap(true, Ordering::Acquire) {
        return Err(NotInstalled::Occupied);
    }
    let outcome = mask_of(&program).and_then(|mask| {
        // Relaxed, both: published with the program.
        MASK.store(mask.get(), Ordering::Relaxed);
        EJECTED.store(false, Ordering::Relaxed);
        HOOK.attach(program).map_err(|_| NotInstalled::Occupied)
    });
    if outcome.is_err() {
        TAKEN.store(false, Ordering::Release);
    }
    outcome
}

/// Takes the policy out, waits until no CPU asks it, and returns it. As [`Tracepoint::detach`].
pub fn remove() -> Option<Arc<Program>> {
    let program = HOOK.detach()?;
    TAKEN.store(false, Ordering::Release);
    Some(program)
}

/// Whether the installed policy was ejected.
pub fn is_ejected() -> bool {
    EJECTED.load(Ordering::Relaxed)
}

/// Who decided the ticks of `cpu` so far. Exact on that CPU with IRQs masked.
pub fn counts(cpu: CpuId) -> Counts {
    let Tally { ruled, defaults } = &TALLIES[cpu];
    Counts { ruled: ruled.load(Ordering::Relaxed), defaults: defaults.load(Ordering::Relaxed) }
}

/// Says whether this CPU runs tasks.
pub fn set_busy(busy: bool) {
    let me = 1 << CpuId::current().index();
    // Relaxed: the mask is of a moment anyway.
    if busy {
        BUSY.fetch_or(me, Ordering::Relaxed);
    } else {
        BUSY.fetch_and(!me, Ordering::Relaxed);
    }
}

/// Decides a tick of this CPU, in its interrupt.
pub fn tick() -> Turn {
    let tally = TALLIES.get();
    let (decided, turn) = match HOOK.with(rule).flatten() {
        Some(turn) => (&tally.ruled, turn),
        None => (&tally.defaults, Turn::Over),
    };
    decided.fetch_add(1, Ordering::Relaxed);
    turn
}

/// What the policy says; `None` if the default decides.
fn rule(program: &Program) -> Option<Turn> {
    let mask = VirtAddr::new(MASK.load(Ordering::Relaxed));
    let online = CpuSet::online().iter().fold(0, |set, cpu| set | 1 << cpu.index());
    let idle = online & !BUSY.load(Ordering::Relaxed);
    let said = program.inside(|| kfunc::write_word(mask, idle));
    let said = said.and_then(|()| program.run(CpuId::current().index() as u64 + 1));
    // A nested policy, or one under too many others, has done nothing wrong; it was not asked.
    if said == Err(Refused::Nested) {
        return None;
    }
    if program.life().is_aborted() || said.is_err() {
        eject(program);
        return None;
    }
    said.ok().map(|value| if value == KEEP { Turn::Kept } else { Turn::Over })
}

/// Does not wait, and frees nothing: the hook holds its reference until [`remove`].
#[cold]
fn eject(program: &Program) {
    if EJECTED.swap(true, Ordering::Relaxed) {
        return;
    }
    let name = program.name();
    match program.blame() {
        Some(why) => crate::log!("# policy {name} ejected: {why}; round robin rules"),
        None => crate::log!("# policy {name} ejected: it was aborted; round robin rules"),
    }
}

/// Where a policy wants its mask.
fn mask_of(program: &Program) -> Result<VirtAddr, NotInstalled> {
    let window = program.arena().ok_or(NotInstalled::NoArena)?.window();
    let pointer = program.run(INSTALL).map_err(NotInstalled::Refused)?;
    if program.life().is_aborted() {
        return Err(NotInstalled::Refused(Refused::NotRunnable));
    }
    // Aligned, and never outside the window; whether anything is there, nobody looks.
    Ok(window.base().offset(pointer & 0xffff_fff8))
}

impl fmt::Display for NotInstalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Occupied => f.write_str("there is a policy already: remove it first"),
            Self::NoArena => f.write_str("the policy has no arena for its mask"),
            Self::Refused(why) => write!(f, "the policy did not run to its end: {why:?}"),
        }
    }
}

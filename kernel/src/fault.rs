//! A synchronous exception at EL1, end to end.
//!
//! In this order: is the address mapped by now (spurious), is the instruction allowed to fault
//! (fixup table), is the address a running program's arena (recovery), else the kernel is wrong
//! (oops). Nothing up to the oops takes a lock, allocates, prints or waits for another CPU.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use arena::addr::VirtAddr;
use arena::arena::Recovery;
use arena::esr::{Esr, Syndrome};
use arena::pte::Pte;
use arena::step::StepPoint;
use arena::window::Zone;

use crate::arch::access;
use crate::arch::percpu::{CpuId, CpuLocal, MAX_CPUS};
use crate::arch::timer;
use crate::arch::trap::TrapFrame;
use crate::lab::engine::{self, hook};
use crate::mem::arena::KernelArena;
use crate::mem::{held, kmap};
use crate::prog::blame::Blame;
use crate::prog::program::Program;
use crate::prog::{running, violation};

/// Retries of one instruction on one address without progress, after which the abort is stuck.
/// Far above what a race can cause (each retry is paid for by one change of another CPU).
const RETRY_LIMIT: u32 = 10_000;

/// Retries this far apart are of two faults, not of one that does not end.
const APART_NS: u64 = 10_000_000;

/// How an exception was settled.
enum Settled {
    /// Return and run the instruction again: something was done about it.
    Retry,
    /// Return and run it again although nothing was done.
    RetryUnchanged,
    /// Return to the fixup, which is in the frame already.
    Skip,
}

/// The last fault that a CPU recovered, for the stories that scenarios tell. Written in the
/// handler by plain stores.
pub struct LastFault {
    esr: AtomicU64,
    far: AtomicU64,
    elr: AtomicU64,
    before: AtomicU64,
    after: AtomicU64,
    locks: AtomicU64,
}

/// A reading of [`LastFault`].
#[derive(Clone, Copy, Debug)]
pub struct FaultRecord {
    /// ESR_EL1.
    pub esr: u64,
    /// FAR_EL1.
    pub far: VirtAddr,
    /// ELR_EL1: the instruction that faulted.
    pub elr: u64,
    /// The slot as the handler found it.
    pub before: Pte,
    /// The slot as the handler left it.
    pub after: Pte,
    /// Locks that the CPU held when it faulted.
    pub locks_held: u64,
}

/// How often one CPU has retried the same instruction on the same address without progress.
struct Stuck {
    elr: AtomicU64,
    far: AtomicU64,
    retries: AtomicU32,
    /// When the last one was, in nanoseconds.
    at: AtomicU64,
}

/// Counts of what became of faults, over all CPUs.
pub struct Counts {
    /// Translation faults on arena windows that were recovered with a violation reported.
    pub recovered: AtomicU64,
    /// Faults on entries that were valid by the time of the look.
    pub spurious: AtomicU64,
    /// Faults that a fixup row answered.
    pub fixups: AtomicU64,
}

/// See [`Counts`].
pub static COUNTS: Counts =
    Counts { recovered: AtomicU64::new(0), spurious: AtomicU64::new(0), fixups: AtomicU64::new(0) };

static LAST: CpuLocal<LastFault> = CpuLocal::new([const { LastFault::new() }; MAX_CPUS]);

/// Whether a CPU is in the handler: nothing there may fault.
static HANDLING: CpuLocal<AtomicBool> = CpuLocal::new([const { AtomicBool::new(false) }; MAX_CPUS]);

static STUCK: CpuLocal<Stuck> = CpuLocal::new([const { Stuck::new() }; MAX_CPUS]);

impl LastFault {
    const fn new() -> Self {
        Self {
            esr: AtomicU64::new(0),
            far: AtomicU64::new(0),
            elr: AtomicU64::new(0),
            before: AtomicU64::new(0),
            after: AtomicU64::new(0),
            locks: AtomicU64::new(0),
        }
    }
}

impl Stuck {
    const fn new() -> Self {
        Self {
            elr: AtomicU64::new(0),
            far: AtomicU64::new(0),
            retries: AtomicU32::new(0),
            at: AtomicU64::new(0),
        }
    }
}

/// Handles a synchronous exception taken from EL1. IRQs masked; `frame` is restored on return.
///
/// The symbol is part of the interface to debuggers: a breakpoint on it stops at every abort, in this
/// function and with `frame` in scope, which is why nothing else is in it.
#[unsafe(export_name = "fault_entry")]
#[inline(never)]
pub fn sync(frame: &mut TrapFrame) {
    handle(frame);
}

#[inline(never)]
fn handle(frame: &mut TrapFrame) {
    let handling = HANDLING.get();
    // Relaxed: this CPU's own, with interrupts masked. A fault of the handler that was recovered like
    // any other could come again in its own recovery, down to the end of the stack.
    if handling.load(Ordering::Relaxed) {
        handling.store(false, Ordering::Relaxed);
        crate::oops::end(
            frame,
            format_args!("the abort handler faulted: {}", Syndrome::decode(frame.esr)),
        );
    }
    handling.store(true, Ordering::Relaxed);
    let settled = settle(frame);
    handling.store(false, Ordering::Relaxed);
    match settled {
        Some(Settled::Retry) => STUCK.get().retries.store(0, Ordering::Relaxed),
        Some(Settled::RetryUnchanged) => retry_unchanged(frame),
        Some(Settled::Skip) => {}
        None => crate::oops::exception(frame, &Syndrome::decode(frame.esr)),
    }
}

/// What this CPU retried is over: a new schedule of the lab begins.
pub fn forget_retries() {
    STUCK.get().retries.store(0, Ordering::Relaxed);
}

/// Handles an exception that must not come: FIQ, SError, one from SP_EL0 or AArch32.
pub fn unexpected(frame: &TrapFrame, what: &str) -> ! {
    crate::oops::end(frame, format_args!("unexpected {what}: {}", Syndrome::decode(frame.esr)))
}

/// Handles an exception whose frame did not fit on the stack; runs on the emergency stack.
pub fn stack_overflow(frame: &TrapFrame) -> ! {
    crate::oops::end(frame, format_args!("stack overflow: sp={:#018x}", frame.sp))
}

/// The last fault recovered on `cpu`. Exact when that CPU is not in the handler.
pub fn last(cpu: CpuId) -> FaultRecord {
    let last = &LAST[cpu];
    let read = |field: &AtomicU64| field.load(Ordering::Relaxed);
    FaultRecord {
        esr: read(&last.esr),
        far: VirtAddr::new(read(&last.far)),
        elr: read(&last.elr),
        before: Pte::from_bits(read(&last.before)),
        after: Pte::from_bits(read(&last.after)),
        locks_held: read(&last.locks),
    }
}

/// Settles what can be; `None` is an oops.
fn settle(frame: &mut TrapFrame) -> Option<Settled> {
    let syndrome = Esr(frame.esr);
    if !syndrome.is_kernel_data_abort_with_far() {
        return None;
    }
    let far = VirtAddr::new(frame.far);
    if let Some(row) = access::row_of(VirtAddr::new(frame.elr)) {
        return Some(settle_by_fixup(frame, syndrome, far, row));
    }
    if !syndrome.is_translation_fault() {
        return None;
    }
    match crate::lab::find_program(frame, |program| recover(program, frame, syndrome, far)) {
        Some(Some(settled)) => Some(settled),
        _ => mapped_by_now(far, None).then(spurious),
    }
}

/// An accessor that may fault: retried if the page came meanwhile, skipped with a zero otherwise.
/// An access of the running program's own to its arena, guards included, is a violation; it needs no
/// scratch, and the program goes on, now and when it is next run.
fn settle_by_fixup(
    frame: &mut TrapFrame,
    syndrome: Esr,
    far: VirtAddr,
    row: &access::Row,
) -> Settled {
    let settled = running::with_current(|program| {
        let arena = program.arena().filter(|arena| arena.window().zone(far) != Zone::Outside)?;
        Some(settle_own(program, arena, frame, syndrome, row))
    });
    match settled.flatten() {
        Some(settled) => settled,
        None if !row.is_trial() && syndrome.is_translation_fault() && mapped_by_now(far, None) => {
            spurious()
        }
        None => step_over(frame, row),
    }
}

/// The running program's own access to its arena or the guards around it.
fn settle_own(
    program: &Program,
    arena: &KernelArena,
    frame: &mut TrapFrame,
    syndrome: Esr,
    row: &access::Row,
) -> Settled {
    let far = VirtAddr::new(frame.far);
    if arena.window().recovers(far) {
        engine::step(StepPoint::AbortEntry, far.get());
    }
    if syndrome.is_translation_fault() && mapped_by_now(far, Some(arena.scratch())) {
        return spurious();
    }
    let entry = arena.entry(far).unwrap_or(Pte::EMPTY);
    hook::violation();
    arena.count_own_fault();
    let user = arena.window().to_user(far);
    let write = syndrome.is_write() || row.is_write();
    violation::record(program, frame, write, user, entry, entry);
    step_over(frame, row)
}

fn step_over(frame: &mut TrapFrame, row: &access::Row) -> Settled {
    COUNTS.fixups.fetch_add(1, Ordering::Relaxed);
    frame.elr = row.fixup;
    Settled::Skip
}

/// A kernel function's access on behalf of `program`: recovered if the address is its arena's.
fn recover(program: &Program, frame: &TrapFrame, syndrome: Esr, far: VirtAddr) -> Option<Settled> {
    let arena = program.arena()?;
    engine::step(StepPoint::AbortEntry, far.get());
    let (before, after) = match arena.recover(far) {
        Recovery::NotOurs => return None,
        Recovery::Again => return Some(Settled::RetryUnchanged),
        Recovery::Spurious(_) => return Some(spurious()),
        Recovery::Scratch { before, after } => (before, after),
        Recovery::Lost { before, winner } => (before, winner),
    };
    remember(frame, before, after);
    hook::violation();
    let user = arena.window().to_user(far);
    let write = syndrome.is_write();
    violation::record(program, frame, write, user, before, after);
    program.condemn(Blame::Violation { write, address: user.get() });
    COUNTS.recovered.fetch_add(1, Ordering::Relaxed);
    engine::step(StepPoint::AbortExit, far.get());
    Some(Settled::Retry)
}

/// Whether the tables map `far` now to anything but `scratch`: without FEAT_ETS2 a CPU may fault
/// on a valid entry (litmus `H3`, `P1`), and another CPU may have mapped it since.
///
/// Below the kernel's half the answer is no: the walk would take the low bits of a task's address for
/// one of the kernel's, and the access be retried for ever.
fn mapped_by_now(far: VirtAddr, scratch: Option<arena::addr::Frame>) -> bool {
    if far.get() < kmap::DIRECT_BASE {
        return false;
    }
    match kmap::walk_to(far).last().frame() {
        Some(frame) => Some(frame) != scratch,
        None => false,
    }
}

fn spurious() -> Settled {
    COUNTS.spurious.fetch_add(1, Ordering::Relaxed);
    Settled::RetryUnchanged
}

fn remember(frame: &TrapFrame, before: Pte, after: Pte) {
    if cfg!(feature = "lab") {
        let last = LAST.get();
        last.esr.store(frame.esr, Ordering::Relaxed);
        last.far.store(frame.far, Ordering::Relaxed);
        last.elr.store(frame.elr, Ordering::Relaxed);
        last.before.store(before.bits(), Ordering::Relaxed);
        last.after.store(after.bits(), Ordering::Relaxed);
        last.locks.store(held::names(CpuId::current()).count() as u64, Ordering::Relaxed);
    }
}

/// Counts retries that changed nothing. The same instruction on the same address again and again
/// is an abort that will never end, and a verdict is worth more than a hang.
fn retry_unchanged(frame: &TrapFrame) {
    let stuck = STUCK.get();
    let same = stuck.elr.load(Ordering::Relaxed) == frame.elr
        && stuck.far.load(Ordering::Relaxed) == frame.far;
    let now = timer::now_ns();
    let apart = now - stuck.at.swap(now, Ordering::Relaxed) > APART_NS;
    let again = same && !apart;
    let retries = if again { stuck.retries.load(Ordering::Relaxed) + 1 } else { 1 };
    stuck.elr.store(frame.elr, Ordering::Relaxed);
    stuck.far.store(frame.far, Ordering::Relaxed);
    stuck.retries.store(retries, Ordering::Relaxed);
    if retries == RETRY_LIMIT {
        crate::deadlock::stuck_abort(frame, retries);
    }
}

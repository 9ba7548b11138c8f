//! The lab's engine: between two steps exactly one CPU runs.
//!
//! Each actor is a CPU of its own, with its own TLB, interrupts and exceptions. A step hands the turn
//! over: the CPU that has it asks the strategy who goes next, and if that is another, gives the turn
//! away and waits for an event (WFE; every hand-over ends in DSB and SEV), or asleep if it is long in
//! coming. Interrupts stay as the code left them. Whoever has the turn owns [`Core`]; nobody else
//! touches it.

mod core;
pub mod hook;
mod timeline;
pub mod weak;

use ::core::cell::UnsafeCell;
use ::core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

use arena::step::StepPoint;
use explore::ghost::{Broken, Rule};
use explore::schedule::Choice;

pub use self::core::{Core, Next, Status};
pub use self::timeline::Entry;

use crate::arch::barrier;
use crate::arch::irq;
use crate::arch::percpu::{CpuId, CpuLocal, MAX_CPUS};
use crate::dev::gic;

/// Nobody's turn: no schedule runs, the boot CPU sees to the rest.
const CONTROL: u32 = 0x100;
/// All actors leave.
const QUIT: u32 = 0x101;
/// Added to a CPU: it looks at the watched pages and gives the turn back.
const PROBE: u32 = 0x200;

/// Whose turn it is: a CPU, or one of the above.
static TURN: AtomicU32 = AtomicU32::new(CONTROL);
/// Whether an exploration is on: hooks have somebody to tell.
static ON: AtomicBool = AtomicBool::new(false);
/// Whether a CPU is an actor's: its steps count.
static ACTING: CpuLocal<AtomicBool> = CpuLocal::new([const { AtomicBool::new(false) }; MAX_CPUS]);
/// An interrupt that the schedule raised and its CPU has not taken yet.
static RAISED: CpuLocal<AtomicBool> = CpuLocal::new([const { AtomicBool::new(false) }; MAX_CPUS]);
/// Whether a CPU is inside such an interrupt. It must not sleep there: the one that would wake it is
/// of no higher priority, and is not signalled until this one ends.
static TICKING: CpuLocal<AtomicBool> = CpuLocal::new([const { AtomicBool::new(false) }; MAX_CPUS]);

/// Addresses between which all watched descriptors lie, and whether anything is delayed: most
/// descriptors are none of the lab's, and a teardown looks at a million of them.
static WATCHED: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
static DELAYING: AtomicBool = AtomicBool::new(false);

/// Whether a CPU sleeps until it is woken.
static ASLEEP: CpuLocal<AtomicBool> = CpuLocal::new([const { AtomicBool::new(false) }; MAX_CPUS]);

/// Looks at the turn before a CPU falls asleep. Under MTTCG WFE does not wait, and CPUs that look for
/// ever take the host's cores from the one that runs, where the host has fewer; a CPU that sleeps is
/// dearer to wake.
const LOOKS: u32 = 1000;

static CORE: Turned = Turned(UnsafeCell::new(None));

/// What belongs to whoever has the turn.
struct Turned(UnsafeCell<Option<Core>>);

// SAFETY: the turn passes by a release store and an acquire load of `TURN`, and only its owner
// reaches the value.
unsafe impl Sync for Turned {}

/// Calls `with` on the core. Only for the CPU whose turn it is, and never nested: an interrupt that
/// is taken inside makes no step, because `with` makes none.
fn with<R>(with: impl FnOnce(&mut Core) -> R) -> Option<R> {
    let _masked = irq::IrqGuard::new();
    // SAFETY: the caller has the turn; interrupts are masked, so nothing on this CPU comes between.
    unsafe { (*CORE.0.get()).as_mut() }.map(with)
}

/// Whether an exploration is on.
#[inline(always)]
pub fn is_on() -> bool {
    // Relaxed: set and cleared by the boot CPU while no actor runs.
    cfg!(feature = "lab") && ON.load(Ordering::Relaxed)
}

/// Whether the descriptor at `slot` can be one that is watched.
#[inline(always)]
fn may_be_watched(slot: u64) -> bool {
    let bound = |n: usize| WATCHED[n].load(Ordering::Relaxed);
    bound(0) <= slot && slot <= bound(1)
}

/// Says whether what comes is delayed. Boot CPU, between two schedules.
pub fn set_delays(weak: Option<weak::Weak>) {
    DELAYING.store(weak.is_some(), Ordering::Relaxed);
    between(|core| core.weak = weak);
}

/// Whether this CPU is an actor in a schedule that runs.
#[inline(always)]
pub fn is_acting() -> bool {
    is_on() && ACTING.get().load(Ordering::Relaxed)
}

/// Puts `core` in place: hooks tell it from now on. Boot CPU, no actor runs.
pub fn open(core: Core) {
    let (low, high) = core.ghost.span();
    WATCHED[0].store(low, Ordering::Relaxed);
    WATCHED[1].store(high, Ordering::Relaxed);
    // SAFETY: no exploration is on, so nobody else looks.
    unsafe { *CORE.0.get() = Some(core) };
    TURN.store(CONTROL, Ordering::Relaxed);
    ON.store(true, Ordering::Release);
}

/// Takes the core away.
pub fn close() -> Option<Core> {
    ON.store(false, Ordering::Release);
    // SAFETY: hooks see no exploration any more, and all actors have left.
    unsafe { (*CORE.0.get()).take() }
}

/// Calls `with` on the core, on the boot CPU between two schedules.
pub fn between<R>(ask: impl FnOnce(&mut Core) -> R) -> R {
    with(ask).expect("an exploration is on")
}

/// Calls `make` with frames from the machine's own allocator: what it makes is no business of the
/// pool's. Boot CPU, between two schedules.
pub fn with_real_frames<R>(make: impl FnOnce() -> R) -> R {
    between(|core| core.real_frames = true);
    let made = make();
    between(|core| core.real_frames = false);
    made
}

/// Makes every actor but the boot CPU leave its [`attend`].
pub fn dismiss() {
    give(QUIT);
}

/// One schedule, on the boot CPU: begins it, plays the boot CPU's own part, and returns when all are
/// through.
pub fn conduct(act: &dyn Fn(usize)) {
    let first = decide();
    begin(first);
    wait_for_turn(0);
    play(0, act);
    wait_until_control();
}

/// The other actors: plays a part in every schedule until dismissed.
pub fn attend(cpu: usize, act: &dyn Fn(usize), probe: &dyn Fn(usize)) {
    loop {
        match wait_for_turn(cpu as u32) {
            QUIT => return,
            turn if turn == PROBE + cpu as u32 => {
                probe(cpu);
                give(CONTROL);
            }
            _ => play(cpu, act),
        }
    }
}

/// Has `cpu`, which attends, look at the watched pages.
pub fn ask_to_probe(cpu: usize) {
    give(PROBE + cpu as u32);
    wait_until_control();
}

/// A step of this CPU, before the access that `point` and `object` name. Returns when the strategy
/// says that it goes on.
#[inline]
pub fn step(point: StepPoint, object: u64) {
    if is_acting() && (!is_of_a_descriptor(point) || may_be_watched(object)) {
        step_of_actor(point, object);
    }
}

fn is_of_a_descriptor(point: StepPoint) -> bool {
    use StepPoint::{PteCas, PteLoad, PteStore, PteSwap};
    matches!(point, PteLoad | PteCas | PteSwap | PteStore)
}

fn step_of_actor(point: StepPoint, object: u64) {
    let me = CpuId::current().index();
    hook::before_a_step();
    // In one go: most steps end with this CPU going on.
    let next = with(|core| {
        core.matters(point, object).then(|| {
            core.arrive(me, point, object);
            core.next()
        })
    });
    if let Some(Some(next)) = next {
        go_on(me, next);
    }
}

/// This CPU cannot have the lock at `address` now; returns when it may try again.
pub fn block(address: u64) {
    hand_over(|core, me| {
        core.timeline.push(Entry::Wait { cpu: me as u8, lock: address });
        core.stop(me, Status::Blocked(address));
    });
}

/// As [`block`], with a wait that is not for ever; whether its time is up. In the lab that is when
/// nobody else can go on.
pub fn block_for_a_time(address: u64) -> bool {
    hand_over(|core, me| {
        core.timeline.push(Entry::Wait { cpu: me as u8, lock: address });
        core.stop(me, Status::BlockedForATime(address));
    });
    let me = CpuId::current().index();
    with(|core| core.is_late(me)).unwrap_or(true)
}

/// CPU `cpu`, which waits for a lock, is to look again at what it waits for.
pub fn wake_waiter(cpu: usize) {
    if is_acting() {
        with(|core| core.wake(cpu));
    }
}

/// The lock at `address` was released.
pub fn unblock(address: u64) {
    if is_acting() {
        with(|core| core.unlocked(address));
    }
}

/// In place of a pause in a loop that waits for another CPU: lets another make a step.
pub fn pause() {
    if is_acting() {
        hand_over(|core, me| core.stop(me, Status::Waiting(0)));
    } else {
        barrier::wait_hint();
    }
}

/// Calls `tick` if the interrupt that this CPU takes was raised by a schedule.
pub fn on_raised(tick: impl FnOnce()) {
    if is_on() && RAISED.get().swap(false, Ordering::Relaxed) {
        TICKING.get().store(true, Ordering::Relaxed);
        tick();
        TICKING.get().store(false, Ordering::Relaxed);
    }
}

/// A rule was broken by this CPU, whose turn it is: tells the schedule and ends the run. What the
/// machine holds cannot be trusted any more.
pub fn lose(broken: &Broken, why: &str) -> ! {
    ON.store(false, Ordering::Release);
    // SAFETY: this CPU has the turn and keeps it.
    let core = unsafe { (*CORE.0.get()).as_mut() };
    super::explore::tell_loss(core, broken, why)
}

fn play(cpu: usize, act: &dyn Fn(usize)) {
    ACTING.get().store(true, Ordering::Relaxed);
    crate::fault::forget_retries();
    act(cpu);
    if !is_held_nothing() {
        let broken = Broken { rule: Rule::LockHeld, page: None, frame: None, cpu: cpu as u8 };
        lose(&broken, "");
    }
    hook::before_a_step();
    ACTING.get().store(false, Ordering::Relaxed);
    with(|core| core.stop(cpu, Status::Done));
    let next = decide();
    begin(next);
}

fn is_held_nothing() -> bool {
    crate::mem::held::names(CpuId::current()).next().is_none()
}

/// Notes where this CPU stands, and gives the turn to whom the strategy chooses; returns when it has
/// it again.
fn hand_over(note: impl FnOnce(&mut Core, usize)) {
    let me = CpuId::current().index();
    let next = with(|core| {
        note(core, me);
        core.next()
    });
    go_on(me, next.expect("an exploration is on"));
}

/// Gives the turn to whom `next` names; returns when this CPU has it.
fn go_on(me: usize, next: Result<Next, Broken>) {
    match next {
        Ok(Next::Run(Choice::Cpu(cpu))) if usize::from(cpu) == me => {}
        Ok(next) => {
            begin(next);
            wait_for_turn(me as u32);
        }
        Err(broken) => lose(&broken, ""),
    }
    if RAISED.get().load(Ordering::Relaxed) {
        interrupt_here();
    }
}

fn decide() -> Next {
    match with(Core::next).expect("an exploration is on") {
        Ok(next) => next,
        Err(broken) => lose(&broken, ""),
    }
}

/// Gives the turn to whom `next` names.
fn begin(next: Next) {
    give(match next {
        Next::Run(Choice::Cpu(cpu)) => u32::from(cpu),
        Next::Run(Choice::Tick(cpu)) => {
            if let Some(cpu) = CpuId::new(usize::from(cpu)) {
                RAISED[cpu].store(true, Ordering::Relaxed);
            }
            u32::from(cpu)
        }
        Next::AllDone => CONTROL,
    });
}

/// Raises the interrupt that the schedule wants here, and takes it if interrupts are on; otherwise it
/// waits, as an interrupt does.
fn interrupt_here() {
    gic::wake(CpuId::current());
    if !irq::is_masked() {
        while RAISED.get().load(Ordering::Relaxed) {
            barrier::isb();
        }
    }
}

fn give(turn: u32) {
    // Release: the next owner sees all that this one did.
    TURN.store(turn, Ordering::Release);
    barrier::publish_event();
    // Either the next owner sees the turn before it falls asleep, or it is seen asleep here.
    fence(Ordering::SeqCst);
    if turn == QUIT {
        CpuId::all().for_each(wake);
    } else if let Some(cpu) = CpuId::new((turn & 0xff) as usize) {
        wake(cpu);
    }
}

fn wake(cpu: CpuId) {
    if ASLEEP[cpu].load(Ordering::Relaxed) {
        gic::wake(cpu);
    }
}

/// Waits for this CPU's turn, a request to probe, or the end; returns which.
fn wait_for_turn(me: u32) -> u32 {
    wait_until(|turn| turn == me || turn == PROBE + me || turn == QUIT)
}

fn wait_until_control() {
    wait_until(|turn| turn == CONTROL);
}

fn wait_until(is_mine: impl Fn(u32) -> bool) -> u32 {
    let mut looks = 0;
    loop {
        // Acquire: pairs with `give`.
        let turn = TURN.load(Ordering::Acquire);
        if is_mine(turn) {
            return turn;
        }
        looks = (looks + 1).min(LOOKS);
        if looks < LOOKS || TICKING.get().load(Ordering::Relaxed) {
            barrier::wfe();
        } else {
            sleep_until(&is_mine);
        }
    }
}

/// Sleeps until [`give`] means this CPU, or another interrupt comes.
fn sleep_until(is_mine: impl Fn(u32) -> bool) {
    // Masked: an interrupt that comes between the look and WFI ends WFI, and is taken after.
    let _masked = irq::IrqGuard::new();
    let asleep = ASLEEP.get();
    asleep.store(true, Ordering::Relaxed);
    // Pairs with the one in `give`. A fence, not STLR and LDAR: QEMU on x86 does not keep a load
    // behind an earlier STLR, and the CPU that is not seen asleep sleeps for ever.
    fence(Ordering::SeqCst);
    if !is_mine(TURN.load(Ordering::Relaxed)) {
        barrier::wfi();
    }
    asleep.store(false, Ordering::Relaxed);
}

//! Whole arenas: alloc, free, deferred free, fault and teardown, by two CPUs, under any protocol.

use arena::addr::Frame;
use arena::arena::{Arena, Recovery};
use arena::hw::{Irqs, Lock};
use arena::lifecycle::Lifecycle;
use arena::protocol::{Protocol, TombstoneProtocol};
use arena::pte::State;
use arena::window::Window;

use crate::board::{BASE, Board, ROOT, USER, be, held};
use crate::checker::sync::Arc;
use crate::checker::thread;
use crate::machine::{NO_DSB_AFTER, NO_TLBI, SOUND, Timing};
use crate::run::{fails, holds, holds_within};

/// Preemptions in the scenarios that would take minutes without a bound.
const PREEMPTIONS: Option<usize> = Some(4);

/// An arena on so many CPUs.
pub type Model<P, const W: u8, const CPUS: usize = 2> = Arena<P, Board<W, CPUS>>;

/// An arena of `pages` pages, all given out.
fn made<P: Protocol, const W: u8>(timing: Timing, pages: u32) -> Arc<Model<P, W>> {
    let arena = empty(timing, pages);
    assert_eq!(arena.alloc(None, pages), Ok(BASE));
    arena
}

/// The same with nothing given out.
pub fn empty<P: Protocol, const W: u8, const CPUS: usize>(
    timing: Timing,
    pages: u32,
) -> Arc<Model<P, W, CPUS>> {
    be(0);
    let window = Window::new(BASE, pages, USER).unwrap();
    let root = Frame::from_number(ROOT as u64);
    Arc::new(Arena::create(Board::new(timing), root, window, pages).unwrap())
}

/// Runs `act` on CPU 1.
fn on_other<P: Protocol, const W: u8>(
    arena: &Arc<Model<P, W>>,
    act: impl FnOnce(&Model<P, W>) + Send + 'static,
) -> thread::JoinHandle<()> {
    let arena = Arc::clone(arena);
    thread::spawn(move || {
        be(1);
        act(&arena);
    })
}

/// An access to the arena's first page.
fn access<P: Protocol, const W: u8>(arena: &Model<P, W>) -> Option<usize> {
    access_to(arena, 0)
}

/// An access to page `index` by the CPU that runs this, with its recovery; the frame that it reached, if
/// that was not cleared away in the meantime.
pub fn access_to<P: Protocol, const W: u8, const CPUS: usize>(
    arena: &Model<P, W, CPUS>,
    index: u32,
) -> Option<usize> {
    let cpu = arena.machine().cpu();
    let page = arena.window().page(index);
    let slot = arena.slot(page).unwrap();
    let reached = || {
        let (frame, word) = cpu.access(page, slot)?;
        assert_eq!(word, 0, "an access sees what a frame held before it was zeroed");
        Some(frame)
    };
    if let Some(frame) = reached() {
        return Some(frame);
    }
    loop {
        match arena.recover(page) {
            Recovery::NotOurs => panic!("oops: a fault in an arena is nobody's"),
            Recovery::Again if held().is_some() => {
                panic!("A-A: the handler waits for the lock that its own CPU holds")
            }
            Recovery::Again => thread::yield_now(),
            Recovery::Scratch { .. } | Recovery::Lost { .. } | Recovery::Spurious(_) => {
                return reached();
            }
        }
    }
}

/// The arena's books, its table and the frames agree once all is quiet, and nothing waits.
pub fn check<P: Protocol, const W: u8, const CPUS: usize>(arena: &Model<P, W, CPUS>, pages: u32) {
    assert!(!arena.has_deferred(), "a free was forgotten");
    let (stats, entry) = (arena.stats().unwrap(), arena.entry(BASE).unwrap());
    let scratch = Some(arena.scratch());
    assert_eq!(stats.mapped_pages + stats.free_pages, pages, "{stats}");
    match entry.state() {
        State::Valid => assert!(stats.mapped_pages >= 1 || entry.frame() == scratch, "{stats}"),
        State::Empty => assert!(stats.free_pages >= 1, "{stats}"),
        State::Tombstone(_) => panic!("a tombstone is left"),
    }
    // Root, scratch, three tables.
    arena.machine().cpu().rest();
    let frames = arena.machine().cpu().frames_in_use();
    assert_eq!(frames, 5 + stats.mapped_pages as usize, "frames in use: {stats}");
}

/// A free beside accesses.
pub fn free_vs_access<P: Protocol, const W: u8>(timing: Timing) {
    let arena = made::<P, W>(timing, 1);
    let other = on_other(&arena, |arena| {
        access(arena);
        access(arena);
    });
    access(&arena);
    arena.free(BASE, 1).unwrap();
    access(&arena);
    other.join().unwrap();
    check(&arena, 1);
}

/// Two frees of one page.
pub fn free_vs_free<P: Protocol, const W: u8>(timing: Timing) {
    let arena = made::<P, W>(timing, 1);
    let other = on_other(&arena, |arena| {
        access(arena);
        arena.free(BASE, 1).unwrap();
    });
    access(&arena);
    arena.free(BASE, 1).unwrap();
    other.join().unwrap();
    check(&arena, 1);
}

/// Faults of two CPUs on a page that nobody maps: who installs scratch reaches it.
pub fn two_faults<P: Protocol, const W: u8>(timing: Timing) {
    let arena = empty::<P, W, 2>(timing, 1);
    let fault = |arena: &Model<P, W>| {
        let cpu = arena.machine().cpu();
        let slot = arena.slot(BASE).unwrap();
        let faulted = cpu.access(BASE, slot).is_none();
        if faulted && matches!(arena.recover(BASE), Recovery::Scratch { .. }) {
            assert!(cpu.access(BASE, slot).is_some(), "the retried access faults again");
        }
    };
    let other = on_other(&arena, fault);
    fault(&arena);
    other.join().unwrap();
    check(&arena, 1);
}

/// An allocation beside a wild access, and its owner's access behind it.
pub fn alloc_vs_access<P: Protocol, const W: u8>(timing: Timing) {
    let arena = empty::<P, W, 2>(timing, 1);
    let other = on_other(&arena, |arena| {
        access(arena);
    });
    assert_eq!(arena.alloc(None, 1), Ok(BASE), "an allocation fails that fits");
    let owner = access(&arena);
    let mapped = arena.entry(BASE).unwrap().frame().map(|frame| frame.number() as usize);
    assert!(owner.is_none() || owner == mapped, "the owner reaches another page than its own");
    other.join().unwrap();
    check(&arena, 1);
}

/// An allocation beside two wild accesses of another CPU: scratch may be back behind each flush.
pub fn alloc_vs_accesses<P: Protocol, const W: u8>(timing: Timing) {
    let arena = empty::<P, W, 2>(timing, 1);
    let other = on_other(&arena, |arena| {
        access(arena);
        access(arena);
    });
    assert_eq!(arena.alloc(None, 1), Ok(BASE), "an allocation fails that fits");
    other.join().unwrap();
    check(&arena, 1);
}

/// A free and an allocation of the same page by one CPU, beside an access by another.
pub fn reuse_vs_access<P: Protocol, const W: u8>(timing: Timing) {
    let arena = made::<P, W>(timing, 1);
    let other = on_other(&arena, |arena| {
        access(arena);
    });
    let _now_or_later = arena.free_or_defer(BASE, 1);
    arena.work().unwrap();
    assert_eq!(arena.alloc(None, 1), Ok(BASE));
    access(&arena);
    other.join().unwrap();
    check(&arena, 1);
}

/// A free by one CPU, and an allocation of the same page by the other as soon as it can be had: its owner
/// reaches its own page.
pub fn free_vs_alloc<P: Protocol, const W: u8>(timing: Timing) {
    let arena = made::<P, W>(timing, 1);
    let other = on_other(&arena, |arena| {
        access(arena);
        if arena.alloc(None, 1).is_ok() {
            let owner = access(arena).expect("nobody frees it");
            let mapped = arena.entry(BASE).unwrap().frame().unwrap().number();
            assert_eq!(owner as u64, mapped, "the owner reaches another page than its own");
        }
    });
    arena.free(BASE, 1).unwrap();
    other.join().unwrap();
    check(&arena, 1);
}

/// A page that one CPU leaves to the worker and the other frees: its frame goes back once.
pub fn deferred_vs_free<P: Protocol, const W: u8>(timing: Timing) {
    let arena = made::<P, W>(timing, 1);
    let other = on_other(&arena, |arena| arena.free(BASE, 1).unwrap());
    arena.defer(BASE, 1).unwrap();
    arena.work().unwrap();
    other.join().unwrap();
    // A note that was made behind the other's look is the worker's.
    arena.work().unwrap();
    check(&arena, 1);
    assert_eq!(arena.stats().unwrap().free_pages, 1, "a page is neither mapped nor free");
}

/// A note that is made beside a worker that takes another: neither is lost.
pub fn note_vs_worker<P: Protocol, const W: u8>(timing: Timing) {
    let arena = made::<P, W>(timing, 2);
    arena.defer(arena.window().page(1), 1).unwrap();
    let other = on_other(&arena, |arena| {
        arena.work().unwrap();
    });
    arena.defer(BASE, 1).unwrap();
    other.join().unwrap();
    arena.work().unwrap();
    check(&arena, 2);
    assert_eq!(arena.stats().unwrap().free_pages, 2, "a note was lost");
}

/// Two workers and one note.
pub fn two_workers<P: Protocol, const W: u8>(timing: Timing) {
    let arena = made::<P, W>(timing, 1);
    arena.defer(BASE, 1).unwrap();
    let other = on_other(&arena, |arena| {
        arena.work().unwrap();
    });
    arena.work().unwrap();
    other.join().unwrap();
    check(&arena, 1);
    assert_eq!(arena.stats().unwrap().free_pages, 1);
}

/// A program that runs in the middle of an allocation, under the arena's lock, makes a wild access; one
/// that the timer starts there, if it can, asks for the lock.
pub fn program_under_the_lock<P: Protocol, const W: u8>(timing: Timing) {
    let arena = empty::<P, W, 2>(timing, 1);
    let weak = std::sync::Mutex::new(Some(Arc::clone(&arena)));
    arena.machine().attach(move || {
        let Some(arena) = weak.lock().unwrap().take() else { return };
        access(&arena);
        if held() == Some(Irqs::Unchanged) {
            let lock = arena.lock().lock(Irqs::Masked);
            assert!(lock.is_ok(), "A-A: a timer program on the CPU that holds the lock");
        }
    });
    let other = on_other(&arena, |arena| {
        access(arena);
    });
    assert_eq!(arena.alloc(None, 1), Ok(BASE), "an allocation fails that fits");
    other.join().unwrap();
    check(&arena, 1);
}

/// A program that may be inside when it is taken down with its arena. `HASTY`: without waiting for it.
fn teardown_vs_access<const HASTY: bool>(timing: Timing) {
    let arena = made::<TombstoneProtocol, SOUND>(timing, 1);
    let life = Arc::new(Lifecycle::new());
    let shared = Arc::clone(&life);
    let other = on_other(&arena, move |arena| {
        if let Ok(inside) = shared.enter() {
            access(arena);
            drop(inside);
        }
    });
    access(&arena);
    life.abort();
    while life.try_teardown().is_err() && !HASTY {
        thread::yield_now();
    }
    arena.machine().cpu().unwatch();
    arena.destroy().unwrap();
    other.join().unwrap();
    // The root, and the table of level 1 that all arenas share.
    let frames = arena.machine().cpu().frames_in_use();
    assert!(frames <= 2, "{frames} frames are not given back");
}

type Sound = TombstoneProtocol;

#[test]
fn a_freed_page_is_touched_by_nobody() {
    holds_within("arena: free vs access", PREEMPTIONS, free_vs_access::<Sound, SOUND>);
}

#[test]
fn the_access_behind_a_recovery_does_not_fault_again() {
    holds("arena: two faults", two_faults::<Sound, SOUND>);
}

#[test]
fn a_page_freed_by_two_goes_back_once() {
    holds_within("arena: free vs free", PREEMPTIONS, free_vs_free::<Sound, SOUND>);
}

#[test]
fn an_allocation_is_its_owner_s_whatever_faults_beside_it() {
    holds_within("arena: alloc vs access", PREEMPTIONS, alloc_vs_access::<Sound, SOUND>);
    holds_within("arena: alloc vs accesses", PREEMPTIONS, alloc_vs_accesses::<Sound, SOUND>);
}

#[test]
fn a_page_is_given_again_only_behind_its_flush() {
    holds_within("arena: reuse vs access", PREEMPTIONS, reuse_vs_access::<Sound, SOUND>);
    holds_within("arena: free vs alloc", PREEMPTIONS, free_vs_alloc::<Sound, SOUND>);
}

#[test]
fn a_page_freed_and_left_to_the_worker_goes_back_once() {
    holds_within("arena: deferred free vs free", PREEMPTIONS, deferred_vs_free::<Sound, SOUND>);
}

#[test]
fn a_note_beside_a_worker_is_not_lost() {
    holds_within("arena: note vs worker", PREEMPTIONS, note_vs_worker::<Sound, SOUND>);
}

#[test]
fn two_workers_free_a_noted_page_once() {
    holds("arena: two workers", two_workers::<Sound, SOUND>);
}

#[test]
fn a_program_under_the_lock_faults_and_is_recovered() {
    let scenario = program_under_the_lock::<Sound, SOUND>;
    holds_within("arena: program under the lock", PREEMPTIONS, scenario);
}

#[test]
fn a_teardown_waits_for_those_inside() {
    holds_within("arena: teardown vs access", PREEMPTIONS, teardown_vs_access::<false>);
}

#[test]
fn a_hasty_teardown_is_caught() {
    fails("hasty teardown, arena: teardown vs access", teardown_vs_access::<true>);
}

#[test]
fn an_arena_on_a_machine_without_maintenance_is_caught() {
    fails("no TLBI, arena: free vs access", free_vs_access::<Sound, NO_TLBI>);
    fails("no DSB behind the TLBI, arena: reuse vs access", reuse_vs_access::<Sound, NO_DSB_AFTER>);
}

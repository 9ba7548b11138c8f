//! Whole arenas: alloc, free, deferred free and fault on one page, by two CPUs.

use core::cell::Cell;

use arena::addr::{Frame, VirtAddr};
use arena::arena::{Arena, Freed, Recovery};
use arena::hw::{Frames, Hw, Irqs, Lock, LockError, LockName, Platform, TABLE_SLOTS, Tables};
use arena::protocol::TombstoneProtocol;
use arena::pte::State;
use arena::slot::PteSlot;
use arena::sync::{AtomicU64, Ordering};
use arena::window::Window;
use loom::sync::{Arc, Mutex, MutexGuard};
use loom::thread;

use crate::machine::{Cpu, NO_DSB, NO_TLBI, SOUND};
use crate::run::{fails, holds, holds_within};

const BASE: VirtAddr = VirtAddr::new(0xffff_8001_0000_0000);
const USER: VirtAddr = VirtAddr::new(0x1_0000_0000);
/// The first frame is the root's; the arena takes one for scratch, then three for tables.
const ROOT: usize = 0;
const TABLES: [usize; 4] = [ROOT, 2, 3, 4];
/// Data frames follow.
const FIRST_DATA: usize = 5;
/// Preemptions in the scenarios that would take minutes without a bound.
const PREEMPTIONS: Option<usize> = Some(3);

loom::thread_local! {
    static CPU: Cell<usize> = Cell::new(0);
}

/// Two CPUs, four tables, and frames to be had.
#[derive(Clone)]
struct Board<const WRONG: u8> {
    cpus: [Cpu<WRONG>; 2],
    tables: Arc<Vec<[PteSlot; TABLE_SLOTS]>>,
    next: Arc<Mutex<usize>>,
}

struct ModelLock<T>(Mutex<T>);

type Model<const W: u8> = Arena<TombstoneProtocol, Board<W>>;

impl<const W: u8> Board<W> {
    fn new() -> Self {
        let table = |_| core::array::from_fn(|_| PteSlot::default());
        Self {
            cpus: Cpu::both(),
            tables: Arc::new((0..TABLES.len()).map(table).collect()),
            next: Arc::new(Mutex::new(ROOT + 1)),
        }
    }

    fn cpu(&self) -> &Cpu<W> {
        &self.cpus[CPU.with(Cell::get)]
    }
}

impl<const W: u8> Hw for Board<W> {
    fn compare_exchange(
        &self,
        word: &AtomicU64,
        current: u64,
        new: u64,
        order: Ordering,
    ) -> Result<u64, u64> {
        self.cpu().compare_exchange(word, current, new, order)
    }

    fn dsb_ishst(&self) {
        self.cpu().dsb_ishst();
    }

    fn dsb_ish(&self) {
        self.cpu().dsb_ish();
    }

    fn isb(&self) {
        self.cpu().isb();
    }

    fn tlbi_vaale1is(&self, page: VirtAddr) {
        if page == BASE {
            self.cpu().tlbi_vaale1is(page);
        }
    }

    fn tlbi_vmalle1is(&self) {
        self.cpu().tlbi_vmalle1is();
    }
}

impl<const W: u8> Tables for Board<W> {
    fn slots(&self, table: Frame) -> &[PteSlot; TABLE_SLOTS] {
        let place = TABLES.iter().position(|&number| number as u64 == table.number());
        &self.tables[place.expect("a frame that is a table")]
    }
}

impl<const W: u8> Frames for Board<W> {
    fn alloc(&self) -> Option<Frame> {
        let mut next = self.next.lock().unwrap();
        let frame = *next;
        (frame < crate::machine::FRAMES).then(|| {
            *next += 1;
            Frame::from_number(frame as u64)
        })
    }

    fn free(&self, frame: Frame) {
        self.cpu().free(frame.number() as usize);
    }

    fn zero(&self, frame: Frame) {
        if !TABLES.contains(&(frame.number() as usize)) {
            self.cpu().zero(frame.number() as usize);
        }
    }
}

impl<T: Send> Lock<T> for ModelLock<T> {
    type Guard<'a>
        = MutexGuard<'a, T>
    where
        T: 'a;

    fn new(_: &'static LockName, value: T) -> Option<Self> {
        Some(Self(Mutex::new(value)))
    }

    fn lock(&self, _: Irqs) -> Result<MutexGuard<'_, T>, LockError> {
        Ok(self.0.lock().unwrap())
    }

    fn try_lock(&self, _: Irqs) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }
}

impl<const W: u8> Platform for Board<W> {
    type Lock<T: Send> = ModelLock<T>;
    type Chosen = Self;
}

/// An arena of one page, which is allocated.
fn made<const W: u8>() -> Arc<Model<W>> {
    made_of(1)
}

/// The same of several.
fn made_of<const W: u8>(pages: u32) -> Arc<Model<W>> {
    let window = Window::new(BASE, pages, USER).unwrap();
    let root = Frame::from_number(ROOT as u64);
    let arena = Arena::create(Board::new(), root, window, pages).unwrap();
    assert_eq!(arena.alloc(None, pages), Ok(BASE));
    assert_eq!(arena.entry(BASE).unwrap().frame().unwrap().number(), FIRST_DATA as u64);
    Arc::new(arena)
}

fn on_other<const W: u8>(
    arena: &Arc<Model<W>>,
    act: impl FnOnce(&Model<W>) + 'static,
) -> thread::JoinHandle<()> {
    let arena = Arc::clone(arena);
    thread::spawn(move || {
        CPU.with(|cpu| cpu.set(1));
        act(&arena);
    })
}

/// A wild access by the CPU that runs this, with its recovery.
fn access<const W: u8>(arena: &Model<W>) {
    let cpu = arena.machine().cpu();
    let slot = arena.slot(BASE).unwrap();
    if cpu.access(|walker| slot.load(walker)).is_none() {
        assert_ne!(arena.recover(BASE), Recovery::NotOurs);
        cpu.access(|walker| slot.load(walker));
    }
}

/// The arena's books and its table agree once all is quiet, and nothing waits.
fn check<const W: u8>(arena: &Model<W>) {
    assert!(!arena.has_deferred(), "a free was forgotten");
    let (stats, entry) = (arena.stats().unwrap(), arena.entry(BASE).unwrap());
    let scratch = Some(arena.scratch());
    assert_eq!(stats.mapped_pages + stats.free_pages, 1, "{stats}");
    match entry.state() {
        State::Valid => assert!(stats.mapped_pages == 1 || entry.frame() == scratch, "{stats}"),
        State::Empty => assert_eq!(stats.free_pages, 1, "{stats}"),
        State::Tombstone(_) => panic!("a tombstone is left"),
    }
}

fn free_vs_access<const W: u8>() {
    let arena = made::<W>();
    let other = on_other(&arena, |arena| {
        access(arena);
        access(arena);
    });
    access(&arena);
    arena.free(BASE, 1).unwrap();
    other.join().unwrap();
    check(&arena);
}

/// A page that one CPU leaves to the worker and the other frees: its frame goes back once.
fn deferred_vs_free<const W: u8>() {
    let arena = made::<W>();
    let other = on_other(&arena, |arena| arena.free(BASE, 1).unwrap());
    arena.defer(BASE, 1).unwrap();
    arena.work().unwrap();
    other.join().unwrap();
    // A note that was made behind the other's look is the worker's.
    arena.work().unwrap();
    check(&arena);
    assert_eq!(arena.stats().unwrap().free_pages, 1);
}

/// A note that is made beside a worker that takes another: neither is lost.
fn note_vs_worker<const W: u8>() {
    let arena = made_of::<W>(2);
    arena.defer(arena.window().page(1), 1).unwrap();
    let other = on_other(&arena, |arena| {
        arena.work().unwrap();
    });
    arena.defer(BASE, 1).unwrap();
    other.join().unwrap();
    arena.work().unwrap();
    assert!(!arena.has_deferred());
    assert_eq!(arena.stats().unwrap().free_pages, 2, "a note was lost");
}

/// Two workers and one note.
fn two_workers<const W: u8>() {
    let arena = made::<W>();
    arena.defer(BASE, 1).unwrap();
    let other = on_other(&arena, |arena| {
        arena.work().unwrap();
    });
    arena.work().unwrap();
    other.join().unwrap();
    check(&arena);
    assert_eq!(arena.stats().unwrap().free_pages, 1);
}

/// A free and, behind it, an allocation of the same page, beside an access.
fn reuse_vs_access<const W: u8>() {
    let arena = made::<W>();
    let other = on_other(&arena, access);
    assert_eq!(arena.free_or_defer(BASE, 1), Ok(Freed::Now));
    assert_eq!(arena.alloc(None, 1), Ok(BASE));
    access(&arena);
    other.join().unwrap();
    check(&arena);
    assert_eq!(arena.stats().unwrap().mapped_pages, 1);
}

#[test]
fn a_freed_page_is_touched_by_nobody() {
    holds_within("arena: free vs access", PREEMPTIONS, free_vs_access::<SOUND>);
}

#[test]
fn a_page_freed_and_left_to_the_worker_goes_back_once() {
    holds("arena: deferred free vs free", deferred_vs_free::<SOUND>);
}

#[test]
fn a_note_beside_a_worker_is_not_lost() {
    holds("arena: note vs worker", note_vs_worker::<SOUND>);
}

#[test]
fn two_workers_free_a_noted_page_once() {
    holds("arena: two workers", two_workers::<SOUND>);
}

#[test]
fn a_page_is_given_again_only_behind_its_flush() {
    holds_within("arena: reuse vs access", PREEMPTIONS, reuse_vs_access::<SOUND>);
}

#[test]
fn an_arena_on_a_machine_without_maintenance_is_caught() {
    fails("no TLBI, arena: free vs access", free_vs_access::<NO_TLBI>);
    fails("no DSB, arena: reuse vs access", reuse_vs_access::<NO_DSB>);
}

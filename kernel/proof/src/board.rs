//! A machine that arenas can live on: CPUs, tables, frames to be had, a lock that knows its holder.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering as Std};

use arena::addr::{Frame, VirtAddr};
use arena::hw::{Frames, Hw, Irqs, Lock, LockError, LockName, Platform, TABLE_SLOTS, Tables};
use arena::slot::PteSlot;
use arena::sync::{AtomicU64, Ordering};

use crate::checker::sync::{Arc, Mutex, MutexGuard};
use crate::checker::thread_local;
use crate::machine::{Cpu, FRAMES, Timing};

/// Where arenas begin.
pub const BASE: VirtAddr = VirtAddr::new(0xffff_8001_0000_0000);
/// Where tasks see them.
pub const USER: VirtAddr = VirtAddr::new(0x1_0000_0000);
/// The first frame is the root's; an arena takes one for scratch, then three for tables.
pub const ROOT: usize = 0;
const SCRATCH: usize = 1;
const TABLES: [usize; 4] = [ROOT, 2, 3, 4];
const NOBODY: usize = usize::MAX;

thread_local! {
    static CPU: Cell<usize> = Cell::new(0);
    static HELD: Cell<Option<Irqs>> = Cell::new(None);
}

/// Makes the thread that asks CPU `number`.
pub fn be(number: usize) {
    CPU.with(|cpu| cpu.set(number));
}

/// How this CPU holds the lock, if it does.
pub fn held() -> Option<Irqs> {
    HELD.with(Cell::get)
}

/// Runs in the middle of each frame allocation, as a tracepoint program does.
type Tracepoint = Box<dyn Fn() + Send + Sync>;

/// `CPUS` of them, four tables, and frames to be had.
#[derive(Clone)]
pub struct Board<const WRONG: u8, const CPUS: usize> {
    cpus: [Cpu<WRONG>; CPUS],
    tables: Arc<Vec<[PteSlot; TABLE_SLOTS]>>,
    /// Free ones, the last to be given first: what was freed comes last.
    frames: Arc<Mutex<Vec<usize>>>,
    tracepoint: std::sync::Arc<std::sync::OnceLock<Tracepoint>>,
}

impl<const W: u8, const CPUS: usize> Board<W, CPUS> {
    /// One whose frames are free but for the root's.
    pub fn new(timing: Timing) -> Self {
        let cpus: [Cpu<W>; CPUS] = Cpu::all(timing, false);
        let table = |_| std::array::from_fn(|_| PteSlot::default());
        let tables = Arc::new((0..TABLES.len()).map(table).collect::<Vec<_>>());
        let leaf: &[PteSlot] = &tables[TABLES.len() - 1];
        cpus[0].has_slots(leaf, BASE, SCRATCH, TABLES[TABLES.len() - 1] + 1..FRAMES);
        cpus[0].set_in_use(ROOT, true);
        let frames = Arc::new(Mutex::new((ROOT + 1..FRAMES).rev().collect()));
        Self { cpus, tables, frames, tracepoint: std::sync::Arc::default() }
    }

    /// The CPU that asks.
    pub fn cpu(&self) -> &Cpu<W> {
        &self.cpus[CPU.with(Cell::get)]
    }

    /// Attaches a program to frame allocation. Once.
    pub fn attach(&self, program: impl Fn() + Send + Sync + 'static) {
        assert!(self.tracepoint.set(Box::new(program)).is_ok(), "a second program");
    }
}

impl<const W: u8, const CPUS: usize> Hw for Board<W, CPUS> {
    fn load(&self, word: &AtomicU64) -> u64 {
        self.cpu().load(word)
    }

    fn compare_exchange(
        &self,
        word: &AtomicU64,
        current: u64,
        new: u64,
        order: Ordering,
    ) -> Result<u64, u64> {
        self.cpu().compare_exchange(word, current, new, order)
    }

    fn swap(&self, word: &AtomicU64, new: u64, order: Ordering) -> u64 {
        self.cpu().swap(word, new, order)
    }

    fn store(&self, word: &AtomicU64, new: u64) {
        self.cpu().store(word, new);
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
        self.cpu().tlbi_vaale1is(page);
    }

    fn tlbi_vmalle1is(&self) {
        self.cpu().tlbi_vmalle1is();
    }

    fn tlbi_local(&self, page: VirtAddr) {
        self.cpu().tlbi_local(page);
    }
}

impl<const W: u8, const CPUS: usize> Tables for Board<W, CPUS> {
    fn slots(&self, table: Frame) -> &[PteSlot; TABLE_SLOTS] {
        let place = TABLES.iter().position(|&number| number as u64 == table.number());
        &self.tables[place.expect("a frame that is a table")]
    }
}

impl<const W: u8, const CPUS: usize> Frames for Board<W, CPUS> {
    fn alloc(&self) -> Option<Frame> {
        let frame = self.frames.lock().expect("no CPU has panicked").pop()?;
        self.cpu().set_in_use(frame, true);
        if let (Some(program), Some(_)) = (self.tracepoint.get(), held()) {
            program();
        }
        Some(Frame::from_number(frame as u64))
    }

    fn free(&self, frame: Frame) {
        let frame = frame.number() as usize;
        self.cpu().set_in_use(frame, false);
        self.frames.lock().expect("no CPU has panicked").insert(0, frame);
    }

    fn zero(&self, frame: Frame) {
        if !TABLES.contains(&(frame.number() as usize)) {
            self.cpu().zero(frame.number() as usize);
        }
    }
}

/// A lock that refuses its holder, as the resilient lock does.
pub struct ModelLock<T> {
    value: Mutex<T>,
    /// Asked by each CPU for itself only, so nobody need see another's change.
    holder: AtomicUsize,
}

/// A [`ModelLock`] that is held.
pub struct ModelGuard<'a, T> {
    value: MutexGuard<'a, T>,
    holder: &'a AtomicUsize,
}

impl<T> ModelLock<T> {
    fn held<'a>(&'a self, value: MutexGuard<'a, T>, irqs: Irqs) -> ModelGuard<'a, T> {
        self.holder.store(CPU.with(Cell::get), Std::Relaxed);
        HELD.with(|held| held.set(Some(irqs)));
        ModelGuard { value, holder: &self.holder }
    }
}

impl<T: Send> Lock<T> for ModelLock<T> {
    type Guard<'a>
        = ModelGuard<'a, T>
    where
        T: 'a;

    fn new(_: &'static LockName, value: T) -> Option<Self> {
        Some(Self { value: Mutex::new(value), holder: AtomicUsize::new(NOBODY) })
    }

    fn lock(&self, irqs: Irqs) -> Result<ModelGuard<'_, T>, LockError> {
        if self.holder.load(Std::Relaxed) == CPU.with(Cell::get) {
            return Err(LockError::Aa);
        }
        Ok(self.held(self.value.lock().expect("no CPU has panicked"), irqs))
    }

    fn try_lock(&self, irqs: Irqs) -> Option<ModelGuard<'_, T>> {
        self.value.try_lock().ok().map(|value| self.held(value, irqs))
    }
}

impl<T> Drop for ModelGuard<'_, T> {
    fn drop(&mut self) {
        // A second panic would end the process, and what was found with it.
        if std::thread::panicking() {
            return;
        }
        self.holder.store(NOBODY, Std::Relaxed);
        HELD.with(|held| held.set(None));
    }
}

impl<T> Deref for ModelGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for ModelGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<const W: u8, const CPUS: usize> Platform for Board<W, CPUS> {
    type Lock<T: Send> = ModelLock<T>;
    type Chosen = Self;
}

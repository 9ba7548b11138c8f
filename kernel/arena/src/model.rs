//! A machine for host tests: tables in boxes, frames that are counted, TLBs that keep what they
//! were taught until maintenance completes, and a log of every operation in order.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use crate::addr::{Frame, VirtAddr};
use crate::hw::{Frames, Hw, Irqs, Lock, LockError, LockName, Platform, TABLE_SLOTS, Tables};
use crate::pte::Pte;
use crate::slot::PteSlot;
use crate::sync::{AtomicU64, Ordering};

/// One operation that the code under test performed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    Cas { old: u64, new: u64, won: bool },
    Swap { word: usize, old: u64, new: u64 },
    DsbIshst,
    DsbIsh,
    Isb,
    Tlbi(VirtAddr),
    TlbiAll,
    Alloc(Frame),
    Free(Frame),
    Zero(Frame),
}

/// What another CPU does to a word between two operations of the code under test.
type OtherCpu = Box<dyn FnOnce(&AtomicU64)>;

/// The machine. One thread; what other CPUs do in between is injected through `before_cas` and
/// `on_alloc`.
pub struct Model {
    tables: Box<[Box<[PteSlot; 512]>]>,
    free: RefCell<BTreeSet<u64>>,
    pub events: RefCell<Vec<Event>>,
    /// Frames that `alloc` may still give.
    pub budget: Cell<usize>,
    /// Runs before the next compare-and-swap, once: the other CPU's turn.
    pub before_cas: RefCell<Option<OtherCpu>>,
    /// Runs in the middle of each frame allocation, as a tracepoint program does.
    pub on_alloc: RefCell<Option<Box<dyn Fn()>>>,
    /// The ordering that each compare-and-swap and exchange asked for.
    pub orders: RefCell<Vec<Ordering>>,
    /// Pages whose translation a TLB still holds: page to descriptor word.
    pub tlb: RefCell<BTreeMap<u64, u64>>,
}

impl Model {
    pub fn with_frames(frames: usize) -> Self {
        Self {
            tables: (0..frames).map(|_| Box::new([const { PteSlot::new() }; 512])).collect(),
            free: RefCell::new((0..frames as u64).collect()),
            events: RefCell::default(),
            budget: Cell::new(usize::MAX),
            before_cas: RefCell::default(),
            on_alloc: RefCell::default(),
            orders: RefCell::default(),
            tlb: RefCell::default(),
        }
    }

    pub fn free_frames(&self) -> usize {
        self.free.borrow().len()
    }

    /// Fills the TLBs with `page`'s current translation, as an access by some CPU would.
    pub fn touch(&self, page: VirtAddr, entry: Pte) {
        if entry.is_valid() {
            self.tlb.borrow_mut().insert(page.page_base().get(), entry.bits());
        }
    }

    pub fn take_events(&self) -> Vec<Event> {
        core::mem::take(&mut self.events.borrow_mut())
    }

    fn log(&self, event: Event) {
        self.events.borrow_mut().push(event);
    }
}

impl Hw for &Model {
    fn compare_exchange(
        &self,
        word: &AtomicU64,
        current: u64,
        new: u64,
        order: Ordering,
    ) -> Result<u64, u64> {
        // Taken out first: the other CPU's turn may arrange for the next one.
        let other = self.before_cas.borrow_mut().take();
        if let Some(other) = other {
            other(word);
        }
        self.orders.borrow_mut().push(order);
        let outcome = word.compare_exchange(current, new, order, Ordering::Relaxed);
        self.log(Event::Cas {
            old: outcome.unwrap_or_else(|found| found),
            new,
            won: outcome.is_ok(),
        });
        outcome
    }

    fn swap(&self, word: &AtomicU64, new: u64, order: Ordering) -> u64 {
        self.orders.borrow_mut().push(order);
        let old = word.swap(new, order);
        self.log(Event::Swap { word: core::ptr::from_ref(word).addr(), old, new });
        old
    }

    fn dsb_ishst(&self) {
        self.log(Event::DsbIshst);
    }

    fn dsb_ish(&self) {
        self.log(Event::DsbIsh);
    }

    fn isb(&self) {
        self.log(Event::Isb);
    }

    fn tlbi_vaale1is(&self, page: VirtAddr) {
        self.tlb.borrow_mut().remove(&page.page_base().get());
        self.log(Event::Tlbi(page));
    }

    fn tlbi_vmalle1is(&self) {
        self.tlb.borrow_mut().clear();
        self.log(Event::TlbiAll);
    }
}

impl Tables for &Model {
    fn slots(&self, table: Frame) -> &[PteSlot; TABLE_SLOTS] {
        &self.tables[table.number() as usize]
    }
}

impl Frames for &Model {
    fn alloc(&self) -> Option<Frame> {
        let left = self.budget.get().checked_sub(1)?;
        let number = self.free.borrow_mut().pop_first()?;
        self.budget.set(left);
        let frame = Frame::from_number(number);
        self.log(Event::Alloc(frame));
        if let Some(program) = &*self.on_alloc.borrow() {
            program();
        }
        Some(frame)
    }

    fn free(&self, frame: Frame) {
        let mapped = self.tlb.borrow().values().any(|&e| Pte::from_bits(e).frame() == Some(frame));
        assert!(!mapped, "frame {frame} freed while a TLB still translates to it");
        assert!(self.free.borrow_mut().insert(frame.number()), "frame {frame} freed twice");
        self.log(Event::Free(frame));
    }

    fn zero(&self, frame: Frame) {
        for slot in self.tables[frame.number() as usize].iter() {
            slot.reset();
        }
        self.log(Event::Zero(frame));
    }
}

/// A lock that knows its holder, of which there is one, and how it was last asked for.
pub struct ModelLock<T> {
    value: RefCell<T>,
    pub asked: Cell<Option<Irqs>>,
}

impl<T> Lock<T> for ModelLock<T> {
    type Guard<'a>
        = core::cell::RefMut<'a, T>
    where
        T: 'a;

    fn new(_: &'static LockName, value: T) -> Option<Self> {
        Some(Self { value: RefCell::new(value), asked: Cell::new(None) })
    }

    fn lock(&self, irqs: Irqs) -> Result<Self::Guard<'_>, LockError> {
        self.asked.set(Some(irqs));
        self.value.try_borrow_mut().map_err(|_| LockError::Aa)
    }

    fn try_lock(&self, irqs: Irqs) -> Option<Self::Guard<'_>> {
        self.lock(irqs).ok()
    }
}

impl Platform for &Model {
    type Chosen = Self;
    type Lock<T: Send> = ModelLock<T>;
}

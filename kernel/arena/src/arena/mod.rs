//! One arena: a sparse window of pages shared between programs and the kernel.
//!
//! Two parties change its page table. The *allocator* (alloc, free, reserve) works under the
//! arena's lock. The *abort handler* ([`Arena::recover`]) works without any. They meet in the
//! slots, and [`crate::slot`] says how.
//!
//! Invariants, at every moment:
//! - a page outside the range tree is either reserved or mapped to a frame that no other slot maps;
//! - a page inside it maps nothing but scratch, and no TLB translates it to anything else;
//! - scratch is freed by [`Arena::destroy`] and by nothing else.

mod alloc;
mod deferred;
mod destroy;
mod fault;
mod free;
mod user;
mod watch;

use core::fmt;
use core::marker::PhantomData;

pub use self::alloc::AllocError;
pub use self::destroy::DestroyError;
pub use self::fault::Recovery;
pub use self::free::{FreeError, Freed};
pub use self::user::UserFault;
pub use self::watch::Watch;

use crate::addr::{Frame, VirtAddr};
use crate::hw::{Lock, LockError, LockName, Platform};
use crate::map::{MapError, Mapper};
use crate::protocol::Protocol;
use crate::pte::{Pte, Stamp};
use crate::range::{RangeError, RangeTree};
use crate::slot::PteSlot;
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crate::walk::leaf_slot;
use crate::window::Window;

static LOCK_NAME: LockName = LockName("arena");

/// An arena under protocol `P` on machine `M`.
pub struct Arena<P: Protocol, M: Platform> {
    machine: M,
    root: Frame,
    window: Window,
    max_pages: u32,
    scratch: Frame,
    inner: M::Lock<Inner>,
    stamps: AtomicU64,
    counters: Counters,
    destroyed: AtomicBool,
    deferred: deferred::Deferred,
    /// Address of the frame at the root of the user window's tables; 0: there are none.
    user_root: AtomicU64,
    faults_on_unallocated: AtomicBool,
    protocol: PhantomData<P>,
}

/// What the lock guards.
pub struct Inner {
    /// Pages that may be given out.
    ranges: RangeTree,
    /// Pages mapped to a frame of their own.
    mapped: u32,
    /// The most that `mapped` has been.
    peak: u32,
}

#[derive(Default)]
struct Counters {
    scratch_installs: AtomicU64,
    lost_installs: AtomicU64,
    spurious_faults: AtomicU64,
    lock_failures: AtomicU64,
    own_faults: AtomicU64,
    deferred_pages: AtomicU64,
}

/// A reading of an arena's counters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Pages mapped to a frame of their own.
    pub mapped_pages: u32,
    /// The most that there have been.
    pub peak_pages: u32,
    /// Pages that an allocation may still take.
    pub free_pages: u32,
    /// Faults answered by installing scratch.
    pub scratch_installs: u64,
    /// Faults that found another installer had won.
    pub lost_installs: u64,
    /// Faults on a page that was mapped by the time of the look.
    pub spurious_faults: u64,
    /// Operations refused because the lock was not given.
    pub lock_failures: u64,
    /// Programs' own accesses to unmapped pages, which were stepped over.
    pub own_faults: u64,
    /// Pages whose free had to wait for a worker.
    pub deferred_pages: u64,
}

/// Why an arena could not be made. Nothing is left behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CreateError {
    /// More pages to allocate from than the window holds, or none.
    PageCount(u32),
    /// The window's tables could not be made.
    Map(MapError),
    /// No memory for the scratch page or the range tree.
    NoMemory,
}

/// An arena whatever its protocol: what programs and the abort handler see.
pub trait AnyArena: Sync {
    /// See [`Arena::alloc`].
    fn alloc(&self, at: Option<VirtAddr>, pages: u32) -> Result<VirtAddr, AllocError>;
    /// See [`Arena::free`].
    fn free(&self, at: VirtAddr, pages: u32) -> Result<(), FreeError>;
    /// See [`Arena::free_or_defer`].
    fn free_or_defer(&self, at: VirtAddr, pages: u32) -> Result<Freed, FreeError>;
    /// See [`Arena::defer`].
    fn defer(&self, at: VirtAddr, pages: u32) -> Result<(), FreeError>;
    /// See [`Arena::work`].
    fn work(&self) -> Result<u32, LockError>;
    /// See [`Arena::has_deferred`].
    fn has_deferred(&self) -> bool;
    /// See [`Arena::user_fault`].
    fn user_fault(&self, user: VirtAddr) -> Result<(), UserFault>;
    /// See [`Arena::user_table`].
    fn user_table(&self) -> Option<Frame>;
    /// See [`Arena::user_slot`].
    fn user_slot(&self, user: VirtAddr) -> Option<&PteSlot>;
    /// See [`Arena::set_fault_on_unallocated`].
    fn set_fault_on_unallocated(&self, faults: bool);
    /// See [`Arena::max_pages`].
    fn max_pages(&self) -> u32;
    /// See [`Arena::count_own_fault`].
    fn count_own_fault(&self);
    /// See [`Arena::reserve`].
    fn reserve(&self, at: VirtAddr, pages: u32) -> Result<(), AllocError>;
    /// See [`Arena::recover`].
    fn recover(&self, far: VirtAddr) -> Recovery;
    /// See [`Arena::destroy`].
    fn destroy(&self) -> Result<(), DestroyError>;
    /// See [`Arena::window`].
    fn window(&self) -> Window;
    /// See [`Arena::entry`].
    fn entry(&self, va: VirtAddr) -> Option<Pte>;
    /// See [`Arena::scratch`].
    fn scratch(&self) -> Frame;
    /// See [`Arena::stats`].
    fn stats(&self) -> Result<Stats, LockError>;
    /// See [`Arena::watch`].
    fn watch(&self) -> Result<Watch, LockError>;
    /// The protocol's name.
    fn protocol(&self) -> &'static str;
}

impl<P: Protocol, M: Platform> Arena<P, M> {
    /// Makes an arena of `max_pages` allocatable pages in `window`, under the table tree `root`.
    /// All tables that the window and its upper guard can need are made now, so that a fault never
    /// allocates. Takes no lock itself; the caller serialises changes to the tree above the window.
    ///
    /// # Errors
    /// [`CreateError`]; what was built is given back.
    pub fn create(
        machine: M,
        root: Frame,
        window: Window,
        max_pages: u32,
    ) -> Result<Self, CreateError> {
        if max_pages == 0 || max_pages > window.pages() {
            return Err(CreateError::PageCount(max_pages));
        }
        let ranges = free_ranges(max_pages)?;
        let deferred = deferred::Deferred::new(max_pages)?;
        let inner = M::Lock::new(&LOCK_NAME, Inner { ranges, mapped: 0, peak: 0 });
        let inner = inner.ok_or(CreateError::NoMemory)?;
        let scratch = machine.alloc().ok_or(CreateError::NoMemory)?;
        machine.zero(scratch);
        let populated =
            Mapper::new(&machine, root).populate(window.base(), window.recovery_bytes());
        if let Err(error) = populated {
            destroy::release_tables(&machine, root, window.base(), window.recovery_bytes());
            machine.free(scratch);
            return Err(CreateError::Map(error));
        }
        Ok(Self {
            machine,
            root,
            window,
            max_pages,
            scratch,
            inner,
            stamps: AtomicU64::new(1),
            counters: Counters::default(),
            destroyed: AtomicBool::new(false),
            deferred,
            user_root: AtomicU64::new(0),
            faults_on_unallocated: AtomicBool::new(false),
            protocol: PhantomData,
        })
    }

    /// The machine it runs on.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// Its addresses.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Pages that may be given out.
    pub fn max_pages(&self) -> u32 {
        self.max_pages
    }

    /// Counts a program's own access to an unmapped page, which was stepped over. Any context.
    pub fn count_own_fault(&self) {
        // Relaxed: a statistic.
        self.counters.own_faults.fetch_add(1, Ordering::Relaxed);
    }

    /// Its scratch page.
    pub fn scratch(&self) -> Frame {
        self.scratch
    }

    /// Its lock, for variants whose fault handler takes it.
    pub fn lock(&self) -> &M::Lock<Inner> {
        &self.inner
    }

    /// The entry that decides about `va` now; `None` outside the window. Any context.
    pub fn entry(&self, va: VirtAddr) -> Option<Pte> {
        self.slot(va).map(|slot| slot.load(&self.machine))
    }

    /// The counters. Takes the lock.
    ///
    /// # Errors
    /// The lock's.
    pub fn stats(&self) -> Result<Stats, LockError> {
        let inner = self.inner.lock(P::IRQS)?;
        // Relaxed: counters order nothing.
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Ok(Stats {
            mapped_pages: inner.mapped,
            peak_pages: inner.peak,
            free_pages: inner.ranges.free_pages(),
            scratch_installs: read(&self.counters.scratch_installs),
            lost_installs: read(&self.counters.lost_installs),
            spurious_faults: read(&self.counters.spurious_faults),
            lock_failures: read(&self.counters.lock_failures),
            own_faults: read(&self.counters.own_faults),
            deferred_pages: read(&self.counters.deferred_pages),
        })
    }

    /// A fresh stamp: no slot of the arena has borne it. A slot compares it with none but its own, so one
    /// does for a whole batch of slots.
    pub fn stamp(&self) -> Stamp {
        // Relaxed: only uniqueness matters, and read-modify-write gives that. 2^63 clears at one a
        // nanosecond take 292 years.
        Stamp::new(self.stamps.fetch_add(1, Ordering::Relaxed)).expect("fewer than 2^63 clears")
    }

    /// What the lab knows the arena's books by.
    #[cfg(feature = "lab")]
    pub fn object(&self) -> u64 {
        self.window.base().get()
    }

    /// The slot that decides about `va`; `None` outside what the arena recovers. Any context.
    pub fn slot(&self, va: VirtAddr) -> Option<&PteSlot> {
        if self.window.recovers(va) { leaf_slot(&self.machine, self.root, va) } else { None }
    }
}

impl<P: Protocol, M: Platform + Sync> AnyArena for Arena<P, M>
where
    M::Lock<Inner>: Sync,
{
    fn alloc(&self, at: Option<VirtAddr>, pages: u32) -> Result<VirtAddr, AllocError> {
        self.alloc(at, pages)
    }

    fn free(&self, at: VirtAddr, pages: u32) -> Result<(), FreeError> {
        self.free(at, pages)
    }

    fn reserve(&self, at: VirtAddr, pages: u32) -> Result<(), AllocError> {
        self.reserve(at, pages)
    }

    fn free_or_defer(&self, at: VirtAddr, pages: u32) -> Result<Freed, FreeError> {
        self.free_or_defer(at, pages)
    }

    fn defer(&self, at: VirtAddr, pages: u32) -> Result<(), FreeError> {
        self.defer(at, pages)
    }

    fn work(&self) -> Result<u32, LockError> {
        self.work()
    }

    fn has_deferred(&self) -> bool {
        self.has_deferred()
    }

    fn user_fault(&self, user: VirtAddr) -> Result<(), UserFault> {
        self.user_fault(user)
    }

    fn user_table(&self) -> Option<Frame> {
        self.user_table()
    }

    fn user_slot(&self, user: VirtAddr) -> Option<&PteSlot> {
        self.user_slot(user)
    }

    fn set_fault_on_unallocated(&self, faults: bool) {
        self.set_fault_on_unallocated(faults);
    }

    fn max_pages(&self) -> u32 {
        self.max_pages()
    }

    fn count_own_fault(&self) {
        self.count_own_fault();
    }

    fn recover(&self, far: VirtAddr) -> Recovery {
        self.recover(far)
    }

    fn destroy(&self) -> Result<(), DestroyError> {
        self.destroy()
    }

    fn window(&self) -> Window {
        self.window
    }

    fn entry(&self, va: VirtAddr) -> Option<Pte> {
        self.entry(va)
    }

    fn scratch(&self) -> Frame {
        self.scratch
    }

    fn stats(&self) -> Result<Stats, LockError> {
        self.stats()
    }

    fn watch(&self) -> Result<Watch, LockError> {
        self.watch()
    }

    fn protocol(&self) -> &'static str {
        P::NAME
    }
}

impl Stats {
    /// Wild accesses, by the kernel for a program and by programs themselves.
    pub const fn violations(&self) -> u64 {
        self.scratch_installs + self.lost_installs + self.own_faults
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mapped_pages, peak_pages, free_pages, scratch_installs, .. } = self;
        write!(f, "pages={mapped_pages} peak={peak_pages} free={free_pages} ")?;
        write!(f, "scratch={scratch_installs} violations={} ", self.violations())?;
        let Self { spurious_faults, lock_failures, deferred_pages, .. } = self;
        write!(f, "retries={spurious_faults} lock_failures={lock_failures} ")?;
        write!(f, "deferred={deferred_pages}")
    }
}

impl From<RangeError> for CreateError {
    fn from(_: RangeError) -> Self {
        Self::NoMemory
    }
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PageCount(pages) => write!(f, "an arena cannot have {pages} pages"),
            Self::Map(error) => error.fmt(f),
            Self::NoMemory => f.write_str("no memory for an arena"),
        }
    }
}

fn free_ranges(pages: u32) -> Result<RangeTree, RangeError> {
    let mut ranges = RangeTree::new();
    ranges.set(crate::addr::PageRange::new(0, pages))?;
    Ok(ranges)
}

#[cfg(test)]
mod test;

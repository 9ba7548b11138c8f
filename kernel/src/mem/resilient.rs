//! The lock of an arena: queued and fair, its critical sections run with IRQs masked, and a wait that
//! would not end is an error. The queue is [`arena::resilient`]; here are the CPU, the clock and the
//! value.
//!
//! An abort handler, which comes on top of anything, may use [`Lock::try_lock`]: it takes a free lock
//! or nothing, and joins no queue.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arena::hw::{Irqs, Lock, LockError, LockName};
use arena::resilient::{Locks, Queue, Wait};

use crate::arch::barrier;
use crate::arch::irq::IrqGuard;
use crate::arch::percpu::{CpuId, MAX_CPUS};
use crate::arch::timer::Deadline;
use crate::lab::engine;
use crate::mem::held;

/// Nanoseconds after which a waiter gives up, unless set otherwise: Linux `RES_DEF_TIMEOUT`.
pub const DEFAULT_TIMEOUT_NS: u64 = 250_000_000;

/// Resilient locks that can exist at once: one for each arena, and some for tests.
const LOCKS: usize = 96;

/// [`ResilientLock::owner`] when nobody holds the lock.
const NOBODY: u32 = u32::MAX;

const _: () = assert!(MAX_CPUS <= arena::resilient::CPUS);

static QUEUES: Locks<LOCKS> = Locks::new();
static TIMEOUT_NS: AtomicU64 = AtomicU64::new(DEFAULT_TIMEOUT_NS);

/// See the module.
pub struct ResilientLock<T> {
    id: usize,
    queue: &'static Queue,
    /// For debuggers, which look at a stopped machine.
    owner: AtomicU32,
    name: &'static LockName,
    value: UnsafeCell<T>,
}

// SAFETY: the queue lets one CPU at a time reach the value, and hands it over with release and acquire.
unsafe impl<T: Send> Sync for ResilientLock<T> {}

/// Holds the lock; hands it on, then restores DAIF, when dropped. Belongs to its CPU.
pub struct ResilientGuard<'a, T> {
    lock: &'a ResilientLock<T>,
    me: usize,
    // Dropped last: the lock is released before an interrupt may run.
    _irqs: Option<IrqGuard>,
}

/// A wait of this CPU, with the time that is left.
struct Waiting {
    lock: u64,
    deadline: Deadline,
}

/// Sets after how many nanoseconds waiters give up, from now on; returns what it was.
pub fn set_timeout_ns(ns: u64) -> u64 {
    // Relaxed: a setting.
    TIMEOUT_NS.swap(ns, Ordering::Relaxed)
}

impl<T> ResilientLock<T> {
    /// CPUs that wait for the lock at this moment.
    pub fn waiters(&self) -> usize {
        self.queue.waiters()
    }

    /// What the lab knows the lock by.
    fn address(&self) -> u64 {
        core::ptr::from_ref(self.queue).addr() as u64
    }

    #[inline(always)]
    fn guard(&self, me: usize, irqs: Option<IrqGuard>) -> ResilientGuard<'_, T> {
        // Relaxed: for reports.
        self.owner.store(me as u32, Ordering::Relaxed);
        held::push(self.name);
        ResilientGuard { lock: self, me, _irqs: irqs }
    }

    #[cold]
    fn wait(&self, me: usize) -> Result<(), LockError> {
        let timeout = TIMEOUT_NS.load(Ordering::Relaxed);
        let mut waiting = Waiting { lock: self.address(), deadline: Deadline::after_ns(timeout) };
        QUEUES.acquire(self.id, me, &mut waiting)
    }
}

impl<T: Send> Lock<T> for ResilientLock<T> {
    type Guard<'a>
        = ResilientGuard<'a, T>
    where
        T: 'a;

    fn new(name: &'static LockName, value: T) -> Option<Self> {
        let id = QUEUES.claim()?;
        let queue = QUEUES.queue(id);
        let value = UnsafeCell::new(value);
        Some(Self { id, queue, owner: AtomicU32::new(NOBODY), name, value })
    }

    #[inline]
    fn lock(&self, irqs: Irqs) -> Result<ResilientGuard<'_, T>, LockError> {
        let saved = mask(irqs);
        let me = CpuId::current().index();
        if !self.queue.try_take(me) {
            self.wait(me)?;
        }
        Ok(self.guard(me, saved))
    }

    fn try_lock(&self, irqs: Irqs) -> Option<ResilientGuard<'_, T>> {
        let saved = mask(irqs);
        let me = CpuId::current().index();
        self.queue.try_take(me).then(|| self.guard(me, saved))
    }

    fn owner_word(&self) -> *const AtomicU32 {
        &self.owner
    }
}

impl<T> Drop for ResilientLock<T> {
    fn drop(&mut self) {
        QUEUES.give_back(self.id);
    }
}

impl Wait for Waiting {
    fn pause(&mut self) -> bool {
        if engine::is_acting() {
            return engine::block_for_a_time(self.lock);
        }
        barrier::wait_hint();
        self.deadline.has_passed()
    }

    fn wake(&mut self, victim: usize) {
        engine::wake_waiter(victim);
    }
}

impl<T> Drop for ResilientGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        held::pop(self.lock.name);
        // Before the lock itself is free: a later holder's number must not be overwritten.
        self.lock.owner.store(NOBODY, Ordering::Relaxed);
        self.lock.queue.release(self.me);
        // Nobody else runs before this CPU's next step.
        engine::unblock(self.lock.address());
    }
}

impl<T> Deref for ResilientGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard's CPU holds the lock, so nobody else reaches the value.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for ResilientGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and the guard is borrowed for itself.
        unsafe { &mut *self.lock.value.get() }
    }
}

fn mask(irqs: Irqs) -> Option<IrqGuard> {
    match irqs {
        Irqs::Masked => Some(IrqGuard::new()),
        Irqs::Unchanged => None,
    }
}

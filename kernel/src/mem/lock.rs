//! The IRQ-disabled spinlock.
//!
//! Taking it masks IRQs on this CPU and releasing it restores DAIF to exactly what it was, so locks
//! nest. Release them in reverse order: an outer lock that goes first unmasks IRQs while the inner
//! one is held. Synchronous exceptions still arrive: an abort inside a critical section runs its
//! handler with the lock held, which is why the handler takes no lock.

use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};

use arena::hw::{Irqs, Lock, LockError, LockName};
use spin::mutex::{SpinMutex, SpinMutexGuard};

use crate::arch::barrier;
use crate::arch::irq::IrqGuard;
use crate::arch::percpu::CpuId;
use crate::lab::engine;
use crate::mem::held;

/// [`IrqSpinLock::owner`] when nobody holds the lock.
const NOBODY: u32 = u32::MAX;

/// A spinlock whose critical sections run with IRQs masked.
pub struct IrqSpinLock<T> {
    name: &'static LockName,
    owner: AtomicU32,
    value: SpinMutex<T>,
}

/// Holds the lock; releases it, then restores DAIF, when dropped.
pub struct IrqSpinGuard<'a, T> {
    // Field order is drop order: the lock is free before an interrupt may run.
    value: SpinMutexGuard<'a, T>,
    _irqs: Option<IrqGuard>,
    owner: &'a AtomicU32,
    name: &'static LockName,
}

impl<T> IrqSpinLock<T> {
    /// An unlocked lock; `name` appears in reports.
    pub const fn named(name: &'static LockName, value: T) -> Self {
        Self { name, owner: AtomicU32::new(NOBODY), value: SpinMutex::new(value) }
    }

    /// Waits for the lock. Taking a lock that this CPU holds is a bug of the kernel's own and ends
    /// the run as a deadlock; code that can meet it by design uses [`Lock::lock`].
    // Budgeted: with the fast path inlined the guard stays in registers.
    #[inline(always)]
    pub fn acquire(&self) -> IrqSpinGuard<'_, T> {
        match self.lock(Irqs::Masked) {
            Ok(guard) => guard,
            Err(_) => crate::deadlock::self_deadlock(self.name.0),
        }
    }

    /// What the lab knows the lock by.
    fn address(&self) -> u64 {
        core::ptr::from_ref(&self.owner).addr() as u64
    }

    /// Whether the calling CPU holds the lock.
    pub fn is_held_here(&self) -> bool {
        // Relaxed: only this CPU writes its own number, so it reads what it wrote last.
        self.owner.load(Ordering::Relaxed) == me()
    }

    /// Waits until the lock is free, and takes it.
    #[cold]
    #[inline(never)]
    fn wait(&self) -> Result<SpinMutexGuard<'_, T>, LockError> {
        loop {
            if self.is_held_here() {
                return Err(LockError::Aa);
            }
            if engine::is_acting() {
                engine::block(self.address());
            } else {
                barrier::wait_hint();
            }
            if let Some(value) = self.value.try_lock() {
                return Ok(value);
            }
        }
    }

    #[inline(always)]
    fn guard<'a>(
        &'a self,
        value: SpinMutexGuard<'a, T>,
        irqs: Option<IrqGuard>,
    ) -> IrqSpinGuard<'a, T> {
        // Relaxed: the owner is for reports and for the holder's own question above.
        self.owner.store(me(), Ordering::Relaxed);
        held::push(self.name);
        IrqSpinGuard { value, _irqs: irqs, owner: &self.owner, name: self.name }
    }
}

impl<T> Lock<T> for IrqSpinLock<T> {
    type Guard<'a>
        = IrqSpinGuard<'a, T>
    where
        T: 'a;

    fn new(name: &'static LockName, value: T) -> Option<Self> {
        Some(Self::named(name, value))
    }

    #[inline(always)]
    fn lock(&self, irqs: Irqs) -> Result<IrqSpinGuard<'_, T>, LockError> {
        let saved = mask(irqs);
        let value = match self.value.try_lock() {
            Some(value) => value,
            None => self.wait()?,
        };
        Ok(self.guard(value, saved))
    }

    fn try_lock(&self, irqs: Irqs) -> Option<IrqSpinGuard<'_, T>> {
        let saved = mask(irqs);
        self.value.try_lock().map(|value| self.guard(value, saved))
    }

    fn owner_word(&self) -> *const AtomicU32 {
        &self.owner
    }
}

impl<T> Drop for IrqSpinGuard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        held::pop(self.name);
        // Before the lock itself is free: a later holder's number must not be overwritten.
        self.owner.store(NOBODY, Ordering::Relaxed);
        // Nobody else runs before this CPU's next step, which is behind the release.
        engine::unblock(core::ptr::from_ref(self.owner).addr() as u64);
    }
}

impl<T> Deref for IrqSpinGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for IrqSpinGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

fn me() -> u32 {
    CpuId::current().index() as u32
}

fn mask(irqs: Irqs) -> Option<IrqGuard> {
    match irqs {
        Irqs::Masked => Some(IrqGuard::new()),
        Irqs::Unchanged => None,
    }
}

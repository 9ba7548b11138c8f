//! `keeps-lock`: a way out of the critical section forgets the lock.

use arena::addr::PageRange;
use arena::arena::Arena;
use arena::hw::{Lock, LockError, Platform};
use arena::protocol::Protocol;

use crate::lab::engine;

/// A free of nothing returns with the lock held.
pub struct KeepsLock;

impl Protocol for KeepsLock {
    const NAME: &'static str = "keeps-lock";

    fn free_batch<M: Platform>(arena: &Arena<Self, M>, batch: PageRange) -> Result<(), LockError> {
        let first = arena.entry(arena.window().page(batch.start));
        // Not between schedules: there nothing looks, and everything needs the lock.
        if engine::is_acting() && first.is_some_and(|entry| entry.frame().is_none()) {
            core::mem::forget(arena.lock().lock(Self::IRQS)?);
            return Ok(());
        }
        arena.free_flushed(batch)
    }
}

//! The queue of a lock whose waiters get an error where they would wait for ever.
//!
//! A lock is one word: the CPU that holds it, then those that wait, first come first served, four bits
//! each. Joining appends, releasing shifts, and a waiter that gives up takes itself out of the middle;
//! each is one read-modify-write of that word, so there is no node that could outlive its owner and no
//! moment in which the queue is half changed.
//!
//! A waiter returns an error
//! - at once, if its own CPU holds the lock or waits for it already (A-A: an interrupt or an abort
//!   handler on top of either);
//! - when it waits in a circle (ABBA, of any length): it waits for a lock whose holder waits for a lock
//!   whose holder ... is itself. One CPU of the circle, the one with the highest number, gives up; the
//!   others then go on;
//! - when its time is up.
//!
//! Answers to Linux `kernel/bpf/rqspinlock.c`. Differences: there a waiter at the head of the queue that
//! gives up takes all waiters behind it along; here only it leaves. There each CPU keeps a table of the
//! locks that it holds, which can overflow; here the words themselves say who holds what.

use core::fmt;

use crate::hw::LockError;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// CPUs that can be told apart: four bits each, of which 0 is nobody.
pub const CPUS: usize = 15;
/// Bits of an entry.
const BITS: u32 = 4;
const ENTRY: u64 = (1 << BITS) - 1;

/// Holder and waiters of one lock.
#[derive(Default)]
pub struct Queue(AtomicU64);

/// A set of locks that know of each other, and for which of them each CPU waits.
pub struct Locks<const N: usize> {
    queues: [Queue; N],
    /// Whether each queue belongs to a lock.
    taken: [AtomicU32; N],
    /// For each CPU the lock that it waits for, plus one.
    waits_for: [AtomicU32; CPUS],
}

/// What a waiter does while it waits.
pub trait Wait {
    /// Lets time pass; whether the waiter's is up.
    fn pause(&mut self) -> bool;

    /// The caller has closed a circle that `victim`, which waits already, has to break: where waiters
    /// do not look by themselves, it must be made to.
    fn wake(&mut self, _victim: usize) {}
}

/// What became of a CPU that asked for a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Joined {
    Holds,
    Waits,
    WasThere,
}

impl Queue {
    /// A free lock.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Takes the lock for CPU `me` if it is free.
    #[inline(always)]
    pub fn try_take(&self, me: usize) -> bool {
        // Acquire: pairs with `release`; the critical sections stand in one order.
        self.0.compare_exchange(0, entry(me), Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Gives the lock, which CPU `me` holds, to the first waiter, or nobody.
    #[inline(always)]
    pub fn release(&self, me: usize) {
        // Release: what the holder did is over before the next one begins. Others change the word by
        // read-modify-write only, so the next holder acquires from this whoever joined in between.
        let alone =
            self.0.compare_exchange(entry(me), 0, Ordering::Release, Ordering::Relaxed).is_ok();
        if !alone {
            self.hand_over();
        }
    }

    /// The CPU that holds the lock.
    pub fn holder(&self) -> Option<usize> {
        holder(self.load())
    }

    /// CPUs that wait for it.
    pub fn waiters(&self) -> usize {
        (end(self.load()) / BITS).saturating_sub(1) as usize
    }

    fn load(&self) -> u64 {
        // Acquire: whoever finds itself the holder goes on with what the last one left.
        self.0.load(Ordering::Acquire)
    }

    #[cold]
    fn hand_over(&self) {
        let shift = |word: u64| Some(word >> BITS);
        let _ = self.0.fetch_update(Ordering::Release, Ordering::Relaxed, shift);
    }

    fn join(&self, me: usize) -> Joined {
        let append =
            |word: u64| position(word, me).is_none().then(|| word | entry(me) << end(word));
        match self.0.fetch_update(Ordering::Acquire, Ordering::Relaxed, append) {
            Ok(0) => Joined::Holds,
            Ok(_) => Joined::Waits,
            Err(_) => Joined::WasThere,
        }
    }

    /// Takes CPU `me` out of the queue; `false` if it has been given the lock meanwhile.
    fn leave(&self, me: usize) -> bool {
        let take_out = |word: u64| {
            let at = position(word, me).filter(|&at| at > 0)?;
            let below = word & ((1 << at) - 1);
            Some(below | (word >> (at + BITS)) << at)
        };
        // Acquire for the failure: the lock is this CPU's, as after `join`.
        self.0.fetch_update(Ordering::Relaxed, Ordering::Acquire, take_out).is_ok()
    }
}

impl<const N: usize> Locks<N> {
    /// No locks yet.
    #[cfg(not(loom))]
    #[expect(clippy::new_without_default, reason = "made once, as a static")]
    pub const fn new() -> Self {
        Self {
            queues: [const { Queue::new() }; N],
            taken: [const { AtomicU32::new(0) }; N],
            waits_for: [const { AtomicU32::new(0) }; CPUS],
        }
    }

    /// No locks yet, of the model checker's atomics.
    #[cfg(loom)]
    #[expect(clippy::new_without_default, reason = "as above")]
    pub fn new() -> Self {
        Self {
            queues: core::array::from_fn(|_| Queue::default()),
            taken: core::array::from_fn(|_| AtomicU32::new(0)),
            waits_for: core::array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    /// A free lock of the set; `None` if all are in use.
    pub fn claim(&self) -> Option<usize> {
        self.taken.iter().position(|taken| {
            // Acquire: the new lock comes after the old one is gone.
            taken.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
        })
    }

    /// Ends the lock `id`, which nobody holds or waits for any more.
    pub fn give_back(&self, id: usize) {
        // Relaxed: whoever forgot to release it is gone; the next owner's releases start from here.
        self.queues[id].0.store(0, Ordering::Relaxed);
        self.taken[id].store(0, Ordering::Release);
    }

    /// Holder and waiters of the lock `id`.
    pub fn queue(&self, id: usize) -> &Queue {
        &self.queues[id]
    }

    /// Gets the lock `id` for CPU `me`, in its turn. IRQs of this CPU are masked, or an interrupt that
    /// asks for the same lock gets [`LockError::Aa`]. Lock-free but for the wait.
    ///
    /// # Errors
    /// [`LockError`]; the lock was not given and nothing is left of the attempt.
    pub fn acquire(&self, id: usize, me: usize, wait: &mut impl Wait) -> Result<(), LockError> {
        match self.queues[id].join(me) {
            Joined::Holds => Ok(()),
            Joined::WasThere => Err(LockError::Aa),
            Joined::Waits => {
                // An interrupt's wait may lie on top of that of what it interrupted.
                // Relaxed here and below: a circle is looked at again and again, and the queues say
                // whether what is noted here is still true.
                let before = self.waits_for[me].swap(id as u32 + 1, Ordering::Relaxed);
                let outcome = self.wait(id, me, wait);
                self.waits_for[me].store(before, Ordering::Relaxed);
                outcome
            }
        }
    }

    fn wait(&self, id: usize, me: usize, wait: &mut impl Wait) -> Result<(), LockError> {
        let queue = &self.queues[id];
        let mut told = None;
        loop {
            if queue.holder() == Some(me) {
                return Ok(());
            }
            let victim = self.circle(id, me);
            let why = if victim == Some(me) {
                LockError::Abba
            } else {
                if victim != told {
                    told = victim;
                    victim.into_iter().for_each(|victim| wait.wake(victim));
                }
                if !wait.pause() {
                    continue;
                }
                LockError::Timeout { holder: queue.holder().map_or(u8::MAX, |cpu| cpu as u8) }
            };
            return if queue.leave(me) { Err(why) } else { Ok(()) };
        }
    }

    /// If CPU `me`, which waits for lock `id`, waits in a circle: the CPU that has to break it.
    ///
    /// Looked at twice: a CPU that waits in both looks waited in between, and so released nothing. What
    /// was seen of its lock in the second look, after it was first seen waiting, is then still so.
    fn circle(&self, id: usize, me: usize) -> Option<usize> {
        let first = self.chain(id, me)?;
        let second = self.chain(id, me)?;
        (first == second).then(|| first.ilog2() as usize)
    }

    /// The CPUs from `me` on, each waiting for the next, if the last waits for `me`. A bit each.
    fn chain(&self, id: usize, me: usize) -> Option<u32> {
        let (mut id, mut cpu, mut members) = (id, me, 1u32 << me);
        loop {
            let word = self.queues[id].load();
            // Handed over, or given up, since.
            position(word, cpu).filter(|&at| at > 0)?;
            cpu = holder(word)?;
            if cpu == me {
                return Some(members);
            }
            if members & 1 << cpu != 0 {
                // A circle that this CPU only waits for.
                return None;
            }
            members |= 1 << cpu;
            id = self.waits_for[cpu].load(Ordering::Relaxed).checked_sub(1)? as usize;
        }
    }
}

const fn entry(cpu: usize) -> u64 {
    cpu as u64 + 1
}

fn holder(word: u64) -> Option<usize> {
    ((word & ENTRY) as usize).checked_sub(1)
}

/// The bit at which `cpu`'s entry begins, if it has one.
fn position(word: u64, cpu: usize) -> Option<u32> {
    (0..end(word)).step_by(BITS as usize).find(|&at| word >> at & ENTRY == entry(cpu))
}

/// The bit behind the last entry. No entry is 0, so the highest bit set belongs to the last.
fn end(word: u64) -> u32 {
    (u64::BITS - word.leading_zeros()).next_multiple_of(BITS)
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aa => f.write_str("this CPU holds the lock or waits for it already (A-A)"),
            Self::Abba => f.write_str("this CPU waits in a circle (ABBA)"),
            Self::Timeout { holder: u8::MAX } => f.write_str("timed out waiting for the lock"),
            Self::Timeout { holder } => write!(f, "timed out: cpu{holder} holds the lock"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use std::vec::Vec;

    /// Gives up after so many pauses.
    struct Pauses(u64);

    impl Wait for Pauses {
        fn pause(&mut self) -> bool {
            thread::yield_now();
            self.0 -= 1;
            self.0 == 0
        }
    }

    fn locks() -> Locks<4> {
        Locks::new()
    }

    #[test]
    fn waiters_are_served_in_the_order_in_which_they_came() {
        let queue = Queue::new();
        assert_eq!([3, 0, 7, 14].map(|cpu| queue.join(cpu)), {
            use Joined::{Holds, Waits};
            [Holds, Waits, Waits, Waits]
        });
        let mut served = Vec::new();
        while let Some(cpu) = queue.holder() {
            served.push(cpu);
            queue.release(cpu);
        }
        assert_eq!(served, [3, 0, 7, 14]);
    }

    #[test]
    fn a_waiter_in_the_middle_leaves_without_a_trace() {
        let queue = Queue::new();
        for cpu in 0..4 {
            queue.join(cpu);
        }
        assert!(queue.leave(2));
        queue.release(0);
        queue.release(1);
        assert_eq!(queue.holder(), Some(3));
        queue.release(3);
        assert_eq!(queue.holder(), None);
    }

    #[test]
    fn a_waiter_that_was_given_the_lock_cannot_leave_it() {
        let queue = Queue::new();
        queue.join(0);
        queue.join(1);
        queue.release(0);
        assert!(!queue.leave(1));
        assert_eq!(queue.holder(), Some(1));
    }

    #[test]
    fn all_cpus_fit_into_the_queue() {
        let queue = Queue::new();
        for cpu in 0..CPUS {
            queue.join(cpu);
        }
        for cpu in 0..CPUS {
            assert_eq!(queue.holder(), Some(cpu));
            queue.release(cpu);
        }
    }

    #[test]
    fn holder_and_waiter_are_refused_a_second_time() {
        let locks = locks();
        locks.acquire(0, 5, &mut Pauses(1)).unwrap();
        assert_eq!(locks.acquire(0, 5, &mut Pauses(1)), Err(LockError::Aa));
        assert_eq!(locks.queue(0).join(6), Joined::Waits);
        assert_eq!(locks.acquire(0, 6, &mut Pauses(1)), Err(LockError::Aa));
    }

    #[test]
    fn a_timeout_names_the_holder_and_leaves_the_queue() {
        let locks = locks();
        locks.acquire(0, 1, &mut Pauses(1)).unwrap();
        let refused = locks.acquire(0, 2, &mut Pauses(3));
        assert_eq!(refused, Err(LockError::Timeout { holder: 1 }));
        locks.queue(0).release(1);
        assert_eq!(locks.queue(0).holder(), None);
    }

    /// CPU n holds lock n and asks for lock n + 1, all at once.
    fn ring(size: usize) -> Vec<Result<(), LockError>> {
        let locks = locks();
        (0..size).for_each(|cpu| locks.acquire(cpu, cpu, &mut Pauses(1)).unwrap());
        thread::scope(|scope| {
            let ask = |cpu: usize| {
                let locks = &locks;
                scope.spawn(move || {
                    let next = (cpu + 1) % size;
                    let outcome = locks.acquire(next, cpu, &mut Pauses(1 << 40));
                    if outcome.is_ok() {
                        locks.queue(next).release(cpu);
                    }
                    locks.queue(cpu).release(cpu);
                    outcome
                })
            };
            let threads: Vec<_> = (0..size).map(ask).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn one_cpu_of_a_circle_gives_up_and_the_others_go_on() {
        for size in [2, 3, 4] {
            let outcomes = ring(size);
            assert_eq!(outcomes[size - 1], Err(LockError::Abba), "{outcomes:?}");
            assert!(outcomes[..size - 1].iter().all(Result::is_ok), "{outcomes:?}");
        }
    }

    #[test]
    fn only_the_highest_cpu_of_a_circle_gives_up() {
        let locks = locks();
        locks.acquire(0, 0, &mut Pauses(1)).unwrap();
        locks.acquire(1, 1, &mut Pauses(1)).unwrap();
        locks.queue(0).join(1);
        locks.waits_for[1].store(1, Ordering::Relaxed);
        // CPU 1 waits and is slow to look: CPU 0 goes on waiting.
        let refused = locks.acquire(1, 0, &mut Pauses(3));
        assert_eq!(refused, Err(LockError::Timeout { holder: 1 }));
    }

    #[test]
    fn a_wait_on_top_of_another_leaves_it_on_record() {
        let locks = locks();
        locks.acquire(0, 0, &mut Pauses(1)).unwrap();
        locks.waits_for[1].store(3, Ordering::Relaxed);
        assert!(locks.acquire(0, 1, &mut Pauses(2)).is_err());
        assert_eq!(locks.waits_for[1].load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_chain_is_no_circle() {
        let locks = locks();
        locks.acquire(0, 0, &mut Pauses(1)).unwrap();
        locks.acquire(1, 1, &mut Pauses(1)).unwrap();
        locks.queue(0).join(1);
        locks.waits_for[1].store(1, Ordering::Relaxed);
        locks.queue(1).join(2);
        assert_eq!(locks.circle(1, 2), None);
        // CPU 0 closes a circle with CPU 1; CPU 2 only waits for it.
        locks.queue(1).join(0);
        locks.waits_for[0].store(2, Ordering::Relaxed);
        assert_eq!(locks.circle(1, 2), None);
        assert_eq!(locks.circle(1, 0), Some(1));
    }

    #[test]
    fn what_is_noted_of_a_waiter_that_has_left_makes_no_circle() {
        let locks = locks();
        locks.acquire(0, 0, &mut Pauses(1)).unwrap();
        locks.acquire(1, 1, &mut Pauses(1)).unwrap();
        locks.queue(1).join(0);
        // CPU 1 waited for lock 0 once, and does not any more.
        locks.waits_for[1].store(1, Ordering::Relaxed);
        assert_eq!(locks.circle(1, 0), None);
    }

    #[test]
    fn critical_sections_never_overlap() {
        let locks = locks();
        let counter = AtomicU64::new(0);
        thread::scope(|scope| {
            for cpu in 0..4 {
                let (locks, counter) = (&locks, &counter);
                scope.spawn(move || {
                    for _ in 0..2000 {
                        if locks.acquire(0, cpu, &mut Pauses(1 << 40)).is_ok() {
                            // Two steps: an overlap loses one of them.
                            let seen = counter.load(Ordering::Relaxed);
                            thread::yield_now();
                            counter.store(seen + 1, Ordering::Relaxed);
                            locks.queue(0).release(cpu);
                        }
                    }
                });
            }
        });
        assert_eq!(counter.load(Ordering::Relaxed), 8000);
    }

    #[test]
    fn a_claimed_lock_is_claimed_once() {
        let locks = locks();
        let ids: Vec<_> = (0..4).filter_map(|_| locks.claim()).collect();
        assert_eq!(ids, [0, 1, 2, 3]);
        assert_eq!(locks.claim(), None);
        locks.give_back(2);
        assert_eq!(locks.claim(), Some(2));
    }
}

//! What CPUs share beside the tables: the lock's queue, streams, the life of a program, frame caches.

use arena::addr::Frame;
use arena::frames::{Cache, Pool};
use arena::lifecycle::Lifecycle;
use arena::resilient::{Locks, Wait};
use arena::stream::{Record, Stream};
use loom::cell::UnsafeCell;
use loom::sync::{Arc, Mutex};
use loom::thread;

use crate::run::{every, every_at_most, every_within};

/// A waiter that lets others run, and never gives up.
struct Patient;

impl Wait for Patient {
    fn pause(&mut self) -> bool {
        thread::yield_now();
        false
    }
}

/// A waiter that gives up at its second look: two that wait without end for each other's turn are no end
/// for loom either.
#[derive(Default)]
struct Hasty {
    looks: u32,
}

impl Wait for Hasty {
    fn pause(&mut self) -> bool {
        thread::yield_now();
        self.looks += 1;
        self.looks > 1
    }
}

/// A lock and what it guards: loom tells of two that are in it at once, or of one that does not see what
/// the other did.
struct Guarded {
    locks: Locks<1>,
    value: UnsafeCell<u32>,
}

impl Guarded {
    fn new() -> Arc<Self> {
        Arc::new(Self { locks: Locks::new(), value: UnsafeCell::new(0) })
    }

    /// One critical section of `cpu`'s, if it is given the lock; whether it was.
    fn add(&self, cpu: usize, wait: &mut impl Wait) -> bool {
        // As the kernel's lock does: what is free is taken, and only else is there a queue.
        if !self.locks.queue(0).try_take(cpu) && self.locks.acquire(0, cpu, wait).is_err() {
            return false;
        }
        self.value.with_mut(|value| {
            // SAFETY: the lock is held; loom checks the claim.
            unsafe { *value += 1 }
        });
        self.locks.queue(0).release(cpu);
        true
    }

    /// Critical sections so far, by one who is alone with it.
    fn sections(&self) -> u32 {
        self.value.with(|value| {
            // SAFETY: the other threads have ended.
            unsafe { *value }
        })
    }
}

#[test]
fn critical_sections_follow_each_other() {
    every("two CPUs and a lock", |_| {
        let guarded = Guarded::new();
        let shared = Arc::clone(&guarded);
        let other = thread::spawn(move || shared.add(1, &mut Patient));
        assert!(guarded.add(0, &mut Patient) && other.join().unwrap());
        assert_eq!(guarded.sections(), 2);
    });
}

/// The second and the third are in the queue at once, and leave it from the end and from the middle.
#[test]
fn waiters_that_give_up_leave_the_queue_whole() {
    every_at_most("three CPUs and a lock", 2, |_| {
        let guarded = Guarded::new();
        let others = [1, 2].map(|cpu| {
            let shared = Arc::clone(&guarded);
            thread::spawn(move || shared.add(cpu, &mut Hasty::default()))
        });
        let mut sections = u32::from(guarded.add(0, &mut Hasty::default()));
        others.into_iter().for_each(|other| sections += u32::from(other.join().unwrap()));
        assert_eq!(guarded.sections(), sections);
        let queue = guarded.locks.queue(0);
        assert_eq!((queue.holder(), queue.waiters()), (None, 0), "somebody is left in the queue");
    });
}

#[test]
fn one_of_two_that_wait_for_each_other_gives_up() {
    every_within("a circle of two", Some(4), |_| {
        let locks = Arc::new(Locks::<2>::new());
        // Both locks, the other's first one second; whether they were had.
        let both = |locks: &Locks<2>, cpu: usize| {
            let (first, second) = (cpu, 1 - cpu);
            locks.acquire(first, cpu, &mut Patient).unwrap();
            let outcome = locks.acquire(second, cpu, &mut Patient);
            if outcome.is_ok() {
                locks.queue(second).release(cpu);
            }
            locks.queue(first).release(cpu);
            outcome
        };
        let shared = Arc::clone(&locks);
        let other = thread::spawn(move || both(&shared, 1));
        let outcomes = [both(&locks, 0), other.join().unwrap()];
        let refused = outcomes.iter().filter(|outcome| outcome.is_err()).count();
        assert!(refused <= 1, "{outcomes:?}");
        assert!([0, 1].iter().all(|&id| locks.queue(id).holder().is_none()), "a lock is left held");
    });
}

fn texts(stream: &Stream) -> Vec<Vec<u8>> {
    let records = stream.reader().into_iter().flatten();
    let text = |record| match record {
        Record::Text(text) => text.as_bytes().to_vec(),
        Record::Violation(_) => panic!("nobody wrote a violation"),
    };
    records.map(text).collect()
}

#[test]
fn a_reader_beside_a_producer_sees_whole_records_in_order() {
    every("a producer and a reader", |_| {
        // Four words: the third record needs the room of the first.
        let stream = Arc::new(Stream::with_capacity(32).unwrap());
        let shared = Arc::clone(&stream);
        let producer = thread::spawn(move || {
            let wrote = [b"1aaaaaaa", b"2bbbbbbb", b"3ccccccc"].map(|text| shared.put_text(text));
            wrote.iter().filter(|kept| **kept).count()
        });
        let mut seen = texts(&stream);
        let kept = producer.join().unwrap();
        seen.extend(texts(&stream));
        assert_eq!(seen.len() as u64 + stream.dropped().records, 3);
        assert_eq!(seen.len(), kept);
        assert!(seen.is_sorted(), "{seen:?}");
        let whole = |text: &Vec<u8>| text[1..].iter().all(|byte| *byte == b'a' + (text[0] - b'1'));
        assert!(seen.iter().all(whole), "{seen:?}");
    });
}

#[test]
fn a_program_is_taken_down_when_the_last_has_left() {
    every("a run and a teardown", |_| {
        let life = Arc::new(Lifecycle::new());
        let memory = Arc::new(UnsafeCell::new(7));
        let (shared, used) = (Arc::clone(&life), Arc::clone(&memory));
        let runner = thread::spawn(move || {
            if let Ok(inside) = shared.enter() {
                used.with(|memory| {
                    // SAFETY: nobody frees it while this is inside; loom checks the claim.
                    assert_eq!(unsafe { *memory }, 7);
                });
                drop(inside);
            }
        });
        life.abort();
        if life.try_teardown().is_ok() {
            memory.with_mut(|memory| {
                // SAFETY: as above.
                unsafe { *memory = 0 }
            });
        }
        runner.join().unwrap();
    });
}

#[test]
fn no_frame_is_in_two_caches() {
    every("two caches and a pool", |_| {
        let mut pool = Pool::with_room(4).unwrap();
        pool.add(Frame::from_number(1), Frame::from_number(3));
        let pool = Arc::new(Mutex::new(pool));
        let take = |pool: &Mutex<Pool>| {
            let cache = Cache::new();
            cache.refill(&mut pool.lock().unwrap(), || true);
            core::iter::from_fn(|| cache.take()).map(Frame::number).collect::<Vec<_>>()
        };
        let shared = Arc::clone(&pool);
        let other = thread::spawn(move || take(&shared));
        let mut all = take(&pool);
        all.extend(other.join().unwrap());
        all.sort_unstable();
        assert_eq!(all, [1, 2]);
    });
}

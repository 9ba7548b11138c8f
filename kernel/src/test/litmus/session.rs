//! Samples of one litmus test: its threads on CPUs of their own, from the same state again and again.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bpf::random::Rng;
use litmus::test::{Entry, Test};
use spin::Mutex;

use super::place::{A, Place};
use super::tally::{THREADS, Tally};
use super::thread::{self, End};
use crate::arch::access::trial_read_u64;
use crate::arch::barrier;
use crate::arch::smp::{self, CpuSet};
use crate::arch::timer::Deadline;

/// How many samples, and which.
#[derive(Clone, Copy)]
pub struct Plan {
    /// Chance's: what a thread does between its instructions is a function of seed, sample and thread.
    pub seed: u64,
    /// Number of the first sample.
    pub first: u64,
    /// Most samples.
    pub count: u64,
    /// Nanoseconds after which there are no more than [`Plan::ENOUGH`].
    pub patience_ns: u64,
    /// Whether it ends as soon as the outcome in question was seen.
    pub until_seen: bool,
}

/// Where CPUs wait for each other, any number of times.
struct Meeting {
    of: usize,
    arrived: AtomicUsize,
}

impl Plan {
    /// Samples that are taken however long they last.
    const ENOUGH: u64 = 16;
}

impl Meeting {
    /// Returns when all have come as often as this CPU, which counts in `came`.
    ///
    /// By WFE: under one thread of QEMU's the next CPU has its turn then, and with a thread for each the
    /// wait is shorter than the way through an interrupt.
    fn wait(&self, came: &mut usize) {
        *came += self.of;
        // AcqRel: what any of them did before is seen by all of them behind.
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == *came {
            barrier::publish_event();
        }
        while self.arrived.load(Ordering::Acquire) < *came {
            barrier::wfe();
        }
    }
}

/// Takes the samples, on as many CPUs as the test has threads, which must be there.
pub fn run<'a>(test: &'a Test<'a>, place: &'a Place, plan: Plan) -> Tally<'a> {
    let count = test.threads.len();
    let cpus = CpuSet::online().iter().take(count).fold(CpuSet::NONE, CpuSet::with);
    let meeting = Meeting { of: count, arrived: AtomicUsize::new(0) };
    let ends = [const { Mutex::new(End::NOTHING) }; THREADS];
    let tally = Mutex::new(Tally::new(test, place));
    let over = AtomicBool::new(false);
    let deadline = Deadline::after_ns(plan.patience_ns);
    smp::on_each(cpus, |cpu| {
        // The boot CPU is the first, and sees to what all share.
        let position = cpus.iter().take_while(|other| *other != cpu).count();
        let mut came = 0;
        for number in plan.first.. {
            if position == 0 {
                over.store(is_over(&plan, &tally.lock(), deadline), Ordering::Relaxed);
                place.reset(test.slot);
            }
            meeting.wait(&mut came);
            if over.load(Ordering::Relaxed) {
                return;
            }
            let role = (position + number as usize) % count;
            let mut rng = Rng::new(plan.seed.rotate_left(32) ^ number << 2 ^ role as u64);
            barrier::dsb_ish();
            barrier::isb();
            if matches!(test.slot, Entry::To(_) | Entry::Clean(_)) && rng.below(4) > 0 {
                // The translation is wanted, not the word.
                let _ = trial_read_u64(A);
            }
            meeting.wait(&mut came);
            (0..rng.below(4)).for_each(|_| thread::linger(&mut rng));
            let end = thread::run(&test.threads[role], place, &mut rng);
            *ends[role].lock() = end;
            meeting.wait(&mut came);
            if position == 0 {
                tally.lock().add(number, &ends.each_ref().map(|end| *end.lock()));
            }
        }
    });
    tally.into_inner()
}

fn is_over(plan: &Plan, tally: &Tally<'_>, deadline: Deadline) -> bool {
    tally.samples >= plan.count
        || plan.until_seen && tally.seen > 0
        || tally.samples >= Plan::ENOUGH && deadline.has_passed()
}

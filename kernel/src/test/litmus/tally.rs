//! What was seen of one litmus test, and whether the model allows it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use litmus::condition::Outcome;
use litmus::expect::Observed;
use litmus::test::{Page, Place as Target, Reg, Test, Value};

use super::place::Place;
use super::thread::End;

/// Most threads of a test.
pub const THREADS: usize = 3;
/// Registers of a condition that an outcome is told by.
const FACTS: usize = 4;

/// Samples by their outcome.
pub struct Tally<'a> {
    test: &'a Test<'a>,
    place: &'a Place,
    /// Registers that the condition asks for.
    asked: Vec<(usize, Reg)>,
    outcomes: Vec<(Seen, u64)>,
    /// Samples.
    pub samples: u64,
    /// Samples that fulfil the condition.
    pub seen: u64,
    /// The first of them, and of those that do not.
    first: [Option<(u64, Seen)>; 2],
}

/// As much of an outcome as tells it from others.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    registers: [u64; FACTS],
    faults: [u32; THREADS],
    slot: u64,
    page: u64,
}

/// An outcome as the condition wants to see it.
struct View<'a> {
    ends: &'a [End],
    place: &'a Place,
}

impl<'a> Tally<'a> {
    /// Nothing seen yet.
    pub fn new(test: &'a Test<'a>, place: &'a Place) -> Self {
        let mut asked = Vec::new();
        test.exists.registers(&mut |thread, register| {
            if !asked.contains(&(thread, register)) {
                asked.push((thread, register));
            }
        });
        Self { test, place, asked, outcomes: Vec::new(), samples: 0, seen: 0, first: [None; 2] }
    }

    /// Counts sample `number`. All threads have ended.
    pub fn add(&mut self, number: u64, ends: &[End; THREADS]) {
        let view = View { ends, place: self.place };
        let mut registers = [0; FACTS];
        for (place, (thread, register)) in registers.iter_mut().zip(&self.asked) {
            *place = view.register(*thread, *register);
        }
        let seen = Seen {
            registers,
            faults: ends.map(|end| end.faults),
            slot: view.memory(Target::Slot),
            page: view.memory(Target::Page(Page::P)),
        };
        let holds = self.test.exists.holds(&view);
        self.samples += 1;
        self.seen += u64::from(holds);
        self.first[usize::from(!holds)].get_or_insert((number, seen));
        match self.outcomes.iter_mut().find(|(known, _)| *known == seen) {
            Some((_, count)) => *count += 1,
            None => self.outcomes.push((seen, 1)),
        }
    }

    /// Whether the model allows what was seen.
    ///
    /// # Errors
    /// The outcome that it does not allow, with the sample that showed it first.
    pub fn judge(&self, seed: u64) -> Result<(), String> {
        let [with, without] = &self.first;
        let (first, what) = match (self.test.expected.observed, with, without) {
            (Observed::Never, Some(first), _) => (first, "forbidden and seen"),
            (Observed::Always, _, Some(first)) => (first, "not seen, which is forbidden"),
            _ => return Ok(()),
        };
        let name = self.test.expected.name;
        let often = match self.test.expected.observed {
            Observed::Always => self.samples - self.seen,
            _ => self.seen,
        };
        let (number, seen) = first;
        Err(format!(
            "{name}: {what} in {often} of {} samples, first in sample {number} of seed {seed}: {}",
            self.samples,
            self.tell(seen)
        ))
    }

    /// The sum, in a line.
    pub fn line(&self) -> String {
        let expected = self.test.expected;
        let (samples, seen, kinds) = (self.samples, self.seen, self.outcomes.len());
        let (name, verdict) = (expected.name, expected.observed);
        format!("{name}: seen in {seen} of {samples} samples, model {verdict}, {kinds} outcomes")
    }

    /// A line for each outcome.
    pub fn histogram(&self) -> impl Iterator<Item = String> {
        self.outcomes.iter().map(|(seen, count)| format!("{count:>8} {}", self.tell(seen)))
    }

    fn tell(&self, seen: &Seen) -> String {
        let mut text = String::new();
        for ((thread, register), bits) in self.asked.iter().zip(seen.registers) {
            // A string takes everything.
            let _ = write!(text, "{thread}:X{register}={} ", self.place.name(bits));
        }
        for (thread, faults) in seen.faults.iter().enumerate().filter(|(_, faults)| **faults != 0) {
            let insns = (0..u32::BITS).filter(|insn| faults >> insn & 1 != 0);
            insns.for_each(|insn| _ = write!(text, "fault(P{thread}:#{insn}) "));
        }
        let (slot, page) = (self.place.name(seen.slot), seen.page);
        let _ = write!(text, "[PTE(a)]={slot} [p]={page}");
        text
    }
}

impl Outcome for View<'_> {
    fn register(&self, thread: usize, register: Reg) -> u64 {
        self.ends[thread].registers[usize::from(register)]
    }

    fn memory(&self, place: Target) -> u64 {
        use core::sync::atomic::Ordering::Relaxed;
        match place {
            Target::Slot => self.place.slot().load(Relaxed),
            Target::Page(page) => self.place.word(page).load(Relaxed),
            Target::Flag => self.place.flag.load(Relaxed),
            Target::A => unreachable!("no condition is about what a translates to in the end"),
        }
    }

    fn has_faulted(&self, thread: usize, insn: usize) -> bool {
        self.ends[thread].faults >> insn & 1 != 0
    }

    fn bits(&self, value: Value) -> u64 {
        self.place.bits(value)
    }
}

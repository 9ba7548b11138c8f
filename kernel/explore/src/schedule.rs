//! A schedule: who ran at each step, and the token by which a person passes it on.
//!
//! A token is a run-length text: `a12b3A1a4` is twelve steps of CPU 0, three of CPU 1, an interrupt
//! raised on CPU 0, four more steps of CPU 0. A number of 1 may be left out. Behind the end of the
//! token the CPU that runs goes on, and where it cannot the lowest that can. `w77.a12b3` is such a
//! schedule in a run that delays stores, with the number from which chance draws.

use alloc::vec::Vec;
use core::fmt::{self, Write};

use crate::MAX_CPUS;

/// What happens at a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Choice {
    /// This CPU makes its step.
    Cpu(u8),
    /// An interrupt is raised on this CPU, which then makes its step.
    Tick(u8),
}

/// A set of choices.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Choices(u8);

/// The choices of a schedule, in runs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Schedule {
    /// What chance does beside it, where stores are delayed; 0 where none are.
    pub chance: u64,
    runs: Vec<(Choice, u32)>,
}

/// Why a text is no token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenError {
    /// A character that is neither a CPU nor a number.
    Character(char),
    /// A number without a CPU before it, zero, or beyond all bounds.
    Number,
    /// Nothing at all.
    Empty,
}

/// Most steps of a number in a token: a longer run takes several.
const MOST: u32 = 1 << 20;

/// The bits of [`Choices`] that stand for CPUs.
const CPU_BITS: u8 = (1 << MAX_CPUS) - 1;

impl Choice {
    /// The CPU that goes on.
    pub const fn cpu(self) -> u8 {
        match self {
            Self::Cpu(cpu) | Self::Tick(cpu) => cpu,
        }
    }

    /// All that can be.
    pub fn all() -> impl Iterator<Item = Self> {
        let cpus = 0..MAX_CPUS as u8;
        cpus.clone().map(Self::Cpu).chain(cpus.map(Self::Tick))
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Cpu(cpu) => 1 << cpu,
            Self::Tick(cpu) => 1 << (cpu as usize + MAX_CPUS),
        }
    }

    const fn from_bit(bit: u8) -> Self {
        if bit < MAX_CPUS as u8 { Self::Cpu(bit) } else { Self::Tick(bit - MAX_CPUS as u8) }
    }

    fn letter(self) -> char {
        char::from(match self {
            Self::Cpu(cpu) => b'a' + cpu,
            Self::Tick(cpu) => b'A' + cpu,
        })
    }

    fn from_letter(letter: char) -> Option<Self> {
        Self::all().find(|choice| choice.letter() == letter)
    }
}

impl Choices {
    /// No choice.
    pub const NONE: Self = Self(0);

    /// With `choice`.
    #[must_use]
    pub const fn with(self, choice: Choice) -> Self {
        Self(self.0 | choice.bit())
    }

    /// Without those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The CPUs among them.
    #[must_use]
    pub const fn cpus(self) -> Self {
        Self(self.0 & CPU_BITS)
    }

    /// The interrupts among them.
    #[must_use]
    pub const fn ticks(self) -> Self {
        Self(self.0 & !CPU_BITS)
    }

    /// Whether `choice` is among them.
    pub const fn contains(self, choice: Choice) -> bool {
        self.0 & choice.bit() != 0
    }

    /// How many.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The choices: CPUs first, lowest first.
    pub fn iter(self) -> impl Iterator<Item = Choice> {
        Choice::all().filter(move |choice| self.contains(*choice))
    }

    /// The `n`th choice of [`iter`](Self::iter).
    pub fn nth(self, n: usize) -> Option<Choice> {
        let mut left = self.0;
        for _ in 0..n {
            left &= left.wrapping_sub(1);
        }
        (left != 0).then(|| Choice::from_bit(left.trailing_zeros() as u8))
    }

    /// What is chosen where nothing is asked for: the CPU that runs, or the lowest that can.
    pub fn default(self, current: Option<u8>) -> Option<Choice> {
        let current = current.map(Choice::Cpu).filter(|choice| self.contains(*choice));
        current.or_else(|| self.nth(0))
    }
}

impl Schedule {
    /// Forgets everything; keeps the memory.
    pub fn clear(&mut self) {
        self.runs.clear();
        self.chance = 0;
    }

    /// Adds a step.
    pub fn push(&mut self, choice: Choice) {
        self.push_run((choice, 1));
    }

    /// Steps in all.
    pub fn len(&self) -> usize {
        self.runs.iter().map(|(_, count)| *count as usize).sum()
    }

    /// Whether there is no step.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The choices, step by step.
    pub fn iter(&self) -> impl Iterator<Item = Choice> {
        self.runs.iter().flat_map(|(choice, count)| (0..*count).map(|_| *choice))
    }

    /// Reads a token.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn parse(token: &str) -> Result<Self, TokenError> {
        Self::check(token)?;
        let (chance, token) = split(token)?;
        let mut schedule = Self { chance, runs: Vec::new() };
        for run in runs(token) {
            schedule.push_run(run?);
        }
        Ok(schedule)
    }

    /// Whether `token` is one. Takes no memory: a kernel reads its command line before it has a heap.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn check(token: &str) -> Result<(), TokenError> {
        let (_, token) = split(token)?;
        if token.is_empty() {
            return Err(TokenError::Empty);
        }
        runs(token).try_for_each(|run| run.map(drop))
    }

    /// Adds steps. Runs of one choice become one, of at most [`MOST`] steps as the token has them: so
    /// that equal schedules are equal however they came about.
    fn push_run(&mut self, (choice, mut count): (Choice, u32)) {
        if let Some((last, before)) = self.runs.last_mut()
            && *last == choice
        {
            let moved = count.min(MOST - *before);
            *before += moved;
            count -= moved;
        }
        if count > 0 {
            self.runs.push((choice, count));
        }
    }

    /// What chance does beside the schedule: the number of a token that begins with it; 0 for none.
    pub fn chance_of(token: &str) -> u64 {
        split(token).map_or(0, |(chance, _)| chance)
    }
}

/// The number of `w123.` in front of a token, 0 without, and the rest.
fn split(token: &str) -> Result<(u64, &str), TokenError> {
    match token.strip_prefix('w') {
        None => Ok((0, token)),
        Some(rest) => {
            let (chance, rest) = rest.split_once('.').ok_or(TokenError::Number)?;
            // Digits and nothing else: `parse` alone would take a sign.
            let digits = Some(chance).filter(|chance| chance.bytes().all(|b| b.is_ascii_digit()));
            let chance = digits.and_then(|digits| digits.parse().ok()).filter(|n| *n > 0);
            Ok((chance.ok_or(TokenError::Number)?, rest))
        }
    }
}

/// The runs of a token: a CPU's letter, and a number where it is more than one step.
fn runs(token: &str) -> impl Iterator<Item = Result<(Choice, u32), TokenError>> {
    let mut rest = token;
    core::iter::from_fn(move || {
        let letter = rest.chars().next()?;
        let behind = &rest[letter.len_utf8()..];
        let end = behind.find(|c: char| !c.is_ascii_digit()).unwrap_or(behind.len());
        let (digits, later) = behind.split_at(end);
        rest = later;
        Some(run(letter, digits))
    })
}

fn run(letter: char, digits: &str) -> Result<(Choice, u32), TokenError> {
    if letter.is_ascii_digit() {
        return Err(TokenError::Number);
    }
    let choice = Choice::from_letter(letter).ok_or(TokenError::Character(letter))?;
    let count = if digits.is_empty() { Ok(1) } else { digits.parse() };
    let count = count.ok().filter(|count| (1..=MOST).contains(count));
    Ok((choice, count.ok_or(TokenError::Number)?))
}

impl fmt::Display for Schedule {
    /// The token. The last run is left out where it is what happens anyway.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.chance > 0 {
            write!(f, "w{}.", self.chance)?;
        }
        for (choice, count) in &self.runs {
            f.write_char(choice.letter())?;
            if *count > 1 {
                write!(f, "{count}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Character(letter) => {
                write!(f, "{letter:?} is no CPU: a to d run, A to D are interrupted")
            }
            Self::Number => f.write_str("a number must stand behind a CPU, from 1 to 1048576"),
            Self::Empty => f.write_str("a token has at least one step, as in a12b3"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_token_says_what_the_schedule_was_and_back() {
        let mut schedule = Schedule::default();
        let steps =
            [Choice::Cpu(0), Choice::Cpu(0), Choice::Cpu(3), Choice::Tick(0), Choice::Cpu(0)];
        steps.iter().for_each(|choice| schedule.push(*choice));
        assert_eq!(schedule.to_string(), "a2dAa");
        let read = Schedule::parse("a2d1Aa").unwrap();
        assert_eq!(read, schedule);
        assert!(read.iter().eq(steps));
        assert_eq!(Schedule::check("a2d1Aa"), Ok(()));
        assert_eq!((read.len(), read.is_empty()), (5, false));
        let weak = Schedule::parse("w77.a2b").unwrap();
        assert_eq!((weak.chance, weak.len(), weak.to_string().as_str()), (77, 3, "w77.a2b"));
        assert_eq!((Schedule::chance_of("w77.a2b"), Schedule::chance_of("a2b")), (77, 0));
    }

    /// Was a number that its own reader refused.
    #[test]
    fn a_run_longer_than_a_number_may_be_is_two() {
        let mut schedule = Schedule::default();
        (0..MOST + 5).for_each(|_| schedule.push(Choice::Cpu(2)));
        assert_eq!(schedule.to_string(), "c1048576c5");
        assert_eq!(Schedule::parse("c1048576c5").as_ref(), Ok(&schedule));
    }

    /// Was another schedule than the same steps pushed one by one, and had another token.
    #[test]
    fn a_token_with_a_run_in_parts_is_that_run() {
        let schedule = Schedule::parse("aa1a3b").unwrap();
        assert_eq!(schedule, Schedule::parse("a5b").unwrap());
        assert_eq!((schedule.to_string().as_str(), schedule.len()), ("a5b", 6));
    }

    #[test]
    fn what_is_no_token_is_refused_with_the_reason() {
        for (text, error) in [
            ("", TokenError::Empty),
            ("2a", TokenError::Number),
            ("a0", TokenError::Number),
            ("a99999999999", TokenError::Number),
            ("a2e1", TokenError::Character('e')),
            ("a-1", TokenError::Character('-')),
            ("a 2", TokenError::Character(' ')),
            ("w7.", TokenError::Empty),
            ("w7a2", TokenError::Number),
            ("w0.a2", TokenError::Number),
            ("w+7.a2", TokenError::Number),
        ] {
            assert_eq!(Schedule::parse(text), Err(error), "{text}");
            assert_eq!(Schedule::check(text), Err(error), "{text}");
            assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn the_running_cpu_goes_on_where_nothing_is_asked_for() {
        let choices = Choices::NONE.with(Choice::Cpu(1)).with(Choice::Cpu(2)).with(Choice::Tick(2));
        assert_eq!(choices.default(Some(2)), Some(Choice::Cpu(2)));
        assert_eq!(choices.default(Some(0)), Some(Choice::Cpu(1)));
        assert_eq!(choices.default(None), Some(Choice::Cpu(1)));
        assert_eq!(Choices::NONE.default(Some(0)), None);
        assert_eq!(choices.len(), 3);
        assert!((0..4).map(|n| choices.nth(n)).eq(choices.iter().map(Some).chain([None])));
        let rest = choices.without(Choices::NONE.with(Choice::Cpu(1)));
        assert!(rest.iter().eq([Choice::Cpu(2), Choice::Tick(2)]));
    }
}

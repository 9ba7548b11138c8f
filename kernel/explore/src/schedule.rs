//! A schedule: who ran at each step, and the token by which a person passes it on.
//!
//! A token is a run-length text: `a12b3A1a4` is twelve steps of CPU 0, three of CPU 1, an interrupt
//! raised on CPU 0, four more steps of CPU 0. A number of 1 may be left out. Behind the end of the
//! token the CPU that runs goes on, and where it cannot the lowest that can.

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

    /// What is chosen where nothing is asked for: the CPU that runs, or the lowest that can.
    pub fn default(self, current: Option<u8>) -> Option<Choice> {
        let current = current.map(Choice::Cpu).filter(|choice| self.contains(*choice));
        current.or_else(|| self.iter().next())
    }
}

impl Schedule {
    /// Forgets everything; keeps the memory.
    pub fn clear(&mut self) {
        self.runs.clear();
    }

    /// Adds a step.
    pub fn push(&mut self, choice: Choice) {
        match self.runs.last_mut() {
            Some((last, count)) if *last == choice => *count += 1,
            _ => self.runs.push((choice, 1)),
        }
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
        let mut runs = Vec::new();
        each_run(token, |choice, count| runs.push((choice, count)))?;
        Ok(Self { runs })
    }

    /// Whether a text is a token. Allocates nothing: a kernel reads its command line before it has a
    /// heap.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn check(token: &str) -> Result<(), TokenError> {
        each_run(token, |_, _| {})
    }
}

/// Calls `each` with every run of a token.
fn each_run(token: &str, mut each: impl FnMut(Choice, u32)) -> Result<(), TokenError> {
    if token.is_empty() {
        return Err(TokenError::Empty);
    }
    let mut rest = token;
    while let Some(letter) = rest.chars().next() {
        if letter.is_ascii_digit() {
            return Err(TokenError::Number);
        }
        let choice = Choice::from_letter(letter).ok_or(TokenError::Character(letter))?;
        rest = &rest[letter.len_utf8()..];
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, behind) = rest.split_at(digits);
        let count = if number.is_empty() { Ok(1) } else { number.parse() };
        let count = count.ok().filter(|count| (1..=1 << 20).contains(count));
        each(choice, count.ok_or(TokenError::Number)?);
        rest = behind;
    }
    Ok(())
}

impl fmt::Display for Schedule {
    /// The token. The last run is left out where it is what happens anyway.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
        let rest = choices.without(Choices::NONE.with(Choice::Cpu(1)));
        assert!(rest.iter().eq([Choice::Cpu(2), Choice::Tick(2)]));
    }
}

//! What a CPU notes of a deed of the third phase, and how that is written in a log: two tickets as the
//! distance to the one before, both in hexadecimal, then what came of it. `1.3=2f` took three tickets
//! of all CPUs and got page 47.

use core::fmt;

/// A note.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Note {
    /// The ticket drawn before. Tickets of all CPUs are one sequence.
    pub before: u64,
    /// The ticket drawn behind.
    pub after: u64,
    /// What came of it.
    pub came: Came,
}

/// What came of a deed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Came {
    /// Pages from this one on.
    At(u32),
    /// It was done, and all was as it must be.
    Done,
    /// There was no room.
    NoRange,
    /// What must never come.
    Odd(Odd),
}

/// What must never come of a deed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Odd {
    /// A new page was not zero.
    Dirty,
    /// A page of the CPU's own had another word than it wrote.
    Lost,
    /// Something was refused that cannot be.
    Refused,
}

impl Note {
    /// This note as the next of a CPU whose last ticket was `last`.
    pub fn write(&self, out: &mut impl fmt::Write, last: u64) -> fmt::Result {
        write!(out, "{:x}.{:x}", self.before - last, self.after - self.before)?;
        match self.came {
            Came::At(page) => write!(out, "={page:x}"),
            Came::Done => Ok(()),
            Came::NoRange => out.write_str("-"),
            Came::Odd(Odd::Dirty) => out.write_str("!dirty"),
            Came::Odd(Odd::Lost) => out.write_str("!lost"),
            Came::Odd(Odd::Refused) => out.write_str("!refused"),
        }
    }

    /// Reads what [`write`](Self::write) writes.
    pub fn parse(text: &str, last: u64) -> Option<Self> {
        let end = text.find(['=', '-', '!']).unwrap_or(text.len());
        let (tickets, came) = text.split_at(end);
        let (before, after) = tickets.split_once('.')?;
        let hex = |digits| u64::from_str_radix(digits, 16).ok();
        let before = last.checked_add(hex(before)?)?;
        let after = before.checked_add(hex(after)?)?;
        let came = match came {
            "" => Came::Done,
            "-" => Came::NoRange,
            "!dirty" => Came::Odd(Odd::Dirty),
            "!lost" => Came::Odd(Odd::Lost),
            "!refused" => Came::Odd(Odd::Refused),
            page => Came::At(u32::from_str_radix(page.strip_prefix('=')?, 16).ok()?),
        };
        Some(Self { before, after, came })
    }
}

impl fmt::Display for Came {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(page) => write!(f, "page {page}"),
            Self::Done => f.write_str("done"),
            Self::NoRange => f.write_str("refused: no range"),
            Self::Odd(Odd::Dirty) => f.write_str("a new page that is not zero"),
            Self::Odd(Odd::Lost) => f.write_str("a page of its own that lost its word"),
            Self::Odd(Odd::Refused) => f.write_str("refused, which cannot be"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    #[test]
    fn a_note_is_read_as_it_is_written() {
        let odd = [Odd::Dirty, Odd::Lost, Odd::Refused].map(Came::Odd);
        for came in [Came::At(47), Came::Done, Came::NoRange].into_iter().chain(odd) {
            let note = Note { before: 101, after: 104, came };
            let mut text = String::new();
            note.write(&mut text, 100).unwrap();
            assert_eq!(Note::parse(&text, 100), Some(note), "{text}");
        }
    }

    #[test]
    fn what_is_no_note_is_none() {
        for text in ["", "1", "1.", ".1", "1.2=", "1.2!", "1.2x", "1.2=g", "x.2"] {
            assert_eq!(Note::parse(text, 0), None, "{text}");
        }
    }
}

//! What an arena answers to an operation, in a form that both sides can compare.

use core::fmt;

use explore::order::mix;

/// An answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// An allocation: the first page that it got.
    At(u32),
    /// It was done.
    Done,
    /// It was not.
    Refused(Refusal),
    /// An access, which is always answered.
    Access {
        /// What the slot held before.
        before: Slot,
        /// What it held behind.
        after: Slot,
        /// Violations that were reported of it.
        reports: u32,
        /// The word there behind it; 0 on scratch, where everybody writes.
        word: u64,
        /// What the entry for tasks holds.
        tasks: Slot,
    },
    /// The books.
    Books {
        /// Pages mapped to frames of their own.
        mapped: u32,
        /// The most that there have been.
        peak: u32,
        /// Pages that can be given out.
        free: u32,
        /// Faults answered by installing scratch.
        scratched: u64,
    },
}

/// Why an operation was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No such number of pages.
    Count,
    /// No such address.
    Address,
    /// Some of the pages are in use.
    InUse,
    /// No free range is large enough.
    NoRange,
    /// Nothing of the arena's to free.
    Range,
    /// Scratch lies there.
    Scratch,
    /// Reserved, so not to be allocated by a touch.
    Reserved,
    /// What should not have happened: no memory, no lock, a page that is mapped and called free.
    Other,
}

/// What a slot holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slot {
    /// Nothing.
    Empty,
    /// Scratch.
    Scratch,
    /// A page of its own.
    Page,
    /// Anything else, which nothing but an operation under way may leave; for tasks, another page than
    /// the kernel's.
    Other,
}

/// A report of something else than the access that was made.
pub const WRONG_REPORT: u32 = u32::MAX;

/// A running digest.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Digest(u64);

impl Digest {
    /// Takes a reply in.
    pub fn reply(&mut self, reply: Reply) {
        reply.words().into_iter().for_each(|word| self.word(word));
    }

    /// Takes the last state of a page in, with its word if it is a page of its own, and its entry for
    /// tasks.
    pub fn page(&mut self, slot: Slot, word: u64, tasks: Slot) {
        self.word((slot as u64) << 8 | tasks as u64);
        self.word(word);
    }

    fn word(&mut self, word: u64) {
        self.0 = mix(self.0, word);
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Reply {
    fn words(self) -> [u64; 5] {
        match self {
            Self::At(page) => [0, page.into(), 0, 0, 0],
            Self::Done => [1, 0, 0, 0, 0],
            Self::Refused(why) => [2, why as u64, 0, 0, 0],
            Self::Access { before, after, reports, word, tasks } => {
                let slots = (before as u64) << 16 | (after as u64) << 8 | tasks as u64;
                [3, slots, 0, reports.into(), word]
            }
            Self::Books { mapped, peak, free, scratched } => {
                [4, mapped.into(), peak.into(), free.into(), scratched]
            }
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(page) => write!(f, "page {page}"),
            Self::Done => f.write_str("done"),
            Self::Refused(why) => why.fmt(f),
            Self::Access { before, after, reports, word, tasks } => {
                write!(f, "{before} -> {after}, ")?;
                match *reports {
                    WRONG_REPORT => f.write_str("a report of something else")?,
                    reports => write!(f, "{reports} reports")?,
                }
                write!(f, ", word {word:#x}, tasks {tasks}")
            }
            Self::Books { mapped, peak, free, scratched } => {
                write!(f, "{mapped} mapped, peak {peak}, {free} free, {scratched} scratched")
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Count => "refused: the count",
            Self::Address => "refused: the address",
            Self::InUse => "refused: in use",
            Self::NoRange => "refused: no range",
            Self::Range => "refused: not the arena's",
            Self::Scratch => "refused: scratch",
            Self::Reserved => "refused: reserved",
            Self::Other => "refused: must not happen",
        })
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty",
            Self::Scratch => "scratch",
            Self::Page => "page",
            Self::Other => "unfinished",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::string::ToString;

    #[test]
    fn replies_that_differ_have_other_digests_and_other_words() {
        let access = |before, after, reports, word| {
            let tasks = Slot::Empty;
            Reply::Access { before, after, reports, word, tasks }
        };
        let all = [
            Reply::At(0),
            Reply::At(1),
            Reply::Done,
            Reply::Refused(Refusal::Count),
            Reply::Refused(Refusal::Address),
            Reply::Refused(Refusal::InUse),
            Reply::Refused(Refusal::NoRange),
            Reply::Refused(Refusal::Range),
            Reply::Refused(Refusal::Other),
            Reply::Refused(Refusal::Scratch),
            Reply::Refused(Refusal::Reserved),
            Reply::Access {
                before: Slot::Page,
                after: Slot::Page,
                reports: 0,
                word: 0,
                tasks: Slot::Page,
            },
            access(Slot::Empty, Slot::Scratch, 1, 0),
            access(Slot::Scratch, Slot::Scratch, 0, 0),
            access(Slot::Page, Slot::Page, 0, 0),
            access(Slot::Page, Slot::Page, 0, 1),
            access(Slot::Page, Slot::Other, 0, 1),
            access(Slot::Empty, Slot::Scratch, WRONG_REPORT, 0),
            Reply::Books { mapped: 1, peak: 0, free: 0, scratched: 0 },
            Reply::Books { mapped: 0, peak: 1, free: 0, scratched: 0 },
            Reply::Books { mapped: 0, peak: 0, free: 1, scratched: 0 },
            Reply::Books { mapped: 0, peak: 0, free: 0, scratched: 1 },
        ];
        let digest = |reply: &Reply| {
            let mut digest = Digest::default();
            digest.reply(*reply);
            digest.to_string()
        };
        assert_eq!(all.iter().map(digest).collect::<BTreeSet<_>>().len(), all.len());
        assert_eq!(all.iter().map(Reply::to_string).collect::<BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn a_digest_knows_the_order() {
        let digest = |replies: [Reply; 2]| {
            let mut digest = Digest::default();
            replies.into_iter().for_each(|reply| digest.reply(reply));
            digest.to_string()
        };
        assert_ne!(digest([Reply::Done, Reply::At(0)]), digest([Reply::At(0), Reply::Done]));
    }
}

//! Whether some order of the deeds explains what all CPUs noted in the third phase.
//!
//! An allocation holds its pages for certain from the ticket behind it to the ticket before their free.
//! Two such spans of one page must be disjoint, and that is enough: then the operations can be put into
//! an order, each between its own two tickets, in which no page is given out twice. An allocation
//! found no room rightly unless enough pages in a row were free for certain all the while.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use crate::hand::{Deed, Hand, PAGES, Run};
use crate::note::{Came, Note};
use crate::reply::{Digest, Slot};

/// What the notes of all CPUs came to.
#[derive(Clone, Debug)]
pub struct Books {
    /// Pages that are in somebody's hand at the end.
    pub mapped: u32,
    /// Which they are.
    pub last: Digest,
    /// Allocations that found no room.
    pub refused: u64,
    /// Deeds during which another CPU drew a ticket.
    pub crossed: u64,
}

/// What no order explains.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wrong {
    /// A deed that came to what it cannot come to.
    Odd(Place, Deed, Came),
    /// Pages that the arena does not have.
    Beyond(Place, u32),
    /// A page was given out while it was held for certain.
    Twice(u32, Place, Place),
    /// No room, although these pages from this one on were free all the while.
    Room(Place, u32, u32),
    /// Tickets that do not rise.
    Tickets(Place),
}

/// The deed `number` of `cpu`, from 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The CPU.
    pub cpu: usize,
    /// Which of its deeds.
    pub number: usize,
}

/// A page in a hand: the tickets of the allocation and of the free, or for ever.
#[derive(Clone, Copy, Debug)]
struct Span {
    place: Place,
    born: (u64, u64),
    dead: (u64, u64),
}

/// An allocation that found no room.
#[derive(Clone, Copy, Debug)]
struct Refused {
    place: Place,
    pages: u32,
    during: (u64, u64),
}

/// Not freed.
const NEVER: (u64, u64) = (u64::MAX, u64::MAX);

/// Judges the notes of all CPUs, `notes[cpu]`.
///
/// # Errors
/// The first thing that is wrong.
pub fn judge(seed: u64, notes: &[Vec<Note>]) -> Result<Books, Wrong> {
    let mut pages: Vec<Vec<Span>> = vec![Vec::new(); PAGES as usize];
    let mut refused = Vec::new();
    for (cpu, notes) in notes.iter().enumerate() {
        replay(Hand::new(cpu, seed), cpu, notes, &mut pages, &mut refused)?;
    }
    for (page, spans) in (0..).zip(&mut pages) {
        spans.sort_by_key(|span| span.born.1);
        for next in 1..spans.len() {
            let (held, given) = (spans[next - 1], spans[next]);
            if held.dead.0 > given.born.1 {
                return Err(Wrong::Twice(page, held.place, given.place));
            }
            // Whoever freed it, it was free by then.
            spans[next - 1].dead.1 = held.dead.1.min(given.born.1);
        }
    }
    let longest = notes.iter().flatten().map(|note| note.after - note.before).max().unwrap_or(0);
    for refusal in &refused {
        if let Some((first, length)) = room(&pages, refusal, longest) {
            return Err(Wrong::Room(refusal.place, first, length));
        }
    }
    let held = |spans: &Vec<Span>| spans.last().is_some_and(|span| span.dead == NEVER);
    let mut last = Digest::default();
    pages.iter().for_each(|spans| last.page(held_slot(held(spans)), 0, Slot::Empty));
    let mapped = pages.iter().filter(|spans| held(spans)).count() as u32;
    let crossed = notes.iter().flatten().filter(|note| note.after - note.before > 1).count() as u64;
    Ok(Books { mapped, last, refused: refused.len() as u64, crossed })
}

/// How a page counts in the digest of the last state: scratch comes and goes as it likes.
pub const fn held_slot(held: bool) -> Slot {
    if held { Slot::Page } else { Slot::Empty }
}

/// Draws what `cpu` did, with the answers that it noted.
fn replay(
    mut hand: Hand,
    cpu: usize,
    notes: &[Note],
    pages: &mut [Vec<Span>],
    refused: &mut Vec<Refused>,
) -> Result<(), Wrong> {
    let mut last = 0;
    for (number, note) in notes.iter().enumerate() {
        let place = Place { cpu, number };
        if note.before < last || note.after < note.before {
            return Err(Wrong::Tickets(place));
        }
        last = note.after;
        let deed = hand.draw();
        let during = (note.before, note.after);
        match (deed, note.came) {
            (Deed::Alloc(count), Came::At(first)) => {
                let run = hand.took(first, count);
                let got = slice(pages, run).ok_or(Wrong::Beyond(place, first))?;
                got.iter_mut()
                    .for_each(|spans| spans.push(Span { place, born: during, dead: NEVER }));
            }
            (Deed::Alloc(pages), Came::NoRange) => refused.push(Refused { place, pages, during }),
            (Deed::Free(run, later), Came::Done) => {
                // Nobody knows when the worker comes by.
                let during = if later { (note.before, u64::MAX) } else { during };
                // What is in a hand was found to be of the arena when it was taken.
                for spans in slice(pages, run).into_iter().flatten() {
                    let own = |span: &&mut Span| span.place.cpu == cpu && span.dead == NEVER;
                    let span = spans.iter_mut().rev().find(own);
                    span.into_iter().for_each(|span| span.dead = during);
                }
            }
            (Deed::Look(_) | Deed::Wild(..), Came::Done) => {}
            (deed, came) => return Err(Wrong::Odd(place, deed, came)),
        }
    }
    Ok(())
}

fn slice(pages: &mut [Vec<Span>], run: Run) -> Option<&mut [Vec<Span>]> {
    pages.get_mut(run.first as usize..run.first.checked_add(run.pages)? as usize)
}

/// Pages in a row, enough for the allocation, that nobody can have held at any time of it. No
/// operation lasted longer than `longest` tickets.
fn room(pages: &[Vec<Span>], refusal: &Refused, longest: u64) -> Option<(u32, u32)> {
    let (from, to) = refusal.during;
    let is_free = |spans: &Vec<Span>| {
        // In the order of `born.1`, and each free began before the next of them: so whatever can
        // touch the time of the refusal lies together.
        let end = spans.partition_point(|span| span.born.1 <= to + longest);
        let first = spans[..end].iter().rposition(|span| span.born.1 + longest < from);
        let near = &spans[first.unwrap_or(0)..end];
        near.iter().all(|span| span.born.0 > to || span.dead.1 < from)
    };
    let mut length = 0;
    for (page, spans) in (0..).zip(pages) {
        length = if is_free(spans) { length + 1 } else { 0 };
        if length == refusal.pages {
            return Some((page + 1 - length, length));
        }
    }
    None
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cpu {}, operation {}", self.cpu, self.number)
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Odd(place, deed, came) => write!(f, "{place} ({deed}): {came}"),
            Self::Beyond(place, page) => {
                write!(f, "{place}: got page {page}, and the arena ends before {PAGES}")
            }
            Self::Twice(page, one, other) => {
                write!(f, "page {page} was given out to {other} while {one} held it")
            }
            Self::Room(place, first, pages) => write!(
                f,
                "{place}: found no room, and {pages} pages from {first} on were free all the while"
            ),
            Self::Tickets(place) => write!(f, "{place}: its tickets do not rise"),
        }
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alloc(pages) => write!(f, "alloc {pages} pages anywhere"),
            Self::Free(run, later) => {
                let later = if *later { " later" } else { "" };
                write!(f, "free {} pages from {}{later}", run.pages, run.first)
            }
            Self::Look(run) => write!(f, "look at page {}", run.first),
            Self::Wild(page, false) => write!(f, "wild read of page {page}"),
            Self::Wild(page, true) => write!(f, "wild write to page {page}"),
        }
    }
}

#[cfg(test)]
mod tests;

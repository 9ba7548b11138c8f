//! The operations whose replies are foreseeable, drawn from a seed.

use core::fmt;

use explore::random::Rng;

use crate::Phase;
use crate::ground::{Ground, PAGE_BYTES, WINDOW_PAGES, WORD, start_of};

/// An operation on an arena. Addresses are bytes from the arena's base.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// Allocate, at an address or anywhere.
    Alloc(Option<u64>, u32),
    /// Reserve.
    Reserve(u64, u32),
    /// Free, whatever is there.
    Free(u64, u32),
    /// A kernel function reads a word.
    Read(u64),
    /// A kernel function writes a word, and reads it back if the page is no scratch.
    Write(u64, u64),
    /// A task touches the page: it is mapped for tasks, and allocated if it was free.
    Touch(u64),
    /// Ask for the books.
    Books,
}

/// The operations of one CPU in one phase: an endless sequence that depends on the seed alone.
#[derive(Clone, Debug)]
pub struct Ops {
    rng: Rng,
    ground: Ground,
}

impl Ops {
    /// Those of `cpu` in `phase`.
    pub const fn new(phase: Phase, cpu: usize, seed: u64) -> Self {
        Self { rng: Rng::new(phase.seed(seed, cpu)), ground: Ground::of(phase, cpu) }
    }

    /// The next operation.
    pub fn draw(&mut self) -> Op {
        let alone = self.ground.alone;
        match self.rng.below(100) {
            0..15 if alone => Op::Alloc(None, self.count()),
            0..30 => {
                let (at, pages) = self.range();
                Op::Alloc(Some(at), pages)
            }
            30..52 => {
                let (at, pages) = self.range();
                Op::Free(at, pages)
            }
            52..58 => {
                let (at, pages) = self.range();
                Op::Reserve(at, pages)
            }
            58..60 if alone => Op::Books,
            58..72 => Op::Read(self.word()),
            72..86 => Op::Write(self.word(), self.rng.draw()),
            86..90 => Op::Touch(self.word()),
            90..95 => self.outside(),
            _ => self.nonsense(),
        }
    }

    /// Mostly as few pages as programs ask for, now and then more than one batch of a free takes.
    fn count(&mut self) -> u32 {
        let most = match self.rng.below(16) {
            0 => 100,
            1..3 => 64,
            _ => 8,
        };
        1 + self.rng.below(most) as u32
    }

    /// Pages of this CPU's: one range in eight has the boundary between two tables inside.
    fn range(&mut self) -> (u64, u32) {
        let pages = self.count();
        let ground = self.ground;
        let first = if self.rng.below(8) == 0 {
            ground.boundary() - self.rng.below(u64::from(pages)) as u32
        } else {
            ground.first + self.rng.below(u64::from(ground.pages - pages + 1)) as u32
        };
        (start_of(first), pages.min(ground.end() - first))
    }

    fn word(&mut self) -> u64 {
        let page = self.ground.first + self.rng.below(self.ground.pages.into()) as u32;
        start_of(page) + WORD
    }

    /// An access where nothing can ever be allocated.
    fn outside(&mut self) -> Op {
        let page = self.ground.outside[self.rng.below(4) as usize];
        let at = start_of(page) + WORD;
        if self.rng.below(2) == 0 { Op::Read(at) } else { Op::Write(at, self.rng.draw()) }
    }

    /// What must be refused, wherever the other CPUs are.
    fn nonsense(&mut self) -> Op {
        let (at, pages) = self.range();
        let max = self.ground.max_pages;
        let behind = start_of(max - 1);
        match self.rng.below(13) {
            0 => Op::Alloc(Some(at), 0),
            1 => Op::Alloc(None, 0),
            2 => Op::Alloc(None, max + 1),
            3 => Op::Alloc(Some(at + 8), pages),
            4 => Op::Alloc(Some(behind), 2),
            5 => Op::Alloc(Some(start_of(WINDOW_PAGES)), 1),
            6 => Op::Reserve(at, 0),
            7 => Op::Reserve(at + PAGE_BYTES / 2, pages),
            8 => Op::Free(at, 0),
            9 => Op::Free(at + 1, pages),
            10 => Op::Free(behind, pages + 1),
            11 => Op::Touch(start_of(max) + WORD),
            _ => Op::Free(start_of(WINDOW_PAGES - 1), 2),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alloc(None, pages) => write!(f, "alloc {pages} pages anywhere"),
            Self::Alloc(Some(at), pages) => write!(f, "alloc {pages} pages at {at:#x}"),
            Self::Reserve(at, pages) => write!(f, "reserve {pages} pages at {at:#x}"),
            Self::Free(at, pages) => write!(f, "free {pages} pages at {at:#x}"),
            Self::Read(at) => write!(f, "read {at:#x}"),
            Self::Write(at, word) => write!(f, "write {word:#x} to {at:#x}"),
            Self::Touch(at) => write!(f, "a task touches {at:#x}"),
            Self::Books => f.write_str("ask for the books"),
        }
    }
}

//! The third phase: one CPU takes pages wherever they are, and remembers which are in its hand.
//!
//! What it does next depends on the seed and on the answers so far, so the host draws the same from
//! the notes as the guest did.

use alloc::vec::Vec;

use explore::random::Rng;

use crate::Phase;
use crate::ground::WINDOW_PAGES;

/// Pages of the arena: less than the hands can hold together, so that some allocations find no room.
pub const PAGES: u32 = 1400;
/// Pages that a hand holds before it only frees.
const FULL: u32 = 380;

/// Pages in a row that an allocation gave, or what is left of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// The first.
    pub first: u32,
    /// How many.
    pub pages: u32,
    /// The word that the CPU wrote into each of them.
    pub tag: u64,
}

/// What a CPU does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deed {
    /// Allocates so many pages. [`Hand::took`] them.
    Alloc(u32),
    /// Frees these, which it held until now: at once, or by the worker some time later.
    Free(Run, bool),
    /// Looks whether the first of these still has its word.
    Look(Run),
    /// Reads a page of whoever it may be as a kernel function does, or writes to it beside the word by
    /// which hands know their pages. It must come back.
    Wild(u32, bool),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Hand {
    rng: Rng,
    cpu: usize,
    runs: Vec<Run>,
    held: u32,
    taken: u64,
}

impl Hand {
    /// The empty hand of `cpu`.
    pub fn new(cpu: usize, seed: u64) -> Self {
        let rng = Rng::new(Phase::Anywhere.seed(seed, cpu));
        Self { rng, cpu, runs: Vec::new(), held: 0, taken: 0 }
    }

    /// What it does next.
    pub fn draw(&mut self) -> Deed {
        match self.rng.below(100) {
            0..38 if self.held < FULL => Deed::Alloc(self.count()),
            0..70 if !self.runs.is_empty() => {
                let run = self.give();
                Deed::Free(run, self.rng.below(4) == 0)
            }
            70..85 if !self.runs.is_empty() => {
                let pick = self.pick();
                Deed::Look(self.runs[pick])
            }
            _ => Deed::Wild(self.wild(), self.rng.below(2) == 0),
        }
    }

    /// An allocation of `pages` pages gave those from `first` on. Returns the run with the word that is
    /// to be written into each.
    pub fn took(&mut self, first: u32, pages: u32) -> Run {
        self.taken += 1;
        let run = Run { first, pages, tag: (self.cpu as u64 + 1) << 56 | self.taken };
        self.runs.push(run);
        self.held += pages;
        run
    }

    /// What it holds.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    fn count(&mut self) -> u32 {
        let most = match self.rng.below(16) {
            0 => 100,
            1..3 => 40,
            _ => 8,
        };
        1 + self.rng.below(most) as u32
    }

    fn pick(&mut self) -> usize {
        self.rng.below(self.runs.len() as u64) as usize
    }

    /// Takes pages out of the hand: half of the time a whole run, else some of it, so that its rest
    /// lies in one or two pieces.
    fn give(&mut self) -> Run {
        let pick = self.pick();
        let run = self.runs.swap_remove(pick);
        let (mut skip, mut pages) = (0, run.pages);
        if self.rng.below(2) == 0 {
            skip = self.rng.below(run.pages.into()) as u32;
            pages = 1 + self.rng.below((run.pages - skip).into()) as u32;
        }
        let part = |skip: u32, pages: u32| Run { first: run.first + skip, pages, tag: run.tag };
        let rest = [part(0, skip), part(skip + pages, run.pages - skip - pages)];
        self.runs.extend(rest.into_iter().filter(|rest| rest.pages > 0));
        self.held -= pages;
        part(skip, pages)
    }

    fn wild(&mut self) -> u32 {
        match self.rng.below(16) {
            0 => WINDOW_PAGES + self.rng.below(8) as u32,
            _ => self.rng.below(u64::from(PAGES) + 8) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws until the hand has done all there is, on an arena of its own.
    fn played(mut each: impl FnMut(&Hand, Deed)) {
        let mut hand = Hand::new(1, 7);
        let mut next = 0;
        for _ in 0..20_000 {
            let deed = hand.draw();
            each(&hand, deed);
            if let Deed::Alloc(pages) = deed {
                hand.took(next, pages);
                next += pages;
            }
        }
    }

    #[test]
    fn a_hand_frees_what_it_holds_and_nothing_twice() {
        let mut held = std::collections::BTreeMap::new();
        let (mut frees, mut looks, mut wild, mut at) = (0, 0, 0, 0);
        played(|_, deed| match deed {
            Deed::Alloc(pages) => {
                held.extend((at..at + pages).map(|page| (page, ())));
                at += pages;
            }
            Deed::Free(run, _) => {
                frees += 1;
                for page in run.first..run.first + run.pages {
                    assert_eq!(held.remove(&page), Some(()), "page {page}");
                }
            }
            Deed::Look(run) => {
                looks += 1;
                assert!(held.contains_key(&run.first));
            }
            Deed::Wild(..) => wild += 1,
        });
        assert!(frees > 4000 && looks > 2000 && wild > 2000, "{frees} {looks} {wild}");
    }

    #[test]
    fn the_hands_together_want_more_than_there_is() {
        let mut most = 0;
        played(|hand, _| most = most.max(hand.held));
        assert!(most * crate::CPUS as u32 > PAGES, "a hand holds at most {most}");
        assert!(most < FULL + 100);
    }

    #[test]
    fn what_is_held_is_what_the_runs_say() {
        played(|hand, _| {
            assert_eq!(hand.held, hand.runs.iter().map(|run| run.pages).sum());
        });
    }
}

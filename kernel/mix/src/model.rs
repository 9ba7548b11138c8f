//! What an arena must answer: a plain array of pages, and no cleverness.

use alloc::vec;
use alloc::vec::Vec;

use crate::ground::{Ground, OUTSIDE, PAGE_BYTES};
use crate::op::Op;
use crate::reply::{Digest, Refusal, Reply, Slot};

/// The pages of one CPU, and, where it is alone, the books of its arena.
#[derive(Clone, Debug)]
pub struct Model {
    ground: Ground,
    pages: Vec<Page>,
    /// Which of [`Ground::outside`] hold scratch.
    outside: [bool; OUTSIDE],
    peak: u32,
    scratched: u64,
}

/// A page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Page {
    /// Nobody's. Scratch may lie there since an access.
    Free { scratch: bool },
    /// Reserved. Likewise.
    Reserved { scratch: bool },
    /// Mapped, with the word that was last written.
    Mapped {
        /// That word.
        word: u64,
        /// The entry for tasks: this page, too, or empty.
        tasks: Slot,
    },
}

/// A page that was just allocated.
const NEW: Page = Page::Mapped { word: 0, tasks: Slot::Empty };

impl Model {
    /// A new arena's.
    pub fn new(ground: Ground) -> Self {
        Self {
            ground,
            pages: vec![Page::Free { scratch: false }; ground.pages as usize],
            outside: [false; OUTSIDE],
            peak: 0,
            scratched: 0,
        }
    }

    /// Does an operation, and says what must be answered.
    pub fn apply(&mut self, op: Op) -> Reply {
        let outcome = match op {
            Op::Alloc(at, pages) => self.alloc(at, pages),
            Op::Reserve(at, pages) => self.reserve(at, pages),
            Op::Free(at, pages) => self.free(at, pages),
            Op::Read(at) => Ok(self.access(at, None)),
            Op::Write(at, word) => Ok(self.access(at, Some(word))),
            Op::Touch(at) => self.touch(at),
            Op::Books => Ok(self.books()),
        };
        outcome.unwrap_or_else(Reply::Refused)
    }

    /// The books, where no other CPU uses the arena.
    pub fn books(&self) -> Reply {
        Reply::Books {
            mapped: self.mapped(),
            peak: self.peak,
            free: self.count(|page| matches!(page, Page::Free { .. })),
            scratched: self.scratched,
        }
    }

    /// Pages mapped now.
    pub fn mapped(&self) -> u32 {
        self.count(|page| matches!(page, Page::Mapped { .. }))
    }

    /// What every page holds at the end.
    pub fn last(&self) -> Digest {
        let mut digest = Digest::default();
        for page in &self.pages {
            let (word, tasks) = page.content();
            digest.page(page.slot(), word, tasks);
        }
        digest
    }

    fn count(&self, of: impl Fn(&Page) -> bool) -> u32 {
        self.pages.iter().filter(|page| of(page)).count() as u32
    }

    fn alloc(&mut self, at: Option<u64>, pages: u32) -> Result<Reply, Refusal> {
        self.check_count(pages)?;
        let first = match at {
            Some(at) => self.usable(at, pages)?,
            None => self.best_fit(pages).ok_or(Refusal::NoRange)?,
        };
        for page in self.slice(first, pages) {
            *page = NEW;
        }
        self.peak = self.peak.max(self.mapped());
        Ok(Reply::At(first))
    }

    fn reserve(&mut self, at: u64, pages: u32) -> Result<Reply, Refusal> {
        self.check_count(pages)?;
        let first = self.usable(at, pages)?;
        for page in self.slice(first, pages) {
            *page = Page::Reserved { scratch: page.slot() == Slot::Scratch };
        }
        Ok(Reply::Done)
    }

    /// A free takes everything: pages, reservations, scratch.
    fn free(&mut self, at: u64, pages: u32) -> Result<Reply, Refusal> {
        if pages == 0 {
            return Err(Refusal::Range);
        }
        let first = self.inside(at, pages).ok_or(Refusal::Range)?;
        for page in self.slice(first, pages) {
            *page = Page::Free { scratch: false };
        }
        Ok(Reply::Done)
    }

    fn access(&mut self, at: u64, write: Option<u64>) -> Reply {
        let index = (at / PAGE_BYTES) as u32;
        let outside = self.ground.outside.iter().position(|&page| page == index);
        let before = match outside {
            Some(n) if self.outside[n] => Slot::Scratch,
            Some(n) => {
                self.outside[n] = true;
                Slot::Empty
            }
            None => self.slice(index, 1)[0].access(),
        };
        let missed = before == Slot::Empty;
        self.scratched += u64::from(missed);
        let reports = missed.into();
        if before != Slot::Page {
            return Reply::Access {
                before,
                after: Slot::Scratch,
                reports,
                word: 0,
                tasks: Slot::Empty,
            };
        }
        let page = &mut self.slice(index, 1)[0];
        let (old, tasks) = page.content();
        let word = write.unwrap_or(old);
        *page = Page::Mapped { word, tasks };
        Reply::Access { before, after: before, reports, word, tasks }
    }

    fn touch(&mut self, at: u64) -> Result<Reply, Refusal> {
        let index = (at / PAGE_BYTES) as u32;
        if index >= self.ground.max_pages {
            return Err(Refusal::Address);
        }
        let page = &mut self.slice(index, 1)[0];
        *page = match *page {
            Page::Free { scratch: true } | Page::Reserved { scratch: true } => {
                return Err(Refusal::Scratch);
            }
            Page::Reserved { scratch: false } => return Err(Refusal::Reserved),
            Page::Free { scratch: false } => Page::Mapped { word: 0, tasks: Slot::Page },
            Page::Mapped { word, .. } => Page::Mapped { word, tasks: Slot::Page },
        };
        self.peak = self.peak.max(self.mapped());
        Ok(Reply::Done)
    }

    fn check_count(&self, pages: u32) -> Result<(), Refusal> {
        if (1..=self.ground.max_pages).contains(&pages) { Ok(()) } else { Err(Refusal::Count) }
    }

    /// The first of `pages` pages of the arena from `at`.
    fn inside(&self, at: u64, pages: u32) -> Option<u32> {
        let first = at / PAGE_BYTES;
        let end = first + u64::from(pages);
        let fits = at.is_multiple_of(PAGE_BYTES) && end <= u64::from(self.ground.max_pages);
        fits.then_some(first as u32)
    }

    /// The same, if all of them are free.
    fn usable(&mut self, at: u64, pages: u32) -> Result<u32, Refusal> {
        let first = self.inside(at, pages).ok_or(Refusal::Address)?;
        let all_free =
            self.slice(first, pages).iter().all(|page| matches!(page, Page::Free { .. }));
        if all_free { Ok(first) } else { Err(Refusal::InUse) }
    }

    /// The smallest free run that holds `pages`, the lowest of equals.
    fn best_fit(&self, pages: u32) -> Option<u32> {
        let mut best = None;
        let mut first = 0;
        while first < self.pages.len() {
            let run = self.pages[first..].iter();
            let length = run.take_while(|page| matches!(page, Page::Free { .. })).count();
            if length >= pages as usize && best.is_none_or(|(shortest, _)| length < shortest) {
                best = Some((length, first));
            }
            first += length.max(1);
        }
        best.map(|(_, first)| first as u32 + self.ground.first)
    }

    fn slice(&mut self, first: u32, pages: u32) -> &mut [Page] {
        let first = (first - self.ground.first) as usize;
        &mut self.pages[first..first + pages as usize]
    }
}

impl Page {
    fn slot(self) -> Slot {
        match self {
            Self::Mapped { .. } => Slot::Page,
            Self::Free { scratch: true } | Self::Reserved { scratch: true } => Slot::Scratch,
            _ => Slot::Empty,
        }
    }

    /// The word of a page, and its entry for tasks.
    fn content(self) -> (u64, Slot) {
        if let Self::Mapped { word, tasks } = self { (word, tasks) } else { (0, Slot::Empty) }
    }

    /// A kernel function touches it: what it finds.
    fn access(&mut self) -> Slot {
        let found = self.slot();
        if let Self::Free { scratch } | Self::Reserved { scratch } = self {
            *scratch = true;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::{WORD, start_of};
    use crate::{CPUS, Phase};

    fn alone() -> Model {
        Model::new(Ground::of(Phase::Own, 0))
    }

    fn refused(why: Refusal) -> Reply {
        Reply::Refused(why)
    }

    fn access(before: Slot, word: u64) -> Reply {
        let (after, reports) = match before {
            Slot::Empty => (Slot::Scratch, 1),
            slot => (slot, 0),
        };
        Reply::Access { before, after, reports, word, tasks: Slot::Empty }
    }

    #[test]
    fn what_is_used_is_refused_and_what_is_freed_is_there_again() {
        let mut model = alone();
        assert_eq!(model.apply(Op::Alloc(Some(start_of(8)), 4)), Reply::At(8));
        assert_eq!(model.apply(Op::Alloc(Some(start_of(5)), 4)), refused(Refusal::InUse));
        assert_eq!(model.apply(Op::Reserve(start_of(11), 1)), refused(Refusal::InUse));
        assert_eq!(model.apply(Op::Free(start_of(9), 100)), Reply::Done);
        assert_eq!(model.apply(Op::Reserve(start_of(9), 2)), Reply::Done);
        assert_eq!(model.apply(Op::Alloc(Some(start_of(10)), 1)), refused(Refusal::InUse));
        let books = Reply::Books { mapped: 1, peak: 4, free: 637, scratched: 0 };
        assert_eq!(model.apply(Op::Books), books);
    }

    #[test]
    fn an_allocation_without_an_address_takes_the_smallest_run_the_lowest_of_equals() {
        let mut model = alone();
        for first in [4, 10, 16] {
            assert_eq!(model.apply(Op::Alloc(Some(start_of(first)), 1)), Reply::At(first));
        }
        assert_eq!(model.apply(Op::Alloc(None, 5)), Reply::At(5));
        assert_eq!(model.apply(Op::Alloc(None, 3)), Reply::At(0));
        assert_eq!(model.apply(Op::Alloc(None, 2)), Reply::At(11));
        assert_eq!(model.apply(Op::Alloc(None, 640)), refused(Refusal::NoRange));
    }

    #[test]
    fn scratch_is_reported_once_and_goes_with_an_allocation_or_a_free_only() {
        let mut model = alone();
        let at = start_of(3) + WORD;
        assert_eq!(model.apply(Op::Write(at, 7)), access(Slot::Empty, 0));
        assert_eq!(model.apply(Op::Read(at)), access(Slot::Scratch, 0));
        assert_eq!(model.apply(Op::Reserve(start_of(3), 1)), Reply::Done);
        assert_eq!(model.apply(Op::Read(at)), access(Slot::Scratch, 0));
        assert_eq!(model.apply(Op::Free(start_of(3), 1)), Reply::Done);
        assert_eq!(model.apply(Op::Read(at)), access(Slot::Empty, 0));
        assert_eq!(model.apply(Op::Alloc(Some(start_of(3)), 1)), Reply::At(3));
        assert_eq!(model.apply(Op::Read(at)), access(Slot::Page, 0));
        assert_eq!(model.apply(Op::Write(at, 9)), access(Slot::Page, 9));
        assert_eq!(model.apply(Op::Read(at)), access(Slot::Page, 9));
    }

    #[test]
    fn a_touch_allocates_what_is_free_and_nothing_else() {
        let mut model = alone();
        let at = |page| start_of(page) + WORD;
        assert_eq!(model.apply(Op::Touch(at(3))), Reply::Done);
        let books = Reply::Books { mapped: 1, peak: 1, free: 639, scratched: 0 };
        assert_eq!(model.apply(Op::Books), books);
        let mapped = |word, tasks| Reply::Access {
            before: Slot::Page,
            after: Slot::Page,
            reports: 0,
            word,
            tasks,
        };
        assert_eq!(model.apply(Op::Write(at(3), 5)), mapped(5, Slot::Page));
        model.apply(Op::Alloc(Some(start_of(4)), 1));
        assert_eq!(model.apply(Op::Read(at(4))), mapped(0, Slot::Empty));
        assert_eq!(model.apply(Op::Touch(at(4))), Reply::Done);
        assert_eq!(model.apply(Op::Read(at(4))), mapped(0, Slot::Page));
        model.apply(Op::Reserve(start_of(5), 1));
        assert_eq!(model.apply(Op::Touch(at(5))), refused(Refusal::Reserved));
        model.apply(Op::Read(at(5)));
        assert_eq!(model.apply(Op::Touch(at(5))), refused(Refusal::Scratch));
        assert_eq!(model.apply(Op::Touch(at(640))), refused(Refusal::Address));
        model.apply(Op::Free(start_of(4), 1));
        model.apply(Op::Alloc(Some(start_of(4)), 1));
        assert_eq!(model.apply(Op::Read(at(4))), mapped(0, Slot::Empty));
    }

    #[test]
    fn what_lies_outside_holds_scratch_for_ever() {
        let mut model = alone();
        for page in Ground::of(Phase::Own, 0).outside {
            let at = start_of(page) + WORD;
            assert_eq!(model.apply(Op::Read(at)), access(Slot::Empty, 0));
            assert_eq!(model.apply(Op::Write(at, 1)), access(Slot::Scratch, 0));
            assert!(matches!(model.apply(Op::Free(start_of(page), 1)), Reply::Refused(_)));
            assert_eq!(model.apply(Op::Read(at)), access(Slot::Scratch, 0));
        }
    }

    #[test]
    fn what_lies_in_no_page_of_the_arena_is_refused() {
        let mut model = alone();
        assert_eq!(model.apply(Op::Alloc(None, 641)), refused(Refusal::Count));
        assert_eq!(model.apply(Op::Alloc(Some(0), 0)), refused(Refusal::Count));
        assert_eq!(model.apply(Op::Alloc(Some(8), 1)), refused(Refusal::Address));
        assert_eq!(model.apply(Op::Reserve(start_of(639), 2)), refused(Refusal::Address));
        assert_eq!(model.apply(Op::Free(start_of(639), 2)), refused(Refusal::Range));
        assert_eq!(model.apply(Op::Free(start_of(3), 0)), refused(Refusal::Range));
    }

    /// A mix in which hardly anything succeeds, or nothing fails, would find little.
    #[test]
    fn the_mix_has_enough_of_everything() {
        for phase in [Phase::Shared, Phase::Own] {
            for cpu in 0..CPUS {
                let mut model = Model::new(Ground::of(phase, cpu));
                let mut ops = crate::op::Ops::new(phase, cpu, 1);
                let mut seen = [0_u32; 8];
                for _ in 0..20_000 {
                    seen[kind(model.apply(ops.draw()))] += 1;
                }
                let names = ["at", "done", "in use", "page", "scratch", "empty", "other", "books"];
                for (name, count) in names.into_iter().zip(seen) {
                    let enough = count >= 300 || name == "books" && phase == Phase::Shared;
                    assert!(enough, "{phase} cpu {cpu}: {count} of {name}: {seen:?}");
                }
            }
        }
    }

    fn kind(reply: Reply) -> usize {
        match reply {
            Reply::At(_) => 0,
            Reply::Done => 1,
            Reply::Refused(Refusal::InUse) => 2,
            Reply::Access { before: Slot::Page, .. } => 3,
            Reply::Access { before: Slot::Scratch, .. } => 4,
            Reply::Access { before: Slot::Empty, .. } => 5,
            Reply::Refused(_) | Reply::Access { .. } => 6,
            Reply::Books { .. } => 7,
        }
    }
}

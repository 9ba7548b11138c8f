//! The ghost: what the page table and the frames should be, kept beside what they are.
//!
//! Every write to a descriptor, every TLBI, every DSB and every frame given out or taken back is
//! told here as it happens; the rules are those of `DESIGN` section 8 and the Arm ARM's
//! break-before-make (D8.16). The ghost knows nothing of what a protocol means to do: forgetting a
//! step is seen as what it leaves behind.
//!
//! A page whose valid entry was cleared is *stale*: some TLB may still translate it. It is clean
//! again once a TLBI for it was issued behind the clear and completed by a DSB: on the CPU that
//! cleared, any DSB puts the TLBI behind the clear (litmus `R3e`); on a CPU that only saw the cleared
//! entry, a full one does (`T5`, `T5d`).

use alloc::vec::Vec;
use core::fmt;

use arena::addr::{Frame, VirtAddr};
use arena::pte::{Pte, State};

/// A rule that was broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// A valid entry became another valid one in one store.
    ValidToValid,
    /// An entry became valid while a TLB may still hold the one before.
    MakeBeforeTlbi,
    /// A frame went to the allocator while an entry or a TLB may translate to it.
    FreedWhileMapped,
    /// The scratch frame went to the allocator.
    ScratchFreed,
    /// A task's entry maps the scratch frame.
    ScratchForUser,
    /// A frame went to the allocator that had not come from it.
    DoubleFree,
    /// Two entries map one frame.
    TwoOwners,
    /// An entry maps a frame that is free.
    MapsFreeFrame,
    /// A mark that the hardware had made in an entry was overwritten by one who had not seen it.
    DirtyLost,
    /// An access went through a translation that the tables no longer hold, after the maintenance.
    StaleTranslation,
    /// A page was cleared and its TLB maintenance never came.
    NeverFlushed,
    /// A frame is neither free nor mapped at the end.
    Leak,
    /// The books of the arena and its tables disagree.
    Books,
    /// A violation was not reported, or reported twice.
    Reports,
    /// Something was torn down while a CPU was inside it.
    TornDownInUse,
    /// A CPU came back with a lock held.
    LockHeld,
    /// Nobody can go on.
    Deadlock,
    /// The end did not come within the bound.
    NoProgress,
    /// The scenario's own claim.
    Claim,
}

/// A broken rule, on which page or frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken {
    /// The rule.
    pub rule: Rule,
    /// The page, where it is about one.
    pub page: Option<VirtAddr>,
    /// The frame, where it is about one.
    pub frame: Option<Frame>,
    /// The CPU that did it.
    pub cpu: u8,
}

/// What a TLB may hold of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum View {
    /// Nothing.
    Clean,
    /// The entry of the table.
    Valid(Frame),
    /// An entry that the table no longer holds.
    Stale(Frame),
}

#[derive(Clone, Copy, Debug)]
struct Page {
    page: VirtAddr,
    /// Address of the descriptor.
    slot: u64,
    view: View,
    /// The page whose frame it shows to tasks, if it is an entry of the user window.
    shows: Option<VirtAddr>,
    /// CPU that cleared it.
    clearer: u8,
    /// CPUs that made a DSB since which puts a TLBI of theirs behind the clear.
    behind: u8,
    /// CPUs whose TLBI since waits for its DSB.
    issued: u8,
    /// CPUs that found the entry marked dirty when they last loaded it.
    saw_dirty: u8,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Ghost {
    scratch: Frame,
    pages: Vec<Page>,
    /// Frames that the lab's allocator has, and whether each is given out.
    frames: Vec<(Frame, bool)>,
}

impl Rule {
    /// The name by which reports and expectations know it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ValidToValid => "valid-to-valid",
            Self::MakeBeforeTlbi => "make-before-tlbi",
            Self::FreedWhileMapped => "freed-while-mapped",
            Self::ScratchFreed => "scratch-freed",
            Self::ScratchForUser => "scratch-for-user",
            Self::DoubleFree => "double-free",
            Self::TwoOwners => "two-owners",
            Self::MapsFreeFrame => "maps-free-frame",
            Self::DirtyLost => "dirty-lost",
            Self::StaleTranslation => "stale-translation",
            Self::NeverFlushed => "never-flushed",
            Self::Leak => "leak",
            Self::Books => "books-disagree",
            Self::Reports => "reports",
            Self::TornDownInUse => "torn-down-in-use",
            Self::LockHeld => "lock-held",
            Self::Deadlock => "deadlock",
            Self::NoProgress => "no-progress",
            Self::Claim => "claim",
        }
    }

    /// What it means, in a sentence.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::ValidToValid => {
                "a valid entry was overwritten by another: a TLB may use both at once"
            }
            Self::MakeBeforeTlbi => {
                "an entry was made valid while a TLB may still hold the one that was cleared"
            }
            Self::FreedWhileMapped => {
                "a frame was freed while an entry or a TLB may still translate to it"
            }
            Self::ScratchFreed => "the scratch frame was given to the allocator",
            Self::ScratchForUser => "a task was given the scratch frame",
            Self::DoubleFree => "a frame was freed that was not given out",
            Self::TwoOwners => "two entries map one frame",
            Self::MapsFreeFrame => "an entry maps a frame that nobody owns",
            Self::DirtyLost => "an entry that the hardware had marked dirty was overwritten unseen",
            Self::StaleTranslation => {
                "an access used a translation that the tables no longer hold, behind its TLBI"
            }
            Self::NeverFlushed => "a page was cleared and its TLB maintenance never came",
            Self::Leak => "a frame is neither free nor mapped at the end",
            Self::Books => "the arena's books and its tables disagree",
            Self::Reports => "the reports are not one for each violation",
            Self::TornDownInUse => "a program or an arena was torn down while a CPU was inside it",
            Self::LockHeld => "a CPU came back with a lock held",
            Self::Deadlock => "nobody can go on",
            Self::NoProgress => "the schedule did not end within its steps",
            Self::Claim => "a claim of the scenario does not hold",
        }
    }
}

impl Ghost {
    /// A ghost of nothing yet.
    pub fn new(scratch: Frame) -> Self {
        Self { scratch, pages: Vec::new(), frames: Vec::new() }
    }

    /// Watches the descriptor at `slot`, which decides about `page` and holds `now`.
    pub fn watch(&mut self, page: VirtAddr, slot: u64, now: Pte) {
        let view = now.frame().map_or(View::Clean, View::Valid);
        let shows = None;
        let (clearer, behind, issued, saw_dirty) = (0, 0, 0, 0);
        self.pages.push(Page { page, slot, view, shows, clearer, behind, issued, saw_dirty });
    }

    /// Watches the descriptor at `slot`, which decides about `user`, the user window's view of `page`.
    pub fn watch_user(&mut self, user: VirtAddr, slot: u64, now: Pte, page: VirtAddr) {
        self.watch(user, slot, now);
        if let Some(known) = self.pages.last_mut() {
            known.shows = Some(page);
        }
    }

    /// Watches a frame that the lab's allocator has to give.
    pub fn own(&mut self, frame: Frame) {
        self.frames.push((frame, false));
    }

    /// Whether the lab's allocator has `frame`, given out or not.
    pub fn owns(&self, frame: Frame) -> bool {
        self.frames.iter().any(|(known, _)| *known == frame)
    }

    /// The page that the descriptor at `slot` decides about, if it is watched.
    pub fn page_of(&self, slot: u64) -> Option<VirtAddr> {
        self.pages.iter().find(|page| page.slot == slot).map(|page| page.page)
    }

    /// The lowest and the highest address of a watched descriptor; nothing lies between them if
    /// there is none.
    pub fn span(&self) -> (u64, u64) {
        let slots = self.pages.iter().map(|page| page.slot);
        slots.fold((u64::MAX, 0), |(low, high), slot| (low.min(slot), high.max(slot)))
    }

    /// What TLBs may hold of `page`.
    pub fn view(&self, page: VirtAddr) -> Option<View> {
        self.pages.iter().find(|known| known.page == page).map(|known| known.view)
    }

    /// `cpu` changed the descriptor at `slot`.
    ///
    /// # Errors
    /// The rule that it broke.
    pub fn write(&mut self, cpu: u8, slot: u64, old: Pte, new: Pte) -> Result<(), Broken> {
        let Some(at) = self.pages.iter().position(|page| page.slot == slot) else { return Ok(()) };
        let page = self.pages[at];
        let broken = |rule| Err(Broken { rule, page: Some(page.page), frame: new.frame(), cpu });
        match (old.frame(), new.frame()) {
            (Some(was), Some(is)) if was != is => broken(Rule::ValidToValid),
            (Some(was), None) => {
                let known = &mut self.pages[at];
                known.view = View::Stale(was);
                (known.clearer, known.behind, known.issued) = (cpu, 0, 0);
                Ok(())
            }
            (None, Some(is)) => {
                if let View::Stale(_) = page.view {
                    return broken(Rule::MakeBeforeTlbi);
                }
                if self.frames.iter().any(|(frame, out)| *frame == is && !out) {
                    return broken(Rule::MapsFreeFrame);
                }
                if page.shows.is_some() && is == self.scratch {
                    return broken(Rule::ScratchForUser);
                }
                // The two entries of one page map one frame.
                let is_same =
                    |other: &Page| other.shows == Some(page.page) || page.shows == Some(other.page);
                let maps = |other: &Page| other.view == View::Valid(is) && !is_same(other);
                if self.pages.iter().any(maps) && is != self.scratch {
                    return broken(Rule::TwoOwners);
                }
                self.pages[at].view = View::Valid(is);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// `cpu` loaded the descriptor at `slot` and found `now`.
    pub fn loaded(&mut self, cpu: u8, slot: u64, now: Pte) {
        if let Some(known) = self.pages.iter_mut().find(|page| page.slot == slot) {
            let me = 1 << cpu;
            known.saw_dirty = known.saw_dirty & !me | if now.is_dirty() { me } else { 0 };
        }
    }

    /// `cpu` is about to overwrite the descriptor at `slot`, which holds `old`, without being told what
    /// it overwrites.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn overwrites(&self, cpu: u8, slot: u64, old: Pte) -> Result<(), Broken> {
        let page = self.pages.iter().find(|page| page.slot == slot);
        match page {
            Some(known) if old.is_dirty() && known.saw_dirty & 1 << cpu == 0 => {
                let (page, frame) = (Some(known.page), old.frame());
                Err(Broken { rule: Rule::DirtyLost, page, frame, cpu })
            }
            _ => Ok(()),
        }
    }

    /// `cpu` issued a TLBI for `page`, or for all pages.
    pub fn tlbi(&mut self, cpu: u8, page: Option<VirtAddr>) {
        for known in &mut self.pages {
            let meant = page.is_none_or(|page| page.page_base() == known.page);
            if meant && known.behind & 1 << cpu != 0 {
                known.issued |= 1 << cpu;
            }
        }
    }

    /// `cpu` made a DSB; `full` if it waits for loads and TLB maintenance as well.
    pub fn dsb(&mut self, cpu: u8, full: bool) {
        for known in &mut self.pages {
            if !matches!(known.view, View::Stale(_)) {
                continue;
            }
            if full && known.issued & 1 << cpu != 0 {
                known.view = View::Clean;
            }
            if full || known.clearer == cpu {
                known.behind |= 1 << cpu;
            }
        }
    }

    /// The allocator gave `frame` out.
    pub fn gave(&mut self, frame: Frame) {
        if let Some(known) = self.frames.iter_mut().find(|(known, _)| *known == frame) {
            known.1 = true;
        }
    }

    /// The allocator took `frame` back from `cpu`.
    ///
    /// # Errors
    /// The rule that it broke.
    pub fn took(&mut self, cpu: u8, frame: Frame) -> Result<(), Broken> {
        let mapping = self.pages.iter().find(|page| match page.view {
            View::Valid(mapped) | View::Stale(mapped) => mapped == frame,
            View::Clean => false,
        });
        let page = mapping.map(|page| page.page);
        let broken = |rule| Err(Broken { rule, page, frame: Some(frame), cpu });
        if frame == self.scratch {
            return broken(Rule::ScratchFreed);
        }
        if page.is_some() {
            return broken(Rule::FreedWhileMapped);
        }
        match self.frames.iter_mut().find(|(known, _)| *known == frame) {
            Some((_, out)) if *out => {
                *out = false;
                Ok(())
            }
            Some(_) => broken(Rule::DoubleFree),
            None => Ok(()),
        }
    }

    /// `cpu` read or wrote through `page` and reached `frame`, without an abort.
    ///
    /// # Errors
    /// The rule that it broke: the tables say otherwise and all maintenance is done.
    pub fn reached(&self, cpu: u8, page: VirtAddr, frame: Frame) -> Result<(), Broken> {
        let page = page.page_base();
        match self.view(page) {
            Some(View::Valid(mapped) | View::Stale(mapped)) if mapped == frame => Ok(()),
            None => Ok(()),
            Some(_) => {
                let rule = Rule::StaleTranslation;
                Err(Broken { rule, page: Some(page), frame: Some(frame), cpu })
            }
        }
    }

    /// Looks at everything when all CPUs are through.
    ///
    /// # Errors
    /// A page that is stale, or a frame that is given out and mapped nowhere.
    pub fn rest(&self) -> Result<(), Broken> {
        let stale = self.pages.iter().find(|page| matches!(page.view, View::Stale(_)));
        if let Some(Page { page, clearer, .. }) = stale {
            let (rule, page) = (Rule::NeverFlushed, Some(*page));
            return Err(Broken { rule, page, frame: None, cpu: *clearer });
        }
        let lost = self.frames.iter().find(|(frame, out)| {
            *out && self.pages.iter().all(|page| page.view != View::Valid(*frame))
        });
        match lost {
            Some((frame, _)) => {
                Err(Broken { rule: Rule::Leak, page: None, frame: Some(*frame), cpu: 0 })
            }
            None => Ok(()),
        }
    }

    /// Every frame that an access could reach: the lab's, and scratch.
    pub fn frames(&self) -> impl Iterator<Item = Frame> {
        self.frames.iter().map(|(frame, _)| *frame).chain([self.scratch])
    }

    /// Pages that map a frame of their own.
    pub fn mapped(&self) -> usize {
        let own = |page: &&Page| {
            let maps = matches!(page.view, View::Valid(frame) if frame != self.scratch);
            maps && page.shows.is_none()
        };
        self.pages.iter().filter(own).count()
    }

    /// The page number `n`, with what TLBs may hold of it.
    pub fn watched(&self, n: usize) -> Option<(VirtAddr, View)> {
        self.pages.get(n).map(|page| (page.page, page.view))
    }

    /// The pages that are watched.
    pub fn pages(&self) -> impl Iterator<Item = VirtAddr> {
        self.pages.iter().map(|page| page.page)
    }

    /// The pages that are watched, each with the address of its descriptor.
    pub fn slots(&self) -> impl Iterator<Item = (VirtAddr, u64)> {
        self.pages.iter().map(|page| (page.page, page.slot))
    }

    /// The frame that stands in for what is not there.
    pub fn scratch(&self) -> Frame {
        self.scratch
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clean => f.write_str("clean"),
            Self::Valid(frame) => write!(f, "valid({:#x})", frame.start().get()),
            Self::Stale(frame) => write!(f, "stale({:#x})", frame.start().get()),
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (cpu{}", self.rule.name(), self.rule.sentence(), self.cpu)?;
        if let Some(page) = self.page {
            write!(f, ", page {:#x}", page.get())?;
        }
        if let Some(frame) = self.frame {
            write!(f, ", frame {:#x}", frame.start().get())?;
        }
        f.write_str(")")
    }
}

/// A word as the protocol means it, for timelines.
pub fn describe(entry: Pte) -> &'static str {
    match entry.state() {
        State::Empty => "empty",
        State::Valid => "valid",
        State::Tombstone(_) => "tombstone",
    }
}

#[cfg(test)]
mod test;

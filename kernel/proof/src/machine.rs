//! CPUs with a TLB each, for a few pages.
//!
//! A walk fills the TLB of its CPU; an entry stays until maintenance. An access is one step, from the look
//! at the TLB to the touch. What the architecture leaves open is decided for the worse, in one of two ways,
//! and a protocol must be right on both:
//!
//! - [`Timing::Prompt`]: walkers see a store at once; a TLBI takes effect at the DSB behind it. A walker's
//!   load acquires, as what an access does through a translation depends on it. Writers and walkers share
//!   nothing but the slot, so that the orderings of the source are all that orders them.
//! - [`Timing::Lagging`]: walkers see a store when a DSB has completed it, its own CPU's walker not before an
//!   ISB behind that; a TLBI takes effect when it is issued. Everything is one total order here, and the
//!   lab's own oracles watch it ([`explore::ghost`]): each write, TLBI, DSB, frame and access.
//!
//! On both, a CPU's own stale entry outlives its maintenance until its ISB.
//!
//! What is wrong with a machine is a constant of its type, so that the source that runs on it is one.

use std::sync::OnceLock;

use arena::addr::{Frame, VirtAddr};
use arena::hw::Hw;
use arena::pte::Pte;
use arena::slot::PteSlot;
use arena::sync::{AtomicU64, Ordering};
use explore::ghost::{Broken, Ghost};

use crate::checker::sync::{Arc, Mutex, MutexGuard};

/// Nothing is wrong.
pub const SOUND: u8 = 0;
/// An install publishes nothing: Relaxed in place of Release.
pub const RELAXED_INSTALL: u8 = 1;
/// A TLBI does nothing.
pub const NO_TLBI: u8 = 2;
/// A TLBI reaches its own CPU only.
pub const LOCAL_TLBI: u8 = 3;
/// There is no DSB behind a TLBI.
pub const NO_DSB_AFTER: u8 = 4;
/// There is no DSB between a clear and its TLBI.
pub const NO_DSB_BEFORE: u8 = 5;
/// There is no DSB behind an install: before the ERET of an abort handler, that is.
pub const NO_DSB_PUBLISH: u8 = 6;
/// There is no ISB.
pub const NO_ISB: u8 = 7;
/// CPU 1, which helps, does no TLBI.
pub const NO_HELP: u8 = 8;
/// As [`NO_TLBI`], and nobody watches: what is wrong must show by what an access reaches.
pub const NO_TLBI_UNWATCHED: u8 = 9;

/// When stores and maintenance take effect; see the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timing {
    /// Stores at once, maintenance late.
    Prompt,
    /// Stores late, maintenance at once.
    Lagging,
}

/// Pages that have a slot.
pub const PAGES: usize = 3;
/// Frames that there are.
pub const FRAMES: usize = 24;
/// What a frame holds before its owner zeroes it.
pub const DIRT: u64 = 0xdead;

/// What all CPUs share but the slots themselves.
pub struct Memory {
    timing: Timing,
    state: Mutex<State>,
    /// The word of each frame that is looked at.
    words: [AtomicU64; FRAMES],
    /// Address of the first slot, and virtual address of its page. Set before there is a second CPU.
    leaf: OnceLock<(usize, VirtAddr)>,
}

struct State {
    cpus: Vec<CpuState>,
    pages: [PageState; PAGES],
    in_use: [bool; FRAMES],
    /// Watches where the order of events is known.
    ghost: Option<Ghost>,
}

#[derive(Clone, Default)]
struct CpuState {
    tlb: [Option<Pte>; PAGES],
    /// Entries of its own that are stale by all rights, and go at its ISB.
    leaving: [bool; PAGES],
    /// Whether a TLBI waits for the DSB that completes it.
    pending: [bool; PAGES],
    /// Pages whose slot it has looked at: its DSB ISH completes what it saw there.
    saw: [bool; PAGES],
    /// Pages that it installed an entry for, and has not had an ISB since that is complete.
    unfetched: [bool; PAGES],
    /// Whether its last write made an entry valid.
    installed_last: bool,
}

#[derive(Clone, Default)]
struct PageState {
    /// Writes that walkers need not see yet, oldest first: who wrote, and what was there.
    unseen: Vec<(usize, u64)>,
}

/// One CPU.
#[derive(Clone)]
pub struct Cpu<const WRONG: u8> {
    number: usize,
    memory: Arc<Memory>,
}

impl<const WRONG: u8> Cpu<WRONG> {
    /// The CPUs of a machine whose frames are dirty, and given out or not.
    pub fn all<const N: usize>(timing: Timing, in_use: bool) -> [Self; N] {
        let state = State {
            cpus: vec![CpuState::default(); N],
            pages: std::array::from_fn(|_| PageState::default()),
            in_use: [in_use; FRAMES],
            ghost: None,
        };
        let memory = Arc::new(Memory {
            timing,
            state: Mutex::new(state),
            words: std::array::from_fn(|_| AtomicU64::new(DIRT)),
            leaf: OnceLock::new(),
        });
        std::array::from_fn(|number| Self { number, memory: Arc::clone(&memory) })
    }

    /// Makes `slots` those of the pages from `base`, all of them empty, and `scratch` the frame that
    /// several of them may map. The frames in `pool` are given out and taken back.
    pub fn has_slots(
        &self,
        slots: &[PteSlot],
        base: VirtAddr,
        scratch: usize,
        pool: std::ops::Range<usize>,
    ) {
        let first = std::ptr::from_ref(&slots[0]).addr();
        assert!(self.memory.leaf.set((first, base)).is_ok(), "a second table");
        if self.memory.timing == Timing::Prompt || WRONG == NO_TLBI_UNWATCHED {
            return;
        }
        let mut ghost = Ghost::new(Frame::from_number(scratch as u64));
        for (slot, n) in slots.iter().zip(0..PAGES as u64) {
            let page = base.offset(n * arena::addr::PAGE_SIZE);
            ghost.watch(page, std::ptr::from_ref(slot).addr() as u64, Pte::EMPTY);
        }
        pool.for_each(|frame| ghost.own(Frame::from_number(frame as u64)));
        self.state().ghost = Some(ghost);
    }

    /// Lets nobody watch any more: what follows is the end of all pages and of scratch.
    pub fn unwatch(&self) {
        self.state().ghost = None;
    }

    /// Looks at everything when all CPUs are through.
    pub fn rest(&self) {
        self.state().ask(|ghost| ghost.rest());
    }

    /// Marks a frame as given out, or as free.
    pub fn set_in_use(&self, frame: usize, in_use: bool) {
        let mut state = self.state();
        state.ask(|ghost| {
            let number = Frame::from_number(frame as u64);
            if in_use {
                ghost.gave(number);
                return Ok(());
            }
            ghost.took(self.number as u8, number)
        });
        let was = std::mem::replace(&mut state.in_use[frame], in_use);
        assert!(
            was != in_use,
            "{} of frame {frame}",
            if in_use { "second owner" } else { "double free" }
        );
    }

    /// Frames that are given out.
    pub fn frames_in_use(&self) -> usize {
        self.state().in_use.iter().filter(|in_use| **in_use).count()
    }

    /// Zeroes a frame of this CPU's.
    pub fn zero(&self, frame: usize) {
        self.memory.words[frame].store(0, Ordering::Relaxed);
    }

    /// An access to `page` by way of its slot: the frame and its word; `None` for a translation fault.
    pub fn access(&self, page: VirtAddr, slot: &PteSlot) -> Option<(usize, u64)> {
        let index = self.index_of(page)?;
        let mut state = self.state();
        let entry = match state.cpus[self.number].tlb[index] {
            Some(entry) => entry,
            None => self.walk(&mut state, index, slot)?,
        };
        let frame = entry.frame().expect("a valid entry maps a frame").number() as usize;
        assert!(state.in_use[frame], "use after free: frame {frame}");
        state.ask(|ghost| ghost.reached(self.number as u8, page, Frame::from_number(frame as u64)));
        Some((frame, self.memory.words[frame].load(Ordering::Relaxed)))
    }

    fn walk(&self, state: &mut State, index: usize, slot: &PteSlot) -> Option<Pte> {
        let fresh = slot.load(&Walker);
        let entry = match state.pages[index].unseen.first() {
            Some((_, old)) => Pte::from_bits(*old),
            None => fresh,
        };
        if !entry.is_valid() || state.cpus[self.number].unfetched[index] {
            return None;
        }
        for other in &state.cpus {
            assert!(
                other.tlb[index].is_none_or(|held| held == entry)
                    || other.leaving[index]
                    || WRONG == NO_TLBI_UNWATCHED,
                "break-before-make: two CPUs translate differently"
            );
        }
        state.cpus[self.number].tlb[index] = Some(entry);
        Some(entry)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.memory.state.lock().expect("no CPU has panicked")
    }

    fn index_of(&self, page: VirtAddr) -> Option<usize> {
        let (_, base) = self.memory.leaf.get()?;
        let index = page.get().checked_sub(base.get())? / arena::addr::PAGE_SIZE;
        (index < PAGES as u64).then_some(index as usize)
    }

    /// The page whose slot `word` is in, if that is watched.
    fn page_of(&self, word: &AtomicU64) -> Option<usize> {
        let (first, _) = self.memory.leaf.get()?;
        let offset = std::ptr::from_ref(word).addr().checked_sub(*first)?;
        let index = offset / size_of::<PteSlot>();
        (self.memory.timing == Timing::Lagging && index < PAGES).then_some(index)
    }

    /// A read-modify-write of `word` that leaves `new` where `write` returns what it replaced.
    fn write<R>(
        &self,
        word: &AtomicU64,
        new: u64,
        write: impl FnOnce() -> R,
        replaced: impl FnOnce(&R) -> Option<u64>,
    ) -> R {
        let Some(index) = self.page_of(word) else { return write() };
        let mut state = self.state();
        let outcome = write();
        state.cpus[self.number].saw[index] = true;
        if let Some(old) = replaced(&outcome) {
            state.wrote(self.number, index, old, new);
            let (at, cpu) = (std::ptr::from_ref(word).addr() as u64, self.number as u8);
            state.ask(|ghost| ghost.write(cpu, at, Pte::from_bits(old), Pte::from_bits(new)));
        }
        outcome
    }
}

impl State {
    /// Asks the lab's oracles, where they watch.
    fn ask(&mut self, what: impl FnOnce(&mut Ghost) -> Result<(), Broken>) {
        if let Some(broken) = self.ghost.as_mut().and_then(|ghost| what(ghost).err()) {
            panic!("{broken}");
        }
    }

    /// Tells them of what breaks no rule by itself.
    fn tell(&mut self, what: impl FnOnce(&mut Ghost)) {
        if let Some(ghost) = self.ghost.as_mut() {
            what(ghost);
        }
    }

    fn wrote(&mut self, cpu: usize, index: usize, old: u64, new: u64) {
        self.pages[index].unseen.push((cpu, old));
        for (number, other) in self.cpus.iter_mut().enumerate() {
            other.saw[index] = number == cpu;
        }
        let installed = Pte::from_bits(new).is_valid();
        self.cpus[cpu].installed_last = installed;
        self.cpus[cpu].unfetched[index] |= installed;
    }

    /// Completes the writes of `cpu`; with `seen` also those of others that it has seen.
    fn complete(&mut self, cpu: usize, seen: bool) {
        for (page, saw) in self.pages.iter_mut().zip(self.cpus[cpu].saw) {
            // A write that is complete has overwritten those before it.
            let last = page.unseen.iter().rposition(|(writer, _)| *writer == cpu || (seen && saw));
            if let Some(last) = last {
                page.unseen.drain(..=last);
            }
        }
    }

    /// Drops the entries of `index` that `by`'s TLBI reaches; its own goes at its ISB.
    fn drop_entries(&mut self, by: usize, index: usize, local: bool) {
        for (number, cpu) in self.cpus.iter_mut().enumerate() {
            if number == by {
                cpu.leaving[index] = cpu.tlb[index].is_some();
            } else if !local {
                cpu.tlb[index] = None;
            }
        }
    }
}

impl<const WRONG: u8> Hw for Cpu<WRONG> {
    fn load(&self, word: &AtomicU64) -> u64 {
        self.write(word, 0, || word.load(Ordering::Relaxed), |_| None)
    }

    fn compare_exchange(
        &self,
        word: &AtomicU64,
        current: u64,
        new: u64,
        order: Ordering,
    ) -> Result<u64, u64> {
        let order = if WRONG == RELAXED_INSTALL { Ordering::Relaxed } else { order };
        let swap = || word.compare_exchange(current, new, order, Ordering::Relaxed);
        self.write(word, new, swap, |outcome| outcome.ok())
    }

    fn swap(&self, word: &AtomicU64, new: u64, order: Ordering) -> u64 {
        self.write(word, new, || word.swap(new, order), |old| Some(*old))
    }

    fn store(&self, word: &AtomicU64, new: u64) {
        let store = || {
            let old = word.load(Ordering::Relaxed);
            word.store(new, Ordering::Relaxed);
            old
        };
        self.write(word, new, store, |old| Some(*old));
    }

    fn dsb_ishst(&self) {
        if self.memory.timing == Timing::Lagging {
            let mut state = self.state();
            let missing = match state.cpus[self.number].installed_last {
                true => NO_DSB_PUBLISH,
                false => NO_DSB_BEFORE,
            };
            if WRONG != missing {
                state.complete(self.number, false);
                state.tell(|ghost| ghost.dsb(self.number as u8, false));
            }
        }
    }

    fn dsb_ish(&self) {
        if WRONG == NO_DSB_AFTER {
            return;
        }
        let mut state = self.state();
        state.complete(self.number, true);
        state.tell(|ghost| ghost.dsb(self.number as u8, true));
        for index in 0..PAGES {
            if std::mem::take(&mut state.cpus[self.number].pending[index]) {
                state.drop_entries(self.number, index, WRONG == LOCAL_TLBI);
            }
        }
    }

    fn isb(&self) {
        if WRONG == NO_ISB {
            return;
        }
        let mut state = self.state();
        let State { cpus, pages, .. } = &mut *state;
        let cpu = &mut cpus[self.number];
        for (index, page) in pages.iter().enumerate() {
            if std::mem::take(&mut cpu.leaving[index]) {
                cpu.tlb[index] = None;
            }
            // A fetch anew finds what a DSB has completed, and nothing else.
            cpu.unfetched[index] &= page.unseen.iter().any(|(writer, _)| *writer == self.number);
        }
    }

    fn tlbi_vaale1is(&self, page: VirtAddr) {
        let Some(index) = self.index_of(page) else { return };
        if [NO_TLBI, NO_TLBI_UNWATCHED].contains(&WRONG) || (WRONG == NO_HELP && self.number == 1) {
            return;
        }
        let mut state = self.state();
        if WRONG != LOCAL_TLBI {
            state.tell(|ghost| ghost.tlbi(self.number as u8, Some(page)));
        }
        match self.memory.timing {
            Timing::Prompt => state.cpus[self.number].pending[index] = true,
            Timing::Lagging => state.drop_entries(self.number, index, WRONG == LOCAL_TLBI),
        }
    }

    fn tlbi_vmalle1is(&self) {
        if let Some((_, base)) = self.memory.leaf.get() {
            (0..PAGES as u64)
                .for_each(|n| self.tlbi_vaale1is(base.offset(n * arena::addr::PAGE_SIZE)));
        }
    }

    fn tlbi_local(&self, page: VirtAddr) {
        if let Some(index) = self.index_of(page) {
            self.state().drop_entries(self.number, index, true);
        }
    }
}

/// A table walker.
struct Walker;

impl Hw for Walker {
    fn load(&self, word: &AtomicU64) -> u64 {
        word.load(Ordering::Acquire)
    }

    fn dsb_ishst(&self) {}

    fn dsb_ish(&self) {}

    fn isb(&self) {}

    fn tlbi_vaale1is(&self, _: VirtAddr) {}

    fn tlbi_vmalle1is(&self) {}
}

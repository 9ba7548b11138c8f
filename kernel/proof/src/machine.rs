//! Two CPUs with a TLB each, for one page.
//!
//! A walk fills the TLB of its CPU; an entry stays until a TLBI of whichever CPU is completed by a DSB ISH
//! of that CPU. A walker's load acquires: what an access does through a translation depends on it, and
//! the architecture keeps that order. An access is one step, from the look at the TLB to the touch.
//!
//! What is wrong with a machine is a constant of its type, so that the source that runs on it is one.

use arena::addr::VirtAddr;
use arena::hw::Hw;
use arena::pte::Pte;
use arena::sync::{AtomicU64, Ordering};
use loom::sync::{Arc, Mutex};

/// Nothing is wrong.
pub const SOUND: u8 = 0;
/// An install publishes nothing: Relaxed in place of Release.
pub const RELAXED_INSTALL: u8 = 1;
/// A TLBI does nothing.
pub const NO_TLBI: u8 = 2;
/// A TLBI reaches its own CPU only.
pub const LOCAL_TLBI: u8 = 3;
/// There is no DSB behind a TLBI.
pub const NO_DSB: u8 = 4;
/// CPU 1, which helps, does no TLBI.
pub const NO_HELP: u8 = 5;

/// Frames that there are.
pub const FRAMES: usize = 8;
/// What a frame holds before its owner zeroes it.
pub const DIRT: u64 = 0xdead;

/// What both CPUs share but the slot itself.
pub struct Memory {
    tlbs: Mutex<Tlbs>,
    /// The word of each frame that is looked at.
    words: [AtomicU64; FRAMES],
}

struct Tlbs {
    entries: [Option<Pte>; 2],
    /// TLBIs of each CPU that no DSB has completed.
    pending: [bool; 2],
    free: [bool; FRAMES],
}

/// One CPU.
#[derive(Clone)]
pub struct Cpu<const WRONG: u8> {
    number: usize,
    memory: Arc<Memory>,
}

impl<const WRONG: u8> Cpu<WRONG> {
    /// Both CPUs of a machine whose frames are dirty.
    pub fn both() -> [Self; 2] {
        let memory = Arc::new(Memory {
            tlbs: Mutex::new(Tlbs {
                entries: [None; 2],
                pending: [false; 2],
                free: [false; FRAMES],
            }),
            words: core::array::from_fn(|_| AtomicU64::new(DIRT)),
        });
        [0, 1].map(|number| Self { number, memory: Arc::clone(&memory) })
    }

    /// An access by way of the page whose descriptor `entry` loads: the word of the frame, or `None` for a
    /// translation fault.
    pub fn access(&self, entry: impl Fn(&WalkerOf<WRONG>) -> Pte) -> Option<u64> {
        let mut tlbs = self.memory.tlbs.lock().unwrap();
        let entry = match tlbs.entries[self.number] {
            Some(entry) => entry,
            None => {
                let entry = entry(&WalkerOf(self.clone()));
                if !entry.is_valid() {
                    return None;
                }
                let other = tlbs.entries[1 - self.number];
                assert!(
                    other.is_none_or(|other| other == entry),
                    "break-before-make: two CPUs translate differently"
                );
                tlbs.entries[self.number] = Some(entry);
                entry
            }
        };
        let frame = entry.frame().expect("a valid entry maps a frame").number() as usize;
        assert!(!tlbs.free[frame], "use after free: frame {frame}");
        Some(self.memory.words[frame].load(Ordering::Relaxed))
    }

    /// Zeroes a frame of this CPU's.
    pub fn zero(&self, frame: usize) {
        self.memory.words[frame].store(0, Ordering::Relaxed);
    }

    /// Gives a frame back.
    pub fn free(&self, frame: usize) {
        let mut tlbs = self.memory.tlbs.lock().unwrap();
        assert!(!core::mem::replace(&mut tlbs.free[frame], true), "double free");
    }
}

impl<const WRONG: u8> Hw for Cpu<WRONG> {
    fn compare_exchange(
        &self,
        word: &AtomicU64,
        current: u64,
        new: u64,
        order: Ordering,
    ) -> Result<u64, u64> {
        let order = if WRONG == RELAXED_INSTALL { Ordering::Relaxed } else { order };
        word.compare_exchange(current, new, order, Ordering::Relaxed)
    }

    fn dsb_ishst(&self) {}

    fn dsb_ish(&self) {
        if WRONG == NO_DSB {
            return;
        }
        let mut tlbs = self.memory.tlbs.lock().unwrap();
        if core::mem::take(&mut tlbs.pending[self.number]) {
            tlbs.entries[self.number] = None;
            if WRONG != LOCAL_TLBI {
                tlbs.entries[1 - self.number] = None;
            }
        }
    }

    fn isb(&self) {}

    fn tlbi_vaale1is(&self, _: VirtAddr) {
        let helps = self.number == 1;
        if WRONG != NO_TLBI && !(WRONG == NO_HELP && helps) {
            self.memory.tlbs.lock().unwrap().pending[self.number] = true;
        }
    }

    fn tlbi_vmalle1is(&self) {
        self.tlbi_vaale1is(VirtAddr::new(0));
    }
}

/// A CPU's table walker, for [`Cpu::access`].
pub struct WalkerOf<const WRONG: u8>(Cpu<WRONG>);

impl<const WRONG: u8> Hw for WalkerOf<WRONG> {
    fn load(&self, word: &AtomicU64) -> u64 {
        word.load(Ordering::Acquire)
    }

    fn dsb_ishst(&self) {}

    fn dsb_ish(&self) {
        self.0.dsb_ish();
    }

    fn isb(&self) {}

    fn tlbi_vaale1is(&self, _: VirtAddr) {}

    fn tlbi_vmalle1is(&self) {}
}

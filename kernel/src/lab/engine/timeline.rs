//! What happened in the schedule that runs, in order: the losing one is told step by step.

use alloc::vec::Vec;
use core::fmt;

use arena::addr::Frame;
use arena::pte::Pte;
use arena::step::StepPoint;
use explore::ghost::{View, describe};

use crate::arch::timer;

/// Entries that are kept of one schedule.
const KEPT: usize = 8192;

/// A [`View`] in few bytes, since entries are written at every step: the frame's number below its
/// kind, 0 for none.
#[derive(Clone, Copy, Debug)]
pub struct Seen(u32);

/// Bits of a frame's number: 30 reach 4 TiB.
const FRAME_BITS: u32 = 30;

const _: () = assert!(size_of::<Entry>() <= 32);

impl From<Option<View>> for Seen {
    fn from(view: Option<View>) -> Self {
        let (kind, frame) = match view {
            None => (0, 0),
            Some(View::Clean) => (1, 0),
            Some(View::Valid(frame)) => (2, frame.number()),
            Some(View::Stale(frame)) => (3, frame.number()),
        };
        Self(kind << FRAME_BITS | frame as u32)
    }
}

impl Seen {
    fn view(self) -> Option<View> {
        let frame = Frame::from_number(u64::from(self.0 & ((1 << FRAME_BITS) - 1)));
        match self.0 >> FRAME_BITS {
            0 => None,
            1 => Some(View::Clean),
            2 => Some(View::Valid(frame)),
            _ => Some(View::Stale(frame)),
        }
    }
}

/// One thing that happened.
#[derive(Clone, Copy, Debug)]
pub enum Entry {
    /// A CPU made the step that it was about to make.
    Step {
        /// The CPU.
        cpu: u8,
        /// The step.
        point: StepPoint,
        /// What it touches.
        object: u64,
    },
    /// An interrupt was raised on a CPU.
    Tick {
        /// The CPU.
        cpu: u8,
    },
    /// A descriptor was changed, or found changed.
    Pte {
        /// The CPU.
        cpu: u8,
        /// Page that the descriptor decides about, or its own address.
        page: u64,
        /// Before.
        old: Pte,
        /// Behind.
        new: Pte,
        /// Whether the change took place: a compare-and-swap may be lost.
        done: bool,
        /// What TLBs may hold of the page then.
        seen: Seen,
    },
    /// A TLBI.
    Tlbi {
        /// The CPU.
        cpu: u8,
        /// The page; 0 for all.
        page: u64,
    },
    /// A DSB.
    Dsb {
        /// The CPU.
        cpu: u8,
        /// DSB ISH rather than ISHST.
        full: bool,
    },
    /// A frame was given out or taken back.
    Frame {
        /// The CPU.
        cpu: u8,
        /// Its physical address.
        frame: u64,
        /// Given out rather than taken back.
        out: bool,
    },
    /// What TLBs may hold of a page has changed by the barrier before.
    View {
        /// The CPU of the barrier.
        cpu: u8,
        /// The page.
        page: u64,
        /// What they may hold now.
        view: View,
    },
    /// A CPU waits for the lock at this address.
    Wait {
        /// The CPU.
        cpu: u8,
        /// The lock.
        lock: u64,
    },
    /// A store or maintenance that was delayed took effect.
    Drain {
        /// The CPU.
        cpu: u8,
        /// What it was about.
        object: u64,
    },
}

/// See the module.
pub struct Timeline {
    /// Each with the guest's time in nanoseconds, 0 where that is not asked for.
    entries: Vec<(u64, Entry)>,
    lost: u64,
    stamped: bool,
}

impl Timeline {
    /// An empty one.
    pub fn new() -> Self {
        Self { entries: Vec::with_capacity(KEPT), lost: 0, stamped: false }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.lost = 0;
    }

    /// Notes the time of every entry from now on: a read of the counter each, which a campaign has
    /// no use for.
    pub fn stamp(&mut self) {
        self.stamped = true;
    }

    /// Whether it notes times.
    pub fn is_stamped(&self) -> bool {
        self.stamped
    }

    /// Adds an entry; one that finds no room is counted.
    pub fn push(&mut self, entry: Entry) {
        if self.entries.len() < KEPT {
            let at = if self.stamped { timer::now_ns() } else { 0 };
            self.entries.push((at, entry));
        } else {
            self.lost += 1;
        }
    }

    /// The entries, and how many found no room.
    pub fn entries(&self) -> (&[(u64, Entry)], u64) {
        (&self.entries, self.lost)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Step { cpu, point, object } => {
                write!(f, "step cpu={cpu} what={} object={object:#x}", point.name())
            }
            Self::Tick { cpu } => write!(f, "tick cpu={cpu}"),
            Self::Pte { cpu, page, old, new, done, seen } => {
                let what = if done { "pte" } else { "lost" };
                let (was, is) = (describe(old), describe(new));
                write!(
                    f,
                    "{what} cpu={cpu} page={page:#x} old={:#x} new={:#x}",
                    old.bits(),
                    new.bits()
                )?;
                write!(f, " was={was} is={is}")?;
                seen.view().iter().try_for_each(|view| write!(f, " tlb={view}"))
            }
            Self::Tlbi { cpu, page } => write!(f, "tlbi cpu={cpu} page={page:#x}"),
            Self::Dsb { cpu, full } => {
                write!(f, "dsb cpu={cpu} kind={}", if full { "ish" } else { "ishst" })
            }
            Self::Frame { cpu, frame, out } => {
                write!(f, "frame cpu={cpu} frame={frame:#x} {}", if out { "out" } else { "back" })
            }
            Self::View { cpu, page, view } => {
                write!(f, "view cpu={cpu} page={page:#x} tlb={view}")
            }
            Self::Wait { cpu, lock } => write!(f, "wait cpu={cpu} lock={lock:#x}"),
            Self::Drain { cpu, object } => write!(f, "drain cpu={cpu} object={object:#x}"),
        }
    }
}

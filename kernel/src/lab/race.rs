//! What the races of the catalogue are made of: actors on CPUs of their own, an arena, pages that
//! the oracles watch, and accesses that are checked as they happen.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use arena::addr::{Frame, PAGE_SIZE, VirtAddr};
use arena::step::StepPoint;
use explore::ghost::View;

use super::engine::{self, hook};
use crate::arch::access::{self, probe_read_u64, probe_write_u64};
use crate::mem::arena::KernelArena;
use crate::mem::kmap::to_virt;
use crate::prog::program::{Code, Program};
use crate::prog::{kfunc, running};
use crate::runner::Outcome;

/// A race: the same few actors again and again, under one schedule after the other.
pub trait Race: Sync {
    /// Puts everything back to where a schedule begins. Boot CPU, nobody else runs, no step is made.
    ///
    /// # Errors
    /// What could not be put back: the exploration ends.
    fn reset(&self) -> Outcome;

    /// The part of actor `cpu`.
    fn act(&self, cpu: usize);

    /// The scenario's own claims, when all actors are through. As [`reset`](Self::reset).
    ///
    /// # Errors
    /// A claim that does not hold.
    fn check(&self) -> Outcome {
        Ok(())
    }

    /// Interrupts that the schedule may raise.
    fn ticks(&self) -> u32 {
        0
    }
}

/// Where a race takes place.
pub struct Ground {
    /// The arena.
    pub arena: Arc<KernelArena>,
    /// Another, where the race is about two. Nobody makes wild accesses to it.
    pub other: Option<Arc<KernelArena>>,
    /// Actors, and so CPUs.
    pub actors: usize,
    /// Pages that the oracles watch.
    pub pages: Vec<VirtAddr>,
    /// Pages whose entry in the user window they watch as well.
    pub shown: Vec<VirtAddr>,
    /// Frames that allocations can take.
    pub frames: usize,
}

impl Ground {
    /// A ground of one arena.
    pub fn new(arena: &Arc<KernelArena>, actors: usize, pages: &[VirtAddr], frames: usize) -> Self {
        let (arena, other, pages, shown) = (arena.clone(), None, pages.to_vec(), Vec::new());
        Self { arena, other, actors, pages, shown, frames }
    }

    /// Its arenas.
    pub fn arenas(&self) -> impl Iterator<Item = &Arc<KernelArena>> {
        core::iter::once(&self.arena).chain(&self.other)
    }
}

/// Code of a program that does nothing of its own: kernel functions are called on its behalf.
pub struct Idle;

/// See [`Idle`].
pub static IDLE: Idle = Idle;

impl Code for Idle {
    fn run(&self, _: &Program, _: u64) -> u64 {
        0
    }
}

/// Where the word lies in each page by which the lab sees which frame an access reaches: the last.
const MARK: u64 = PAGE_SIZE - 8;

/// Calls `run` as a kernel function that `program` called: the abort handler finds the program.
pub fn on_behalf_of<R>(program: &Program, run: impl FnOnce() -> R) -> Option<R> {
    let entered = running::enter(program).ok()?;
    let value = run();
    drop(entered);
    Some(value)
}

/// Empties the program's stderr, so that its stream is as the schedule before found it.
pub fn drain(program: &Program) {
    if let Some(reader) = program.stderr.reader() {
        reader.for_each(drop);
    }
}

/// Fills the first word of every frame that allocations can take, as an earlier owner would have.
pub fn soil_frames(word: u64) {
    let frames = engine::between(|core| core.pool.clone());
    frames.into_iter().for_each(|frame| direct(frame, 0).store(word, Ordering::Relaxed));
}

/// A kernel function's read of the word at `at`, which may fault and be recovered.
pub fn read(at: VirtAddr) -> u64 {
    engine::step(StepPoint::Access, at.page_base().get());
    hook::before_an_access();
    let value = kfunc::read_word(at);
    see_where_it_went(at);
    value
}

/// A kernel function's write, as [`read`].
pub fn write(at: VirtAddr, value: u64) {
    engine::step(StepPoint::Access, at.page_base().get());
    hook::before_an_access();
    kfunc::write_word(at, value);
    see_where_it_went(at);
}

/// A read of `at` that gives up where nothing is mapped.
pub fn try_read(at: VirtAddr) -> Option<u64> {
    engine::step(StepPoint::Access, at.page_base().get());
    hook::before_an_access();
    let value = probe_read_u64(at).ok()?;
    see_where_it_went(at);
    Some(value)
}

/// A write to `at` that gives up where nothing is mapped; whether it was made.
pub fn try_write(at: VirtAddr, value: u64) -> bool {
    engine::step(StepPoint::Access, at.page_base().get());
    hook::before_an_access();
    // SAFETY: pages of arenas hold no Rust values.
    let done = unsafe { probe_write_u64(at, value) }.is_ok();
    if done {
        see_where_it_went(at);
    }
    done
}

/// A task's write to `user`, an address of the user window, from a CPU that has the task's space
/// entered; whether it was made.
pub fn user_write(user: VirtAddr, value: u64) -> bool {
    engine::step(StepPoint::Access, user.page_base().get());
    // SAFETY: pages of arenas hold no Rust values.
    let done = unsafe { access::user_write_u64(user, value) }.is_ok();
    if done {
        see_where(user, |at, mark| {
            // SAFETY: as above.
            unsafe { access::user_write_u64(at, mark) }.is_ok()
        });
    }
    done
}

/// The word at `at` in the frame that `entry` of the tables maps, by the direct map; `None` where
/// nothing is mapped.
pub fn stored(arena: &KernelArena, at: VirtAddr) -> Option<u64> {
    let frame = arena.entry(at)?.frame()?;
    Some(direct(frame, at.get() % PAGE_SIZE).load(Ordering::Relaxed))
}

/// Looks through every watched page that the last schedule left, from this CPU: what the tables map
/// must be what an access reaches, and what they do not map must fault.
pub fn probe(_cpu: usize) {
    for n in 0.. {
        let Some((page, view)) = engine::between(|core| core.watched(n)) else { return };
        match view {
            View::Valid(_) => {
                see_where_it_went(page);
            }
            View::Clean | View::Stale(_) => {
                if probe_read_u64(page).is_ok() {
                    see_where_it_went(page);
                }
            }
        }
    }
}

/// Tells the oracles which frame this CPU reaches through `at` now: it leaves a mark there and looks
/// which frame has it. No step is made, so nothing comes between the access and this.
fn see_where_it_went(at: VirtAddr) {
    // SAFETY: as in `try_write`.
    see_where(at, |at, mark| unsafe { probe_write_u64(at, mark) }.is_ok());
}

/// The same with a store of the caller's, which says whether it was made.
fn see_where(at: VirtAddr, store: impl FnOnce(VirtAddr, u64) -> bool) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    if !engine::is_on() {
        return;
    }
    let mark = NEXT.fetch_add(1, Ordering::Relaxed) << 16 | 0xfa17;
    if !store(at.page_base().offset(MARK), mark) {
        return;
    }
    let has_it = |frame: &Frame| direct(*frame, MARK).load(Ordering::Relaxed) == mark;
    let reached = engine::between(|core| core.frames().find(has_it));
    if let Some(frame) = reached {
        direct(frame, MARK).store(0, Ordering::Relaxed);
        hook::accessed(at, frame.start().get());
    }
}

/// The word at `offset` of a frame, by the direct map.
fn direct(frame: Frame, offset: u64) -> &'static AtomicU64 {
    let at = to_virt(frame.start()).offset(offset).get() as *const AtomicU64;
    // SAFETY: frames are RAM of the direct map, which stays; the word is aligned, and only programs'
    // accesses and these atomic ones touch it.
    unsafe { &*at }
}

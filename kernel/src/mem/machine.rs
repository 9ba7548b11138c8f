//! The machine that the arena protocols run on: every method is the instruction of its name.

use arena::addr::{Frame, VirtAddr};
use arena::hw::{Frames, Hw, Platform, TABLE_SLOTS, Tables};
use arena::slot::PteSlot;
#[cfg(feature = "lab")]
use arena::step::StepPoint;
use arena::sync::{AtomicU64, Ordering};

use crate::arch::{atomic, barrier, tlb, zero};
#[cfg(feature = "lab")]
use crate::lab::engine::{self, hook, weak::Delayed};
use crate::mem::events::{self, Kind};
use crate::mem::frame;
use crate::mem::kmap::to_virt;
use crate::mem::resilient::ResilientLock;

#[cfg(feature = "lab")]
pub mod lab;
mod lse;

pub use lse::LseMachine;

/// This machine. A value without size: all state is in registers and memory.
#[derive(Clone, Copy)]
pub struct Machine;

impl Hw for Machine {
    #[inline(always)]
    fn load(&self, word: &AtomicU64) -> u64 {
        #[cfg(feature = "lab")]
        if let Some(coherent) = hook::coherent(address_of(word)) {
            return coherent;
        }
        let now = word.load(Ordering::Relaxed);
        #[cfg(feature = "lab")]
        hook::loaded(address_of(word), now);
        now
    }

    // Inlined into the protocols: `try_set` must be the bare sequence of its instructions.
    #[inline(always)]
    fn compare_exchange(
        &self,
        word: &AtomicU64,
        current: u64,
        new: u64,
        order: Ordering,
    ) -> Result<u64, u64> {
        #[cfg(feature = "lab")]
        if hook::delays(address_of(word)) {
            return lab::delayed_exchange(word, current, new, order);
        }
        let outcome = atomic::compare_exchange(word, current, new, order);
        let (kind, old) = match outcome {
            Ok(old) => (Kind::Cas, old),
            Err(found) => (Kind::CasLost, found),
        };
        events::note(kind, address_of(word), old, new);
        #[cfg(feature = "lab")]
        lab::wrote(word, old, new, outcome.is_ok());
        outcome
    }

    #[inline(always)]
    fn swap(&self, word: &AtomicU64, new: u64, order: Ordering) -> u64 {
        #[cfg(feature = "lab")]
        if hook::delays(address_of(word)) {
            return lab::delayed_swap(word, new, order);
        }
        let old = atomic::swap(word, new, order);
        events::note(Kind::Swap, address_of(word), old, new);
        #[cfg(feature = "lab")]
        lab::wrote(word, old, new, true);
        old
    }

    #[cfg(feature = "lab")]
    fn store(&self, word: &AtomicU64, new: u64) {
        if hook::delays(address_of(word)) {
            lab::delayed_swap(word, new, Ordering::Relaxed);
            return;
        }
        let old = word.load(Ordering::Relaxed);
        hook::overwrites(address_of(word), old);
        word.store(new, Ordering::Relaxed);
        events::note(Kind::Store, address_of(word), old, new);
        lab::wrote(word, old, new, true);
    }

    #[inline(always)]
    fn dsb_ishst(&self) {
        barrier::dsb_ishst();
        #[cfg(feature = "lab")]
        hook::dsb(false);
    }

    #[inline(always)]
    fn dsb_ish(&self) {
        barrier::dsb_ish();
        #[cfg(feature = "lab")]
        hook::dsb(true);
    }

    #[inline(always)]
    fn isb(&self) {
        barrier::isb();
    }

    #[inline(always)]
    fn tlbi_vaale1is(&self, page: VirtAddr) {
        #[cfg(feature = "lab")]
        if !hook::delay(Delayed::Tlbi(Some(page))) {
            tlb::vaale1is(page);
        }
        #[cfg(not(feature = "lab"))]
        tlb::vaale1is(page);
        events::note(Kind::Tlbi, page.get(), 0, 0);
        #[cfg(feature = "lab")]
        hook::tlbi(Some(page));
    }

    #[inline(always)]
    fn tlbi_vmalle1is(&self) {
        #[cfg(feature = "lab")]
        if !hook::delay(Delayed::Tlbi(None)) {
            tlb::vmalle1is();
        }
        #[cfg(not(feature = "lab"))]
        tlb::vmalle1is();
        events::note(Kind::TlbiAll, 0, 0, 0);
        #[cfg(feature = "lab")]
        hook::tlbi(None);
    }

    #[cfg(feature = "lab")]
    fn tlbi_local(&self, page: VirtAddr) {
        tlb::vaale1(page);
        events::note(Kind::Tlbi, page.get(), 0, 0);
        hook::tlbi(Some(page));
    }

    #[cfg(feature = "lab")]
    fn step(&self, point: StepPoint, object: u64) {
        engine::step(point, object);
    }
}

impl Tables for Machine {
    #[inline(always)]
    fn slots(&self, table: Frame) -> &[PteSlot; TABLE_SLOTS] {
        let slots = to_virt(table.start()).get() as *const [PteSlot; TABLE_SLOTS];
        // SAFETY: `table` comes from a root or a table descriptor, so it is a frame of RAM in the
        // direct map, 4 KiB aligned, that stays a table while walks can reach it (the trait's
        // contract). `PteSlot` is one atomic word, valid for any bit pattern.
        unsafe { &*slots }
    }
}

impl Frames for Machine {
    #[inline(always)]
    fn alloc(&self) -> Option<Frame> {
        frame::alloc()
    }

    fn free(&self, frame: Frame) {
        #[cfg(feature = "lab")]
        if hook::freed(frame) {
            return;
        }
        frame::free(frame);
    }

    // In lab images each frame has its own say.
    #[cfg(not(feature = "lab"))]
    #[inline(always)]
    fn free_all(&self, frames: impl Iterator<Item = Frame>) {
        frame::free_all(frames);
    }

    fn zero(&self, frame: Frame) {
        #[cfg(feature = "lab")]
        if hook::delay(Delayed::Zero(frame)) {
            return;
        }
        zero_now(frame);
    }
}

impl Platform for Machine {
    type Lock<T: Send> = ResilientLock<T>;
    type Chosen = LseMachine;

    // In lab images every access goes by the lab's hooks.
    #[cfg(not(feature = "lab"))]
    #[inline(always)]
    fn chosen(&self) -> Option<&LseMachine> {
        LseMachine::of_all_cpus()
    }
}

/// Fills a frame with zeroes. Its owner asks for it, the lab perhaps later than it did.
pub fn zero_now(frame: Frame) {
    // SAFETY: the owner wanted it zeroed, and the direct map makes all of it writable.
    unsafe { zero::page(to_virt(frame.start())) }
}

#[inline(always)]
fn address_of(word: &AtomicU64) -> u64 {
    core::ptr::from_ref(word).addr() as u64
}

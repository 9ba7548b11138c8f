//! Broken and historic variants of the protocol. Each overrides the one decision it is about; a
//! scenario of the catalogue must catch it.
//!
//! To add one: implement [`Protocol`] on a new type with the decision you want judged, and give it
//! a line in [`VARIANTS`].

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use arena::addr::{Frame, VirtAddr};
use arena::arena::{Arena, CreateError, Recovery};
use arena::hw::{Irqs, Lock, Platform};
use arena::protocol::{Protocol, TombstoneProtocol, install_scratch};
use arena::pte::{Pte, State};
use arena::slot::PteSlot;

use crate::arch::layout;
use crate::arch::stack::Backtrace;
use crate::arch::trap::TrapFrame;
use crate::mem::arena::KernelArena;

/// How a variant makes an arena.
type Create = fn(u32) -> Result<Arc<KernelArena>, CreateError>;

/// A protocol that can be chosen by name.
pub struct VariantEntry {
    /// The name that `--variant` takes.
    pub name: &'static str,
    /// Makes an arena under it.
    pub create: Create,
}

/// Every protocol of this image.
pub const VARIANTS: &[VariantEntry] = &[
    entry::<TombstoneProtocol>(),
    entry::<TrylockRetry>(),
    entry::<PlainStore>(),
    entry::<Busy>(),
    entry::<FreesScratch>(),
    entry::<IrqsOn>(),
    VariantEntry { name: FIND_BY_UNWIND, create: KernelArena::create },
];

/// The abort handler takes the arena's lock, and retries if it cannot: with the lock held by the
/// code that faulted, it retries for ever (A-A). Answers to the proposal that the scratch page
/// replaced.
pub struct TrylockRetry;

impl Protocol for TrylockRetry {
    const NAME: &'static str = "trylock-retry";

    fn recover<M: Platform>(
        arena: &Arena<Self, M>,
        slot: &PteSlot,
        page: VirtAddr,
        before: Pte,
    ) -> Recovery {
        let Some(_guard) = arena.lock().try_lock(Irqs::Masked) else { return Recovery::Again };
        install_scratch(arena, slot, page, before)
    }
}

/// The page is installed by a plain store behind a look. Answers to `set_pte_at()` on a live slot.
pub struct PlainStore;

impl Protocol for PlainStore {
    const NAME: &'static str = "plain-store";

    fn install<M: Platform>(
        arena: &Arena<Self, M>,
        slot: &PteSlot,
        _: VirtAddr,
        new: Pte,
    ) -> Result<(), Pte> {
        let found = slot.load(arena.machine());
        if found.state() == State::Valid {
            return Err(found);
        }
        slot.overwrite(arena.machine(), new);
        Ok(())
    }
}

/// An allocation that finds scratch in its slot fails, and fails again for ever. Answers to Linux
/// 7.2, whose `apply_range_set_cb()` takes a slot in use for an error.
pub struct Busy;

impl Protocol for Busy {
    const NAME: &'static str = "busy";

    fn install<M: Platform>(
        arena: &Arena<Self, M>,
        slot: &PteSlot,
        page: VirtAddr,
        new: Pte,
    ) -> Result<(), Pte> {
        slot.try_set_unpublished(arena.machine(), page, new)
    }
}

/// Freeing a range gives whatever its slots held to the allocator, the scratch page included.
pub struct FreesScratch;

impl Protocol for FreesScratch {
    const NAME: &'static str = "frees-scratch";

    fn owned_by_slot<M: Platform>(_: &Arena<Self, M>, _: Frame) -> bool {
        true
    }
}

/// The arena's lock leaves IRQs on: a timer program that enters the arena on the holder's CPU
/// meets its own CPU's lock.
pub struct IrqsOn;

impl Protocol for IrqsOn {
    const NAME: &'static str = "irqs-on";
    const IRQS: Irqs = Irqs::Unchanged;
}

/// The abort handler finds the running program by its frame records, as Linux 7.2.13 does; the
/// protocol is the default one.
pub const FIND_BY_UNWIND: &str = "find-by-unwind";

static FINDS_BY_UNWIND: AtomicBool = AtomicBool::new(false);

/// The protocol called `name`.
pub fn find(name: &str) -> Option<&'static VariantEntry> {
    VARIANTS.iter().find(|variant| variant.name == name)
}

/// Makes `name` the run's variant, before any program runs; `false` if there is none such.
pub fn select(name: &str) -> bool {
    FINDS_BY_UNWIND.store(name == FIND_BY_UNWIND, Ordering::Relaxed);
    find(name).is_some()
}

/// Whether the handler unwinds to find the program.
pub fn finds_by_unwind() -> bool {
    FINDS_BY_UNWIND.load(Ordering::Relaxed)
}

/// Whether a return address in the frame records behind `frame` lies in program code. The faulting
/// function's own return address counts only once it has pushed a record.
pub fn unwinds_to_program(frame: &TrapFrame) -> bool {
    Backtrace::from_record(frame.x[29]).any(|pc| layout::program_text().contains(&pc))
}

const fn entry<P: Protocol>() -> VariantEntry {
    VariantEntry { name: P::NAME, create: KernelArena::create_with::<P> }
}

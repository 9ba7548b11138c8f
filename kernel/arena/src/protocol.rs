//! What distinguishes one lockless update protocol from another.
//!
//! [`TombstoneProtocol`] is the one that Faultline defends. Every other implementation is
//! a broken or historic variant of the lab: it overrides the one decision that it is about, and an
//! oracle or a test must catch it.

use crate::addr::{Frame, PageRange, VirtAddr};
use crate::arena::{Arena, Inner, Recovery};
use crate::hw::{Irqs, Lock, LockError, Platform};
use crate::pte::{Attributes, Pte};
use crate::slot::PteSlot;

/// The decisions of a protocol. The provided ones are the default protocol's.
pub trait Protocol: Sized + Send + Sync + 'static {
    /// The name by which `--variant` selects it.
    const NAME: &'static str;

    /// Whether the arena's lock masks IRQs: a timer program that enters the arena on the CPU that
    /// holds the lock would otherwise deadlock with the code that it interrupts.
    const IRQS: Irqs = Irqs::Masked;

    /// Whether a free clears the entries of the user window as well: a task would otherwise keep
    /// access to a frame that is somebody else's by then.
    const UNMAPS_USER: bool = true;

    /// Whether a task's touch of a page that holds scratch maps scratch for the task: it could then
    /// see and change what other wild accesses left there.
    const SCRATCH_FOR_USERS: bool = false;

    /// Leaves the free of `range` to a worker: of a range whose lock was not given, to the free itself
    /// or to the worker. Any context.
    fn defer<M: Platform>(arena: &Arena<Self, M>, range: PageRange) {
        arena.note_deferred(range);
    }

    /// Takes the arena's lock to give out pages.
    ///
    /// # Errors
    /// [`LockError`]: waiting would not end.
    fn lock<M: Platform>(
        arena: &Arena<Self, M>,
    ) -> Result<<M::Lock<Inner> as Lock<Inner>>::Guard<'_>, LockError> {
        arena.lock().lock(Self::IRQS)
    }

    /// Puts `new` into the slot of `page`, which the caller took from the range tree. A fault may
    /// have left scratch there, or leave it at any moment. Not published: the caller ends its
    /// batch with [`publish`](crate::slot::publish). Called under the arena's lock.
    ///
    /// # Errors
    /// A valid entry that is not scratch: the range tree and the tables disagree.
    fn install<M: Platform>(
        arena: &Arena<Self, M>,
        slot: &PteSlot,
        page: VirtAddr,
        new: Pte,
    ) -> Result<(), Pte> {
        match slot.try_set_unpublished(arena.machine(), page, new) {
            Err(found) if found.frame() == Some(arena.scratch()) => {
                // Valid to valid in one store would let a CPU use both translations at once
                // (`I4`, `I7`): break, flush, make.
                slot.replace(arena.machine(), page, new, || arena.stamp());
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Answers a fault on `page`, whose slot held nothing, a tombstone or scratch a moment ago.
    /// Runs in the abort handler: no lock, no allocation, no waiting.
    fn recover<M: Platform>(
        arena: &Arena<Self, M>,
        slot: &PteSlot,
        page: VirtAddr,
        before: Pte,
    ) -> Recovery {
        install_scratch(arena, slot, page, before)
    }

    /// Frees a batch of pages that lie in one table: takes the lock, clears the slots, sees that no
    /// TLB translates them, returns the range to the range tree and the frames to the allocator.
    ///
    /// # Errors
    /// The lock's; nothing was freed.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn free_batch<M: Platform>(arena: &Arena<Self, M>, batch: PageRange) -> Result<(), LockError> {
        arena.free_flushed(batch)
    }

    /// The frame that does not go back to the allocator when it is found in a slot that was cleared.
    /// Scratch is in many slots and belongs to the arena; every other frame belongs to its slot alone.
    #[inline(always)]
    fn shared_frame<M: Platform>(arena: &Arena<Self, M>) -> Option<Frame> {
        Some(arena.scratch())
    }
}

/// Installs scratch in the slot of `page` unless another installer wins. Lock-free.
pub fn install_scratch<P: Protocol, M: Platform>(
    arena: &Arena<P, M>,
    slot: &PteSlot,
    page: VirtAddr,
    before: Pte,
) -> Recovery {
    let scratch = Pte::page(arena.scratch(), Attributes::KERNEL_DATA);
    match slot.try_set(arena.machine(), page, scratch) {
        Ok(()) => Recovery::Scratch { before, after: scratch },
        // Losing to another fault or to the allocator is success: the retry finds a valid entry
        // either way, and the access was wild when it was made.
        Err(winner) => Recovery::Lost { before, winner },
    }
}

/// The default protocol: clears leave tombstones, and whoever meets one flushes.
#[derive(Debug)]
pub struct TombstoneProtocol;

impl Protocol for TombstoneProtocol {
    const NAME: &'static str = "default";
}

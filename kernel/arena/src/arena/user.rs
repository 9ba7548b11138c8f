//! The arena's user window: the same frames, mapped for tasks at EL0.
//!
//! The arena owns one tree of tables for its user window, and every task that maps the arena points to
//! it; so there is one user entry a page, and one place to clear. A user entry maps the frame that the
//! kernel entry of the page maps, never scratch, and is changed under the arena's lock only.
//!
//! Answers to `arena_vm_fault()` and `zap_pages()` of Linux kernel/bpf/arena.c.

use core::fmt;

use super::{Arena, Inner};
use crate::addr::{Frame, PAGE_SIZE, PageRange, PhysAddr, VirtAddr};
use crate::hw::{Lock, LockError, Platform};
use crate::map::Mapper;
use crate::protocol::Protocol;
use crate::pte::{Access, Attributes, Memory, Pte, Stamp, State};
use crate::slot::{PteSlot, publish};
use crate::step::step;
use crate::sync::Ordering;
use crate::walk::{leaf_slot, leaf_table};

/// Pages of a user window.
const USER_DATA: Attributes = Attributes { memory: Memory::Normal, access: Access::UserReadWrite };

/// Why a task's access is the task's fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UserFault {
    /// The address is no page of the arena.
    Outside,
    /// A wild access of the kernel left scratch there.
    Scratch,
    /// The page is not allocated, and this arena allocates none for tasks; or it is reserved.
    Unallocated,
    /// No memory for the page or its tables.
    NoMemory,
    /// The lock was not given.
    Lock(LockError),
}

impl<P: Protocol, M: Platform> Arena<P, M> {
    /// Answers a task's fault at `user`, an address of the user window: maps the page for tasks, and
    /// allocates it for both windows if nobody has yet. Takes the arena's lock.
    ///
    /// # Errors
    /// [`UserFault`]; nothing was mapped.
    pub fn user_fault(&self, user: VirtAddr) -> Result<(), UserFault> {
        let offset = user.get().wrapping_sub(self.window.user_base().get());
        if offset >= u64::from(self.max_pages) * PAGE_SIZE {
            return Err(UserFault::Outside);
        }
        let index = (offset / PAGE_SIZE) as u32;
        step!(&self.machine, LockAcquire, self.object());
        let mut inner = self.inner.lock(P::IRQS).map_err(UserFault::Lock)?;
        let outcome = self.map_for_user(&mut inner, index);
        publish(&self.machine);
        step!(&self.machine, LockRelease, self.object());
        outcome
    }

    /// The level 1 table of the user window's half of the address space, for entry 0 of a task's level
    /// 0 table; made when it is first asked for, freed with the arena. Takes the arena's lock.
    pub fn user_table(&self) -> Option<Frame> {
        let _inner = self.inner.lock(P::IRQS).ok()?;
        let root = self.user_root_made()?;
        Mapper::new(&self.machine, root).make_tables(self.window.user_base(), 1).ok()?;
        self.machine
            .slot(root, self.window.user_base().table_index(0))
            .load(&self.machine)
            .next_table()
    }

    /// Whether a task's touch of an unallocated page is a fault. Answers to `BPF_F_SEGV_ON_FAULT`.
    pub fn set_fault_on_unallocated(&self, faults: bool) {
        // Relaxed: a setting.
        self.faults_on_unallocated.store(faults, Ordering::Relaxed);
    }

    /// The entry of the user window that decides about `user`; `None` where no table is.
    pub fn user_slot(&self, user: VirtAddr) -> Option<&PteSlot> {
        leaf_slot(&self.machine, self.user_root()?, user)
    }

    fn map_for_user(&self, inner: &mut Inner, index: u32) -> Result<(), UserFault> {
        let page = self.window.page(index);
        let slot = self.slot(page).ok_or(UserFault::Outside)?;
        let entry = slot.load(&self.machine);
        let frame = match entry.frame() {
            Some(frame) if frame == self.scratch && !P::SCRATCH_FOR_USERS => {
                return Err(UserFault::Scratch);
            }
            Some(frame) => frame,
            None => self.allocate_for_user(inner, slot, index)?,
        };
        let user = self.window.to_user(page);
        let slot = match self.user_slot(user) {
            Some(slot) => slot,
            None => self.user_slot_made(user)?,
        };
        // A valid entry is one that another task's fault has made: of the same frame.
        let _ = slot.try_set_unpublished(&self.machine, user, Pte::page(frame, USER_DATA));
        Ok(())
    }

    /// [`user_slot`](Self::user_slot) where its tables may not be there yet.
    #[cold]
    fn user_slot_made(&self, user: VirtAddr) -> Result<&PteSlot, UserFault> {
        let root = self.user_root_made().ok_or(UserFault::NoMemory)?;
        let made = Mapper::new(&self.machine, root).make_tables(user, 3);
        made.map_err(|_| UserFault::NoMemory)?;
        self.user_slot(user).ok_or(UserFault::NoMemory)
    }

    /// Takes page `index`, and maps a frame of its own into `slot`, which is the page's and was empty.
    fn allocate_for_user(
        &self,
        inner: &mut Inner,
        slot: &PteSlot,
        index: u32,
    ) -> Result<Frame, UserFault> {
        if self.faults_on_unallocated.load(Ordering::Relaxed) {
            return Err(UserFault::Unallocated);
        }
        let range = PageRange::new(index, 1);
        let needed = self.nodes_needed(inner, 1);
        inner.ranges.reserve_nodes(needed).map_err(|_| UserFault::NoMemory)?;
        step!(&self.machine, RangeCommit, self.object());
        match inner.ranges.take_at(range) {
            Ok(true) => {}
            // Reserved.
            Ok(false) => return Err(UserFault::Unallocated),
            Err(_) => return Err(UserFault::NoMemory),
        }
        match self.map_frame(slot, index) {
            Ok(frame) => {
                inner.mapped += 1;
                inner.peak = inner.peak.max(inner.mapped);
                Ok(frame)
            }
            Err(why) => {
                // Nothing of it was mapped, so nothing is to be flushed.
                self.give_back(inner, range, 0);
                Err(why)
            }
        }
    }

    fn map_frame(&self, slot: &PteSlot, index: u32) -> Result<Frame, UserFault> {
        step!(&self.machine, FrameAlloc, 0);
        let frame = self.machine.alloc().ok_or(UserFault::NoMemory)?;
        step!(&self.machine, FrameZero, frame.start().get());
        self.machine.zero(frame);
        let entry = Pte::page(frame, Attributes::KERNEL_DATA);
        if slot.try_set_unpublished(&self.machine, self.window.page(index), entry).is_err() {
            // A wild access since the look: the task must not share what it wrote to.
            self.machine.free(frame);
            return Err(UserFault::Scratch);
        }
        Ok(frame)
    }

    /// Clears the user entries of a batch whose kernel entries were cleared. Returns a bit for each
    /// that was there: the caller flushes those, then [`retires`](Self::retire_user) them.
    #[inline(always)]
    pub(super) fn bury_user(&self, range: PageRange, stamp: Stamp) -> u64 {
        if self.user_root().is_some() { self.bury_user_entries(range, stamp) } else { 0 }
    }

    fn bury_user_entries(&self, range: PageRange, stamp: Stamp) -> u64 {
        let Some((table, index)) = self.user_table_of(range) else { return 0 };
        let mut buried = 0;
        for n in 0..range.pages {
            let slot = self.machine.slot(table, index + n as usize);
            if slot.load(&self.machine).state() != State::Empty {
                let _buried = slot.bury(&self.machine, stamp);
                buried |= 1 << n;
            }
        }
        buried
    }

    /// See [`bury_user`](Self::bury_user).
    #[inline(always)]
    pub(super) fn retire_user(&self, range: PageRange, stamp: Stamp, buried: u64) {
        if buried != 0 {
            self.retire_user_entries(range, stamp, buried);
        }
    }

    fn retire_user_entries(&self, range: PageRange, stamp: Stamp, buried: u64) {
        let Some((table, index)) = self.user_table_of(range) else { return };
        for n in (0..range.pages).filter(|n| buried & 1 << n != 0) {
            let slot = self.machine.slot(table, index + n as usize);
            slot.retire(&self.machine, stamp);
        }
    }

    /// The root of the user window's tree, if a task has ever asked for it.
    pub(super) fn user_root(&self) -> Option<Frame> {
        // Relaxed: changed under the lock; whoever walks the tree holds it or was handed the table.
        let root = self.user_root.load(Ordering::Relaxed);
        (root != 0).then(|| Frame::containing(PhysAddr::new(root)))
    }

    /// The same, made if it is not there. Under the lock.
    fn user_root_made(&self) -> Option<Frame> {
        if let Some(root) = self.user_root() {
            return Some(root);
        }
        let root = self.machine.alloc()?;
        self.machine.zero(root);
        self.user_root.store(root.start().get(), Ordering::Relaxed);
        Some(root)
    }

    /// The table of the user entries of `range`, which lie in one, and the first one's index.
    fn user_table_of(&self, range: PageRange) -> Option<(Frame, usize)> {
        if u64::from(range.start) >= u64::from(self.max_pages) {
            return None;
        }
        let user = self.window.to_user(self.window.page(range.start));
        Some((leaf_table(&self.machine, self.user_root()?, user)?, user.table_index(3)))
    }
}

impl fmt::Display for UserFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outside => f.write_str("no page of the arena"),
            Self::Scratch => f.write_str("a wild access of the kernel left scratch there"),
            Self::Unallocated => f.write_str("the page is not allocated"),
            Self::NoMemory => f.write_str("out of memory"),
            Self::Lock(error) => error.fmt(f),
        }
    }
}

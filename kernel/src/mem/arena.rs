//! Where arenas live in the kernel's address space, and how one is made and unmade.
//!
//! ```text
//!   ffff_8000_0000_0000 + n * 8 GiB     room n
//!     + 4 GiB                           base of its window: 4 GiB of pages
//!     - 32 KiB .. + 4 GiB + 32 KiB      the guards around it
//! ```

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::ops::Deref;
use core::sync::atomic::{AtomicU64, Ordering};

use arena::addr::VirtAddr;
use arena::arena::{AnyArena, Arena, CreateError, FreeError, Freed};
use arena::protocol::{Protocol, TombstoneProtocol};
use arena::window::{FULL_PAGES, Window, Zone};

use crate::debug;
use crate::mem::fallible::{try_arc, try_box};
use crate::mem::kmap;
use crate::mem::machine::Machine;
use crate::mem::worker;

/// Base of the first window.
pub const FIRST_BASE: VirtAddr = VirtAddr::new(0xffff_8001_0000_0000);
/// Distance between windows: guards and the gap beyond them never meet a neighbour.
const STRIDE: u64 = 8 << 30;
/// Windows that fit under one level 1 table, guards included.
pub const ROOMS: u32 = 62;
/// Where every program sees its arena.
const USER_BASE: VirtAddr = VirtAddr::new(0x1_0000_0000);

/// A set bit is a room in use.
static IN_USE: AtomicU64 = AtomicU64::new(0);

/// An arena in its room. Programs hold counted references; when the last goes, no program can
/// fault in the arena any more, and it is destroyed.
pub struct KernelArena {
    room: u32,
    arena: Box<dyn AnyArena + Send>,
}

/// What a kernel address means to the arena windows, for reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Number of the room.
    pub room: u32,
    /// Where in the room's window.
    pub zone: Zone,
}

impl KernelArena {
    /// Makes a full-sized arena of `max_pages` allocatable pages under the default protocol.
    ///
    /// # Errors
    /// As [`Arena::create`]; also when all rooms are taken.
    pub fn create(max_pages: u32) -> Result<Arc<Self>, CreateError> {
        Self::create_with::<TombstoneProtocol>(max_pages)
    }

    /// The same under protocol `P`.
    ///
    /// # Errors
    /// As [`KernelArena::create`].
    pub fn create_with<P: Protocol>(max_pages: u32) -> Result<Arc<Self>, CreateError> {
        Self::create_in::<P>(max_pages, FULL_PAGES)
    }

    /// The same with a window of `window_pages`: a small one is made and unmade a hundred times as
    /// fast. For the lab, which does so in every schedule; a program could point outside of it.
    ///
    /// # Errors
    /// As [`KernelArena::create`].
    pub fn create_in<P: Protocol>(
        max_pages: u32,
        window_pages: u32,
    ) -> Result<Arc<Self>, CreateError> {
        let room = take_room().ok_or(CreateError::NoMemory)?;
        // The level 1 table above the windows is made at boot, so two creations touch no common
        // slot and need no lock.
        match Arena::<P, Machine>::create(
            Machine,
            kmap::root(),
            window(room, window_pages),
            max_pages,
        ) {
            Ok(arena) => Self::house(room, arena),
            Err(error) => {
                give_room_back(room);
                Err(error)
            }
        }
    }

    /// Puts an arena into its room; without memory for that, unmakes it.
    fn house<P: Protocol>(room: u32, arena: Arena<P, Machine>) -> Result<Arc<Self>, CreateError> {
        match try_box(arena) {
            Ok(arena) => {
                debug::list_arena(room, &*arena);
                // On failure the value is dropped, which destroys the arena and gives the room back.
                let arena = try_arc(Self { room, arena }).map_err(|_| CreateError::NoMemory)?;
                worker::list(&arena);
                Ok(arena)
            }
            Err(arena) => {
                if arena.destroy().is_ok() {
                    give_room_back(room);
                }
                Err(CreateError::NoMemory)
            }
        }
    }

    /// Frees pages for a program: now, or by a worker if the lock is not given.
    ///
    /// # Errors
    /// [`FreeError::Range`].
    pub fn free_for_program(&self, at: VirtAddr, pages: u32) -> Result<(), FreeError> {
        if self.arena.free_or_defer(at, pages)? == Freed::Later {
            worker::want(self.room);
        }
        Ok(())
    }

    /// Leaves a free to the worker: takes no lock. For contexts that must not.
    ///
    /// # Errors
    /// [`FreeError::Range`].
    pub fn free_later(&self, at: VirtAddr, pages: u32) -> Result<(), FreeError> {
        self.arena.defer(at, pages)?;
        worker::want(self.room);
        Ok(())
    }

    /// Number of the room, by which reports name the arena.
    pub fn room(&self) -> u32 {
        self.room
    }
}

impl Deref for KernelArena {
    type Target = dyn AnyArena + Send;

    fn deref(&self) -> &Self::Target {
        &*self.arena
    }
}

impl Drop for KernelArena {
    fn drop(&mut self) {
        worker::forget(self.room);
        let destroyed = self.arena.destroy();
        debug::forget_arena(self.room);
        match destroyed {
            Ok(()) => give_room_back(self.room),
            // The room stays taken: its tables may still be in place.
            Err(error) => {
                crate::log!("# arena {}: not destroyed: {error:?}", self.room);
            }
        }
    }
}

/// Where `va` lies among the windows; `None` if in none and in no guard.
pub fn place(va: VirtAddr) -> Option<Place> {
    let offset = va.get().checked_sub(FIRST_BASE.get() - (STRIDE / 2))?;
    let room = u32::try_from(offset / STRIDE).ok().filter(|&room| room < ROOMS)?;
    match window(room, FULL_PAGES).zone(va) {
        Zone::Outside => None,
        zone => Some(Place { room, zone }),
    }
}

fn window(room: u32, pages: u32) -> Window {
    let base = FIRST_BASE.offset(u64::from(room) * STRIDE);
    Window::new(base, pages, USER_BASE).expect("rooms are aligned")
}

fn take_room() -> Option<u32> {
    // Acquire: the new tenant's tables come after the old tenant's are gone. Nobody learns from the bit
    // that it is set, nor from a refusal.
    IN_USE
        .fetch_update(Ordering::Acquire, Ordering::Relaxed, |rooms| {
            let free = (!rooms).trailing_zeros();
            (free < ROOMS).then(|| rooms | 1 << free)
        })
        .ok()
        .map(|before| (!before).trailing_zeros())
}

fn give_room_back(room: u32) {
    // Release: pairs with `take_room`.
    IN_USE.fetch_and(!(1 << room), Ordering::Release);
}

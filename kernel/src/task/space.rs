//! A task's address space: its tables, its pages, its ASID.
//!
//! ```text
//!   0000_0001_0000_0000   the arena's user window, in the arena's own tables
//!   0000_0080_0000_0000   code, read and execute
//!   0000_0080_0010_0000   a page of data
//!   0000_0080_0020_0000   end of the stack; below it is nothing
//! ```

use core::fmt;

use arena::addr::{Frame, PAGE_SIZE, VirtAddr};
use arena::map::{MapError, Mapper, Region, level_size};
use arena::pte::{Access, Attributes, Memory, Pte};

use super::asid::Asid;
use crate::arch::user::LowerHalf;
use crate::arch::{barrier, cache, tlb};
use crate::mem::arena::KernelArena;
use crate::mem::frame;
use crate::mem::kmap;
use crate::mem::machine::{Machine, zero_now};

/// Where a task's code begins, and where it starts.
pub const CODE: VirtAddr = VirtAddr::new(0x80_0000_0000);
/// A task's page of data.
pub const DATA: VirtAddr = VirtAddr::new(0x80_0010_0000);
/// Where a task's stack begins, growing down.
pub const STACK_TOP: VirtAddr = VirtAddr::new(0x80_0020_0000);

/// Pages of a stack.
const STACK_PAGES: u64 = 4;
/// Bytes of code at most.
const CODE_BYTES: usize = (DATA.get() - CODE.get()) as usize;

/// Bytes under the entry of the root that is the task's own.
const OWN_BYTES: u64 = level_size(0);

/// Never executable at EL1 (PXN), and not writable: see `arena::pte`.
const TEXT: Attributes = Attributes { memory: Memory::Normal, access: Access::UserReadExecute };
const WRITABLE: Attributes = Attributes { memory: Memory::Normal, access: Access::UserReadWrite };

/// An address space. Of its tree it owns all but what hangs below the arena's entry.
#[derive(Debug)]
pub struct Space {
    root: Frame,
    asid: Asid,
}

/// Why an address space could not be made. Nothing is left behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpaceError {
    /// The program has no code, or more than fits.
    Code(usize),
    /// Every ASID is taken.
    NoAsid,
    /// No memory for its tables or pages.
    NoMemory,
    /// The arena has no tables for tasks to share.
    NoArenaTable,
}

impl Space {
    /// Makes an address space with a copy of `code`, an empty page of data and an empty stack, and
    /// with the arena's user window if there is an arena. Takes the arena's lock.
    ///
    /// # Errors
    /// [`SpaceError`].
    pub fn create(code: &[u8], arena: Option<&KernelArena>) -> Result<Self, SpaceError> {
        if code.is_empty() || code.len() > CODE_BYTES {
            return Err(SpaceError::Code(code.len()));
        }
        let asid = Asid::take().ok_or(SpaceError::NoAsid)?;
        let root = zeroed()?;
        // From here on dropping it frees what was made.
        let space = Self { root, asid };
        for (n, part) in (0..).zip(code.chunks(PAGE_SIZE as usize)) {
            let page = space.add_page(CODE.offset(n * PAGE_SIZE), TEXT)?;
            fill(page, part);
        }
        space.add_page(DATA, WRITABLE)?;
        for n in 1..=STACK_PAGES {
            space.add_page(VirtAddr::new(STACK_TOP.get() - n * PAGE_SIZE), WRITABLE)?;
        }
        if let Some(arena) = arena {
            space.share(arena)?;
        }
        Ok(space)
    }

    /// Puts the address space into this CPU's lower half.
    pub fn enter(&self) -> LowerHalf {
        LowerHalf::give(self.root, self.asid.number())
    }

    /// Calls `each` with every region that is the task's own, in address order.
    pub fn dump(&self, each: impl FnMut(Region)) {
        Mapper::new(&Machine, self.root).dump(CODE, OWN_BYTES, each);
    }

    fn add_page(&self, at: VirtAddr, attributes: Attributes) -> Result<Frame, SpaceError> {
        let page = zeroed()?;
        let mapper = Mapper::new(&Machine, self.root);
        match mapper.map(at, page.start(), PAGE_SIZE, attributes) {
            Ok(()) => Ok(page),
            Err(error) => {
                frame::free(page);
                debug_assert!(error == MapError::NoMemory, "{error}");
                Err(SpaceError::NoMemory)
            }
        }
    }

    /// Points the entry above the arena's window to the arena's own tables.
    fn share(&self, arena: &KernelArena) -> Result<(), SpaceError> {
        let table = arena.user_table().ok_or(SpaceError::NoArenaTable)?;
        let at = arena.window().user_base();
        debug_assert!(at.table_index(0) != CODE.table_index(0));
        slot(self.root, at.table_index(0))
            .try_set(&Machine, at, Pte::table(table))
            .map_err(|_| SpaceError::NoArenaTable)
    }
}

impl Drop for Space {
    /// No CPU has it in its lower half, so none walks its tables from here on: the half is given for
    /// as long as the space is borrowed. What the TLBs hold goes first, walks that were cached
    /// half-way included; then the frames; then, as a field, the ASID.
    fn drop(&mut self) {
        // Full: what must come before the TLBI is the sight that nobody is in the space any more, not a store.
        barrier::dsb_ish();
        tlb::aside1is(self.asid.number());
        barrier::dsb_ish();
        barrier::isb();
        let own = slot(self.root, CODE.table_index(0)).load(&Machine);
        if let Some(table) = own.next_table() {
            free_tree(table, 1);
        }
        frame::free(self.root);
    }
}

impl fmt::Display for SpaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(bytes) => write!(f, "{bytes} bytes of code: 1 to {CODE_BYTES} fit"),
            Self::NoAsid => f.write_str("every ASID is taken"),
            Self::NoMemory => f.write_str("no frame for tables or pages"),
            Self::NoArenaTable => f.write_str("the arena has no tables for tasks"),
        }
    }
}

/// Frees the table `table` of `level` and everything below it.
fn free_tree(table: Frame, level: u8) {
    for index in 0..512 {
        let entry = slot(table, index).load(&Machine);
        match entry.frame() {
            Some(next) if level < 3 => free_tree(next, level + 1),
            Some(page) => frame::free(page),
            None => {}
        }
    }
    frame::free(table);
}

/// A frame of zeroes: nothing of its last owner's reaches a task.
fn zeroed() -> Result<Frame, SpaceError> {
    let frame = frame::alloc().ok_or(SpaceError::NoMemory)?;
    zero_now(frame);
    Ok(frame)
}

/// Copies code to the start of a page.
fn fill(page: Frame, code: &[u8]) {
    let start = kmap::to_virt(page.start());
    assert!(code.len() <= PAGE_SIZE as usize, "a part is a page at most");
    // SAFETY: the frame was allocated for this and the direct map makes all of it writable; no task
    // runs it yet.
    unsafe { (start.get() as *mut u8).copy_from_nonoverlapping(code.as_ptr(), code.len()) };
    cache::publish_code(start, code.len() as u64);
}

fn slot(table: Frame, index: usize) -> &'static arena::slot::PteSlot {
    use arena::hw::Tables;
    Machine.slot(table, index)
}

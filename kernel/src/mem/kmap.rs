//! The kernel's own map: all RAM and devices at a fixed offset, the image with the permissions of
//! its sections, stack guards as holes.
//!
//! ```text
//!   ffff_0000_0000_0000  direct map: virtual = physical + this
//!   ffff_8000_0000_0000  arena windows (see `mem::arena`)
//!   ffff_f000_0000_0000  one page for tests to map, with its tables
//! ```
//!
//! The image is part of the direct map and has no other mapping, so text has no writable alias.

use arena::addr::{Frame, PAGE_SIZE, PhysAddr, VirtAddr};
use arena::hw::{Frames, LockName};
use arena::map::{MapError, Mapper, Region};
use arena::pte::{Access, Attributes, Memory, Stamp};
use arena::walk::{Walk, walk};
use core::sync::atomic::{AtomicU64, Ordering};

use crate::arch::layout::{self, Section};
use crate::dev::fdt;
use crate::mem::lock::IrqSpinLock;
use crate::mem::machine::Machine;

/// Virtual address of physical address 0.
pub const DIRECT_BASE: u64 = boot::DIRECT_BASE;
/// A page that nothing uses, whose tables exist: tests map and unmap it.
pub const TEST_PAGE: VirtAddr = VirtAddr::new(0xffff_f000_0000_0000);
/// Bytes of the kernel's half of the address space.
const HALF_BYTES: u64 = 1 << 48;

static KMAP_NAME: LockName = LockName("kmap");
/// Serialises changes of the tables; the value counts the stamps used.
static KMAP: IrqSpinLock<u64> = IrqSpinLock::named(&KMAP_NAME, 0);
static ROOT: AtomicU64 = AtomicU64::new(0);

const _: () = assert!(arena::pte::MAIR_EL1 == boot::MAIR, "descriptors index boot's MAIR_EL1");

const TEXT: Attributes = Attributes { memory: Memory::Normal, access: Access::KernelReadExecute };
const RODATA: Attributes = Attributes { memory: Memory::Normal, access: Access::KernelRead };

/// Where the direct map shows a physical address.
pub const fn to_virt(pa: PhysAddr) -> VirtAddr {
    VirtAddr::new(DIRECT_BASE + pa.get())
}

/// The physical address behind an address of the direct map.
pub const fn to_phys(va: VirtAddr) -> PhysAddr {
    PhysAddr::new(va.get() - DIRECT_BASE)
}

/// The root of the kernel's tables.
pub fn root() -> Frame {
    // Relaxed: written once at boot, before other CPUs start.
    Frame::containing(PhysAddr::new(ROOT.load(Ordering::Relaxed)))
}

/// Where the root's physical address is kept, for [`crate::debug`].
pub const fn root_word() -> &'static AtomicU64 {
    &ROOT
}

/// Whether the tables are there yet.
pub fn is_built() -> bool {
    ROOT.load(Ordering::Relaxed) != 0
}

/// Whether a physical address is mapped as normal memory of the direct map.
pub fn is_ram(pa: PhysAddr) -> bool {
    let attributes = walk_to(to_virt(pa)).last().attributes();
    attributes.is_some_and(|attributes| attributes.memory == Memory::Normal)
}

/// Builds the final tables for the machine of `tree`. The early map is still active and reaches all memory
/// that this allocates from.
///
/// # Errors
/// No memory, or regions of the device tree that overlap.
pub fn build(tree: &fdt::Machine) -> Result<(), MapError> {
    let root = Machine.alloc().ok_or(MapError::NoMemory)?;
    Machine.zero(root);
    ROOT.store(root.start().get(), Ordering::Relaxed);
    let mapper = Mapper::new(&Machine, root);
    for ram in tree.memory.iter() {
        map_ram(&mapper, ram.base, ram.base.offset(ram.bytes))?;
    }
    for device in tree.devices() {
        let start = Frame::containing(device.base).start();
        let end = (device.base.get() + device.bytes).next_multiple_of(PAGE_SIZE);
        map_run(&mapper, start, PhysAddr::new(end), Attributes::DEVICE)?;
    }
    mapper.make_tables(TEST_PAGE, 3)?;
    mapper.make_tables(crate::mem::arena::FIRST_BASE, 1)
}

/// Runs `change` on the kernel's map, one change at a time; the second argument gives stamps.
pub fn change<R>(change: impl FnOnce(&Mapper<'_, Machine>, &mut dyn FnMut() -> Stamp) -> R) -> R {
    let mut stamps = KMAP.acquire();
    let mut next = || {
        *stamps += 1;
        Stamp::new(*stamps).expect("fewer than 2^63 changes")
    };
    change(&Mapper::new(&Machine, root()), &mut next)
}

/// Walks the kernel's tables towards `va`. Any context.
pub fn walk_to(va: VirtAddr) -> Walk<'static> {
    walk(&Machine, root(), va)
}

/// Calls `each` with every mapped region of the kernel's half, merged, in address order.
pub fn dump(each: impl FnMut(Region)) {
    Mapper::new(&Machine, root()).dump(VirtAddr::new(DIRECT_BASE), HALF_BYTES, each);
}

/// Maps one run of RAM; where the image lies in it, section by section.
fn map_ram(mapper: &Mapper<'_, Machine>, start: PhysAddr, end: PhysAddr) -> Result<(), MapError> {
    let data = Attributes::KERNEL_DATA;
    let mut at = start;
    for (section, from, to) in layout::image_sections() {
        if from < at || to > end {
            continue;
        }
        map_run(mapper, at, from, data)?;
        match section {
            Section::Text => map_run(mapper, from, to, TEXT)?,
            Section::Rodata => map_run(mapper, from, to, RODATA)?,
            Section::Data => map_run(mapper, from, to, data)?,
            Section::Guard => {}
        }
        at = to;
    }
    map_run(mapper, at, end, data)
}

fn map_run(
    mapper: &Mapper<'_, Machine>,
    start: PhysAddr,
    end: PhysAddr,
    attributes: Attributes,
) -> Result<(), MapError> {
    mapper.map(to_virt(start), start, end.get() - start.get(), attributes)
}

//! QEMU's fw_cfg: named files that the host hands to the guest (QEMU docs/specs/fw_cfg.rst).
//!
//! A driver of our own: crate `qemu-fw-cfg` 0.2 reads eight bytes where it wants four, and so loses its
//! place in the directory.

use alloc::vec::Vec;

use arena::addr::PhysAddr;
use spin::Mutex;

use super::{Region, direct_ptr};

/// Selector of the directory of files.
const DIRECTORY: u16 = 0x19;
/// Selector of four bytes that say `QEMU`.
const SIGNATURE: u16 = 0;
/// Offset of the selector register, 16 bits, big-endian. The data register is at 0.
const SELECTOR: u64 = 8;
/// Bytes of a name, zeroes behind it.
const NAME: usize = 56;
/// Largest file that is read: an image of a program is far smaller.
const MOST_BYTES: usize = 8 << 20;

/// The device's registers, if the machine has one. Held while it is read: it has one selector.
static DEVICE: Mutex<Option<Region>> = Mutex::new(None);

/// Says where the device is. Boot only.
pub fn init(region: Option<Region>) {
    *DEVICE.lock() = region.filter(|region| region.bytes > SELECTOR);
}

/// The file called `name`; `None` if there is no device, no such file, or no memory for it. Not from
/// interrupts.
pub fn read(name: &str) -> Option<Vec<u8>> {
    let device = DEVICE.lock();
    let base = (*device)?.base;
    select(base, SIGNATURE);
    if next::<4>(base) != *b"QEMU" {
        return None;
    }
    let (selector, size) = find(base, name)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).ok()?;
    select(base, selector);
    bytes.extend((0..size).map(|_| next_byte(base)));
    Some(bytes)
}

/// Selector and size of a file.
fn find(base: PhysAddr, name: &str) -> Option<(u16, usize)> {
    select(base, DIRECTORY);
    let count = u32::from_be_bytes(next(base));
    for _ in 0..count {
        let size = u32::from_be_bytes(next(base)) as usize;
        let selector = u16::from_be_bytes(next(base));
        let _reserved: [u8; 2] = next(base);
        let found: [u8; NAME] = next(base);
        let found = found.split(|byte| *byte == 0).next();
        if found == Some(name.as_bytes()) {
            return (size <= MOST_BYTES).then_some((selector, size));
        }
    }
    None
}

fn select(base: PhysAddr, selector: u16) {
    // SAFETY: the device tree says that a fw_cfg device is there, and the kernel's map has it; the
    // caller holds its lock.
    unsafe { direct_ptr::<u16>(base.offset(SELECTOR)).write_volatile(selector.to_be()) }
}

/// The next bytes of what is selected.
fn next<const N: usize>(base: PhysAddr) -> [u8; N] {
    core::array::from_fn(|_| next_byte(base))
}

fn next_byte(base: PhysAddr) -> u8 {
    // SAFETY: as in `select`.
    unsafe { direct_ptr::<u8>(base).read_volatile() }
}

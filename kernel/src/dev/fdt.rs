//! The device tree: found and measured here, read by the crate `tree`.

use arena::addr::PhysAddr;
use tree::TreeError;

use super::direct_ptr;

/// What the tree of this machine says.
pub type Machine = tree::Machine<'static>;

/// Where QEMU puts the tree when it starts an ELF.
const START_OF_RAM: u64 = 0x4000_0000;
/// The early map reaches to here.
const EARLY_MAP_END: u64 = 0x1_0000_0000;

const _: () = assert!(tree::MAX_CPUS == boot::MAX_CPUS, "every CPU that can be started is kept");

/// Reads the tree at the physical address `x0`, or at the start of RAM if that is 0.
///
/// # Errors
/// See [`TreeError`].
pub fn read(x0: u64) -> Result<Machine, TreeError> {
    let address = PhysAddr::new(if x0 == 0 { START_OF_RAM } else { x0 });
    tree::read(blob(address)?, address)
}

/// The bytes of the tree, header checked.
fn blob(address: PhysAddr) -> Result<&'static [u8], TreeError> {
    let end = address.get().checked_add(u64::from(tree::MAX_BYTES));
    if address.get() < START_OF_RAM
        || !address.get().is_multiple_of(8)
        || end.is_none_or(|end| end > EARLY_MAP_END)
    {
        return Err(TreeError::BadAddress(address.get()));
    }
    let start = direct_ptr::<u32>(address);
    // SAFETY: inside the early map, normal memory, aligned. Beyond the end of RAM QEMU answers
    // with an abort, which is reported.
    let words = unsafe { start.cast::<[u32; 2]>().read_volatile() };
    let bytes = tree::size(address, words)?;
    // SAFETY: mapped, initialised (it is RAM), and nobody writes to it: the region is reported
    // as `Machine::dtb`, which is never given to an allocator.
    Ok(unsafe { core::slice::from_raw_parts(start.cast::<u8>(), bytes) })
}

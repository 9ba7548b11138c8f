//! Devices: thin wrappers over driver crates.

pub mod fdt;
pub mod fwcfg;
pub mod gic;
pub mod psci;
pub mod uart;

use arena::addr::{PhysAddr, VirtAddr};
pub use tree::Region;

/// Where the direct map has `address`: all of RAM and the devices, from the early map on.
pub const fn direct(address: PhysAddr) -> VirtAddr {
    VirtAddr::new(boot::DIRECT_BASE.wrapping_add(address.get()))
}

/// The same as a pointer.
pub fn direct_ptr<T>(address: PhysAddr) -> *mut T {
    core::ptr::with_exposed_provenance_mut(direct(address).get() as usize)
}

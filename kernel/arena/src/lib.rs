//! The protocols of Faultline, without a machine.
//!
//! Everything here can be wrong without hardware, so everything here is host-tested and linked
//! unchanged into the kernel. Hardware is seen only through the traits of [`hw`]; atomics only
//! through [`sync`].
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod addr;
pub mod sync;

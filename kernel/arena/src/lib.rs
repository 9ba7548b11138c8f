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
pub mod arena;
pub mod esr;
pub mod frames;
pub mod hw;
pub mod lifecycle;
pub mod map;
#[cfg(test)]
mod model;
pub mod protocol;
pub mod pte;
pub mod range;
pub mod resilient;
pub mod slot;
pub mod step;
pub mod stream;
pub mod sync;
pub mod walk;
pub mod window;

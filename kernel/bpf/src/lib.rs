//! eBPF programs without a machine: what an instruction is (RFC 9669), which programs are let in, how
//! one is run, and the image in which the host hands one over.
//!
//! What only a machine can do, the accesses to an arena and the kernel functions, is behind
//! [`vm::Machine`]; so all of this is host-tested and linked unchanged into the kernel.
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod asm;
pub mod check;
pub mod image;
pub mod insn;
pub mod interp;
pub mod kfunc;
pub mod random;
pub mod vm;

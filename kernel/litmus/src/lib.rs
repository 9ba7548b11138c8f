//! The litmus tests of the PTE protocol as values: what herd7 is given as text, read into threads of
//! instructions, an initial state and a condition, so that a machine can run the very same tests.
//!
//! - [`texts`]: the tests that EXPECT names, as they are in this folder.
//! - [`expect`]: what the model says of each.
//! - [`parse`]: text to [`Test`](test::Test); an instruction that no machine could run by it is an error.
//! - [`condition`]: the `exists` clause, and whether an outcome fulfils it.
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

pub mod condition;
pub mod expect;
mod insn;
pub mod parse;
pub mod test;

/// The text of EXPECT.
pub const EXPECT: &str = include_str!("../EXPECT");

/// Name and text of every test that EXPECT names, in its order.
pub const fn texts() -> &'static [(&'static str, &'static str)] {
    &include!(concat!(env!("OUT_DIR"), "/texts.rs"))
}

//! KTAP 1 as Faultline speaks it, and the record by which an image lists its tests.
//!
//! - [`mod@write`]: the guest's side. No allocation; whole lines only, so that CPUs cannot interleave.
//! - [`parse`] (feature `parse`): the host's side. Strict, line by line, in bounded memory.
//! - [`item`]: the layout of a record in the image's section `.faultline.items`; with feature
//!   `parse` also its decoder.
//!
//! The dialect: a version line, the plan right after it, one subtest a suite with a version line,
//! a `# Subtest` line and a plan of its own, results in order, the suite's result under the same
//! name. Nothing before the first line, nothing after the last result. Linux
//! `Documentation/dev-tools/ktap.rst` is the reference; every log of ours is valid by it.
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(any(feature = "parse", test))]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod item;
#[cfg(feature = "parse")]
pub mod parse;
pub mod write;

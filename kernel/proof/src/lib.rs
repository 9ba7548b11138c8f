//! The protocols under model checkers, in the very source that the kernel runs.
//!
//! Built with `--cfg loom`: every interleaving and every outcome of the atomics that the language's
//! memory model allows, of small scenarios. Built with `--cfg shuttle`: random schedules, sequentially
//! consistent, of the same and of larger ones. `cargo xtask test` does both; empty otherwise. What a TLB,
//! its maintenance and its walks are here is in `machine`.
#![warn(missing_docs)]

#[cfg(all(test, any(loom, shuttle)))]
extern crate alloc;

#[cfg(all(test, any(loom, shuttle)))]
mod arenas;
#[cfg(all(test, any(loom, shuttle)))]
mod board;
#[cfg(all(test, any(loom, shuttle)))]
mod bugs;
#[cfg(all(test, any(loom, shuttle)))]
mod checker;
#[cfg(all(test, any(loom, shuttle)))]
mod lab;
#[cfg(all(test, any(loom, shuttle)))]
mod machine;
#[cfg(all(test, shuttle))]
mod mix;
#[cfg(all(test, any(loom, shuttle)))]
mod page;
#[cfg(all(test, any(loom, shuttle)))]
mod run;
#[cfg(all(test, loom))]
mod shared;

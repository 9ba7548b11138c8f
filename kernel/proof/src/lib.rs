//! The protocols under loom: the very source that the kernel runs, in every interleaving and every
//! outcome of its atomics that the language's memory model allows.
//!
//! Built with `--cfg loom`, as `cargo xtask test` does; empty otherwise. What a TLB and its
//! maintenance are here is in `machine`: a TLBI takes effect at the DSB behind it. What loom cannot see is
//! a missing DSB before a TLBI, and a missing ISB: those are herd7's (`kernel/litmus/ORDERING.md`).
#![warn(missing_docs)]

#[cfg(all(test, loom))]
mod machine;
#[cfg(all(test, loom))]
mod page;
#[cfg(all(test, loom))]
mod run;
#[cfg(all(test, loom))]
mod shared;
#[cfg(all(test, loom))]
mod whole;

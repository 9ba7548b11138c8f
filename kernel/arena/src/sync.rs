//! The one place that chooses whose atomics the protocols run on.
//!
//! `core` in the kernel and in ordinary host tests. A model checker that brings its own atomics
//! is switched in here and nowhere else, so that it runs the very source that the kernel runs.

#[cfg(not(any(loom, shuttle)))]
pub use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

#[cfg(shuttle)]
pub use shuttle::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

//! The model checker that this is built for: loom runs every execution, shuttle a random part of them.

#[cfg(loom)]
pub use loom::{sync, thread, thread_local};
#[cfg(shuttle)]
pub use shuttle::{sync, thread, thread_local};

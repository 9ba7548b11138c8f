//! In place of the variants where the image has no lab: the default protocol and nothing else.

// Measured beside the default protocol.
#[path = "../variant/trylock_retry.rs"]
pub mod trylock_retry;

use crate::arch::trap::TrapFrame;

/// The default protocol, by its name.
pub fn find(name: &str) -> Option<()> {
    (name == "default").then_some(())
}

/// Whether `name` is the default protocol.
pub fn select(name: &str) -> bool {
    find(name).is_some()
}

/// Never.
pub const fn finds_by_unwind() -> bool {
    false
}

/// Never.
pub const fn tears_down_hastily() -> bool {
    false
}

/// Never asked.
pub const fn unwinds_to_program(_: &TrapFrame) -> bool {
    false
}

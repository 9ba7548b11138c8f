//! The lab: scenarios that play the races of the catalogue, and the variants that must lose them.

pub mod accounting;
#[cfg(not(feature = "lab"))]
#[path = "absent/engine.rs"]
pub mod engine;
#[cfg(feature = "lab")]
pub mod engine;
#[cfg(not(feature = "lab"))]
#[path = "absent/explore.rs"]
pub mod explore;
#[cfg(feature = "lab")]
pub mod explore;
pub mod options;
#[cfg(feature = "lab")]
pub mod race;
#[cfg(feature = "lab")]
pub mod scenario;
#[cfg(not(feature = "lab"))]
#[path = "absent/variant.rs"]
pub mod variant;
#[cfg(feature = "lab")]
pub mod variant;

use crate::arch::trap::TrapFrame;
use crate::prog::program::Program;
use crate::prog::running;

/// Finds the program whose fault this is and calls `with` on it: the explicit stack of running
/// programs, except under the variant that looks for it by unwinding.
pub fn find_program<R>(frame: &TrapFrame, with: impl FnOnce(&Program) -> R) -> Option<R> {
    if cfg!(feature = "lab") && variant::finds_by_unwind() && !variant::unwinds_to_program(frame) {
        return None;
    }
    running::with_current(with)
}

//! Page accounting: what a scenario took, it must have given back, to the last frame.

use alloc::format;

use crate::mem::frame;
use crate::runner::Failure;

/// The frames in use at one moment of quiet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Snapshot {
    frames: u64,
}

impl Snapshot {
    /// Counts now. No CPU may be inside the allocator.
    pub fn take() -> Self {
        Self { frames: frame::in_use() }
    }

    /// Frames in use when it was taken.
    pub fn frames(self) -> u64 {
        self.frames
    }

    /// Compares with now.
    ///
    /// # Errors
    /// The counts, if they differ: a leak, or a frame freed twice.
    pub fn check(self) -> Result<(), Failure> {
        let now = frame::in_use();
        if now == self.frames {
            return Ok(());
        }
        let difference = now.wrapping_sub(self.frames) as i64;
        let what = if difference > 0 { "leaked" } else { "freed that were not allocated" };
        Err(Failure::new(format!(
            "page accounting: {} frames in use before, {now} after: {} {what}",
            self.frames,
            difference.unsigned_abs()
        )))
    }
}

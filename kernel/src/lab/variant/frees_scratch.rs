//! `frees-scratch`: whatever a slot held is freed.

use arena::addr::Frame;
use arena::arena::Arena;
use arena::hw::Platform;
use arena::protocol::Protocol;

/// Freeing a range gives whatever its slots held to the allocator, the scratch page included.
pub struct FreesScratch;

impl Protocol for FreesScratch {
    const NAME: &'static str = "frees-scratch";

    fn shared_frame<M: Platform>(_: &Arena<Self, M>) -> Option<Frame> {
        None
    }
}

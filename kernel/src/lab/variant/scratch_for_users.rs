//! `scratch-for-users`: a task's touch maps what the kernel's entry maps, whatever that is.

use arena::protocol::Protocol;

/// A task is given the scratch page where a wild access left it.
pub struct ScratchForUsers;

impl Protocol for ScratchForUsers {
    const NAME: &'static str = "scratch-for-users";

    const SCRATCH_FOR_USERS: bool = true;
}

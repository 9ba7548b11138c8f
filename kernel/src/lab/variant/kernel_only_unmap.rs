//! `kernel-only-unmap`: a free clears the kernel's window and leaves the user's.

use arena::protocol::Protocol;

/// A task that has a page mapped keeps it when the page is freed.
pub struct KernelOnlyUnmap;

impl Protocol for KernelOnlyUnmap {
    const NAME: &'static str = "kernel-only-unmap";

    const UNMAPS_USER: bool = false;
}

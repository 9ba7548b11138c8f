//! In place of the engine where the image has no lab: nothing is on, and every hook is nothing.

use arena::step::StepPoint;

/// Never.
#[inline(always)]
pub const fn is_acting() -> bool {
    false
}

/// Nothing.
#[inline(always)]
pub const fn step(_: StepPoint, _: u64) {}

/// Never called: nobody acts.
#[inline(always)]
pub const fn block(_: u64) {}

/// Nothing.
#[inline(always)]
pub const fn unblock(_: u64) {}

/// Nothing: no actor waits.
#[inline(always)]
pub const fn block_for_a_time(_: u64) -> bool {
    false
}

/// Nothing.
#[inline(always)]
pub const fn wake_waiter(_: usize) {}

/// Nothing: no schedule raises interrupts.
#[inline(always)]
pub fn on_raised(_: impl FnOnce()) {}

/// A pause in a loop that waits for another CPU.
pub fn pause() {
    crate::arch::barrier::wait_hint();
}

/// See the module.
pub mod hook {
    use arena::addr::Frame;

    /// No frame of the lab's.
    #[inline(always)]
    pub const fn frame() -> Option<Option<Frame>> {
        None
    }

    /// Nothing.
    #[inline(always)]
    pub const fn torn_down(_: u32) {}

    /// Nothing.
    #[inline(always)]
    pub const fn violation() {}

    /// Nothing.
    #[inline(always)]
    pub const fn report() {}
}

//! `drops-deferred`: a free that cannot be done now is not done at all.

use arena::addr::PageRange;
use arena::arena::Arena;
use arena::hw::Platform;
use arena::protocol::Protocol;

/// A free whose lock is not given leaves no note.
pub struct DropsDeferred;

impl Protocol for DropsDeferred {
    const NAME: &'static str = "drops-deferred";

    fn defer<M: Platform>(_: &Arena<Self, M>, _: PageRange) {}
}

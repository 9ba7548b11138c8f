//! `aa-fault.explored`: the founding case, with a second CPU that faults on the same page.
//!
//! Actors: L (CPU 0) allocates a page, and P under its lock sends a kernel function to the page
//! behind it; B (CPU 1) writes to that page as well.
//! Right: one of the two installs scratch without the lock, and both go on; L gets its page.
//! Wrong (`trylock-retry`): P's fault waits for the lock below it, for ever.

use super::under_lock::{Plan, explore};
use crate::runner::item;
use crate::runner::item::variant;

item! {
    name: "aa-fault.explored",
    suite: "scenario",
    about: "a program under the arena lock and another CPU fault on one page",
    variants: &[
        variant("trylock-retry", "the abort handler waits for the lock", "fail: no-progress"),
        variant("plain-spin", "the handler waits for the lock", "fail: deadlock"),
    ],
    min_cpus: 2,
    explored: true,
    run: |ctx| explore(ctx, Plan { pages: 1, wild_is_second: true, old_scratch: false }),
}

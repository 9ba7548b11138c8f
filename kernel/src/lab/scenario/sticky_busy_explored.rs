//! `sticky-busy.explored`: an allocation of two pages; one holds the scratch of an old violation, on
//! the other P under the lock and B on another CPU fault.
//!
//! Right: the allocation succeeds over old scratch and new.
//! Wrong (`busy`): it fails now and for ever.

use super::under_lock::{Plan, explore};
use crate::runner::item;
use crate::runner::item::variant;

item! {
    name: "sticky-busy.explored",
    suite: "scenario",
    about: "an allocation over old scratch while faults leave more",
    variants: &[
        variant("busy", "the install takes scratch for an error", "fail: the allocation failed"),
    ],
    min_cpus: 2,
    explored: true,
    run: |ctx| explore(ctx, Plan { pages: 2, wild_is_second: true, old_scratch: true }),
}

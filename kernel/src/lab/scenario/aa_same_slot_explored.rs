//! `aa-same-slot.explored`: P under the lock and B on another CPU fault on the very slot that L is
//! about to fill.
//!
//! Right: L breaks whoever's scratch it finds, flushes, and maps its page.
//! Wrong (`busy`): L fails. (`no-tlbi`): L's page is made while a TLB may hold scratch.

use super::under_lock::{Plan, explore};
use crate::runner::item;
use crate::runner::item::variant;

item! {
    name: "aa-same-slot.explored",
    suite: "scenario",
    about: "a program under the lock and another CPU fault on the slot to be filled",
    variants: &[
        variant("busy", "the install takes scratch for an error", "fail: the allocation failed"),
        variant("no-tlbi", "scratch is replaced without TLB maintenance", "fail: make-before-tlbi"),
    ],
    min_cpus: 2,
    explored: true,
    run: |ctx| explore(ctx, Plan { pages: 1, wild_is_second: false, old_scratch: false }),
}

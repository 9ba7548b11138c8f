//! Faults on demand, so that the harness can be seen to notice each of them.
//!
//! `inject=KIND[@ITEM][,KIND[@ITEM]...]`: with a name the fault comes before that item, without one
//! where its kind belongs (before the second item, if it is one that comes between items).

use crate::arch::irq;
use crate::log;

use super::item::Item;

/// Kinds that come between two items.
const BETWEEN: &[&str] = &["oops", "hang", "panic", "cut", "second-header"];
/// Kinds that come where they must.
const ELSEWHERE: &[&str] = &["silent", "garbage", "after-end"];

/// Whether all of `faults` can be injected.
pub fn is_known(faults: &str) -> bool {
    faults.split(',').all(|fault| match fault.split_once('@') {
        Some((kind, item)) => BETWEEN.contains(&kind) && Item::find(item).is_some(),
        None => BETWEEN.contains(&fault) || ELSEWHERE.contains(&fault),
    })
}

/// Faults that come before the first line of the log.
pub fn before_the_log(faults: &str) {
    if asks_for(faults, "silent") {
        stop();
    }
    if asks_for(faults, "garbage") {
        garbage();
        stop();
    }
}

/// Faults that come before `next`, with `started` items behind it.
pub fn between_items(faults: &str, started: usize, next: &Item) {
    for fault in faults.split(',') {
        match fault.split_once('@') {
            Some((kind, item)) if item == next.name() => come(kind),
            None if started == 1 => come(fault),
            _ => {}
        }
    }
}

/// Faults that come after the last result.
pub fn after_the_end(faults: &str) {
    if asks_for(faults, "after-end") {
        log!("# one line too many");
    }
}

fn asks_for(faults: &str, kind: &str) -> bool {
    faults.split(',').any(|fault| fault == kind)
}

fn come(kind: &str) {
    match kind {
        "oops" => {
            crate::prog::kfunc::read_word(arena::addr::VirtAddr::new(0xffff_7fff_dead_0000));
        }
        "hang" => stop(),
        "panic" => panic!("injected"),
        "cut" => crate::arch::exit::exit(crate::arch::exit::Code::Passed),
        "second-header" => log!("KTAP version 1"),
        _ => {}
    }
}

/// 64 KiB that are no KTAP: a linear congruential sequence, the same each time.
fn garbage() {
    let mut state: u32 = 1;
    for _ in 0..64 * 1024 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        crate::dev::uart::write(&[(state >> 24) as u8]);
    }
}

fn stop() -> ! {
    irq::mask_all();
    loop {
        crate::arch::barrier::wfi();
    }
}

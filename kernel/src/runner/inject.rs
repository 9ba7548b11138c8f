//! Faults on demand, so that the harness can be seen to notice each of them; and `walk`, which is
//! none: the guest tells its map and waits, for the host to ask QEMU about it.
//!
//! `inject=KIND[@ITEM][,KIND[@ITEM]...]`: with a name the fault comes before that item, without one
//! where its kind belongs (before the second item, if it is one that comes between items).

use core::sync::atomic::{AtomicBool, Ordering};

use arena::hw::LockName;

use crate::arch::irq;
use crate::arch::percpu::CpuId;
use crate::arch::smp::{self, CpuSet};
use crate::log;
use crate::mem::lock::IrqSpinLock;

use super::item::Item;

static INJECTED_NAME: LockName = LockName("injected");
/// Guards nothing: it is there to be held by a guest that hangs.
static INJECTED: IrqSpinLock<()> = IrqSpinLock::named(&INJECTED_NAME, ());

/// Kinds that come between two items.
const BETWEEN: &[&str] = &[
    "oops",
    "hang",
    "hang-locked",
    "hang-waiting",
    "panic",
    "cut",
    "second-header",
    "walk",
    "flood",
    "chatter",
];
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
        "hang-locked" => {
            let _held = INJECTED.acquire();
            stop()
        }
        "hang-waiting" => wait_for_another(),
        "panic" => panic!("injected"),
        "walk" => crate::test::walk::tell_and_wait(),
        "cut" => crate::arch::exit::exit(crate::arch::exit::Code::Passed),
        "second-header" => log!("KTAP version 1"),
        "flood" => loop {
            garbage();
        },
        "chatter" => loop {
            log!("# and another thing");
            crate::arch::barrier::wfi();
        },
        _ => {}
    }
}

/// The boot CPU waits for a lock that another CPU never gives back.
fn wait_for_another() {
    let is_taken = AtomicBool::new(false);
    smp::on_each(CpuSet::online(), |cpu| {
        if cpu == CpuId::BOOT {
            while !is_taken.load(Ordering::Acquire) {
                core::hint::spin_loop();
            }
        }
        let _held = INJECTED.acquire();
        // Release: pairs with the boot CPU's look, which so comes second to the lock.
        is_taken.store(true, Ordering::Release);
        stop()
    });
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

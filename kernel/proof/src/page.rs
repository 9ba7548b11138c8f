//! One page: installs, clears, replacements, and faults beside them.

use arena::addr::{Frame, VirtAddr};
use arena::pte::{Attributes, Pte, Stamp, State};
use arena::slot::PteSlot;

use crate::checker::sync::Arc;
use crate::checker::thread;
#[cfg(loom)]
use crate::machine::RELAXED_INSTALL;
use crate::machine::{
    Cpu, LOCAL_TLBI, NO_DSB_AFTER, NO_DSB_BEFORE, NO_DSB_PUBLISH, NO_HELP, NO_ISB, NO_TLBI,
    NO_TLBI_UNWATCHED, SOUND, Timing,
};
use crate::run::{fails, holds, holds_within};

/// Preemptions where all executions would take minutes: 4.6 million of the helper's.
const PREEMPTIONS: Option<usize> = Some(5);

const PAGE: VirtAddr = VirtAddr::new(0x1000);
const SCRATCH: usize = 0;
const FIRST: usize = 1;
const SECOND: usize = 2;

fn entry(frame: usize) -> Pte {
    Pte::page(Frame::from_number(frame as u64), Attributes::KERNEL_DATA)
}

fn stamp(number: u64) -> Stamp {
    Stamp::new(number).unwrap()
}

/// Two CPUs and an empty slot.
fn two<const W: u8>(timing: Timing) -> ([Cpu<W>; 2], Arc<PteSlot>) {
    let cpus = Cpu::all(timing, true);
    let slot = Arc::new(PteSlot::default());
    // A frame is its page's for good here, freed or not.
    cpus[0].has_slots(std::slice::from_ref(&*slot), PAGE, SCRATCH, 0..0);
    (cpus, slot)
}

/// What the abort handler does, and the access that is retried behind it.
fn access_and_recover<const W: u8>(cpu: &Cpu<W>, slot: &PteSlot) -> u64 {
    let access = || cpu.access(PAGE, slot).map(|(_, word)| word);
    if let Some(word) = access() {
        return word;
    }
    let _lost = slot.try_set(cpu, PAGE, entry(SCRATCH));
    // Another CPU may clear the slot again; each such clear is one of this model.
    access().or_else(access).unwrap_or_default()
}

/// Two faults on one page, which nobody clears: each install is there for the access behind it.
fn two_faults<const W: u8>(timing: Timing) {
    let ([one, other], slot) = two::<W>(timing);
    one.zero(SCRATCH);
    let fault = |cpu: &Cpu<W>, slot: &PteSlot| {
        if cpu.access(PAGE, slot).is_none() && slot.try_set(cpu, PAGE, entry(SCRATCH)).is_ok() {
            assert!(cpu.access(PAGE, slot).is_some(), "the access faults again behind its install");
        }
    };
    let shared = Arc::clone(&slot);
    let faulting = thread::spawn(move || fault(&other, &shared));
    fault(&one, &slot);
    faulting.join().unwrap();
    assert_eq!(slot.load(&one), entry(SCRATCH));
}

/// An allocation beside a wild access: whoever comes first, the page ends up mapped, and the access sees
/// scratch or a page that is zeroed.
fn fault_vs_alloc<const W: u8>(timing: Timing) {
    let ([alloc, fault], slot) = two::<W>(timing);
    alloc.zero(SCRATCH);
    let shared = Arc::clone(&slot);
    let faulting = thread::spawn(move || access_and_recover(&fault, &shared));
    alloc.zero(FIRST);
    if slot.try_set(&alloc, PAGE, entry(FIRST)).is_err() {
        let mut stamps = 1..;
        let _scratch = slot.replace(&alloc, PAGE, entry(FIRST), || stamp(stamps.next().unwrap()));
    }
    let seen = faulting.join().unwrap();
    assert_eq!(seen, 0, "a wild access sees what a frame held before it was zeroed");
    assert_eq!(slot.load(&alloc), entry(FIRST), "the allocation is lost");
}

/// A free beside an access that may have the translation already: no touch of the frame once it is free,
/// and no CPU translates to scratch while another does to the page.
fn clear_vs_access<const W: u8>(timing: Timing) {
    let ([free, other], slot) = two::<W>(timing);
    [SCRATCH, FIRST].into_iter().for_each(|frame| free.zero(frame));
    slot.try_set(&free, PAGE, entry(FIRST)).unwrap();
    let shared = Arc::clone(&slot);
    let accessing = thread::spawn(move || {
        for _ in 0..2 {
            access_and_recover(&other, &shared);
        }
    });
    // It has the translation itself, and the same wild access behind its free.
    free.access(PAGE, &slot);
    let cleared = slot.clear(&free, PAGE, stamp(1));
    if cleared == entry(FIRST) {
        free.set_in_use(FIRST, false);
    }
    free.access(PAGE, &slot);
    accessing.join().unwrap();
    assert_ne!(slot.load(&free), entry(FIRST), "the cleared entry came back");
}

/// Two frees of one page: its frame goes back once.
fn two_clears<const W: u8>(timing: Timing) {
    let ([one, other], slot) = two::<W>(timing);
    slot.try_set(&one, PAGE, entry(FIRST)).unwrap();
    let clear = |cpu: &Cpu<W>, slot: &PteSlot, number| {
        if slot.clear(cpu, PAGE, stamp(number)) == entry(FIRST) {
            cpu.set_in_use(FIRST, false);
        }
    };
    let shared = Arc::clone(&slot);
    let clearing = thread::spawn(move || clear(&other, &shared, 2));
    clear(&one, &slot, 1);
    clearing.join().unwrap();
    assert_eq!(slot.load(&one).state(), State::Empty, "a tombstone is left");
}

/// A replacement of scratch by a page beside an access: nobody translates to both at once.
fn replace_vs_access<const W: u8>(timing: Timing) {
    let ([alloc, other], slot) = two::<W>(timing);
    [SCRATCH, SECOND].into_iter().for_each(|frame| alloc.zero(frame));
    slot.try_set(&alloc, PAGE, entry(SCRATCH)).unwrap();
    let shared = Arc::clone(&slot);
    let accessing = thread::spawn(move || access_and_recover(&other, &shared));
    assert!(alloc.access(PAGE, &slot).is_some());
    let mut stamps = 1..;
    slot.replace(&alloc, PAGE, entry(SECOND), || stamp(stamps.next().unwrap()));
    let (frame, _) = alloc.access(PAGE, &slot).expect("the owner's access behind its install");
    assert_eq!(frame, SECOND, "the owner reaches scratch");
    assert_eq!(accessing.join().unwrap(), 0);
    assert_eq!(slot.load(&alloc), entry(SECOND));
}

/// A helper that looked at one tombstone, and a slot that was filled and buried again meanwhile. The
/// stamps are all one number if `EQUAL`.
fn helper_vs_second_burial<const EQUAL: bool>(timing: Timing) {
    let ([free, helper], slot) = two::<SOUND>(timing);
    let stamp_of = |number| stamp(if EQUAL { 1 } else { number });
    slot.try_set(&free, PAGE, entry(FIRST)).unwrap();
    let buried = slot.bury(&free, stamp_of(1));
    let shared = Arc::clone(&slot);
    let helping = thread::spawn(move || access_and_recover(&helper, &shared));
    arena::slot::flush(&free, PAGE);
    slot.retire(&free, buried.stamp);
    // Mapped, used and buried again.
    if slot.try_set(&free, PAGE, entry(SECOND)).is_ok() {
        free.access(PAGE, &slot);
        slot.clear(&free, PAGE, stamp_of(2));
    }
    helping.join().unwrap();
}

#[test]
fn an_install_is_there_for_the_access_behind_it() {
    holds("two faults", two_faults::<SOUND>);
}

#[test]
fn an_allocation_and_a_fault_agree_whoever_comes_first() {
    holds("fault vs alloc", fault_vs_alloc::<SOUND>);
}

#[test]
fn no_frame_is_touched_once_it_is_free() {
    holds_within("clear vs access", PREEMPTIONS, clear_vs_access::<SOUND>);
}

#[test]
fn a_page_that_is_freed_twice_goes_back_once() {
    holds("two clears", two_clears::<SOUND>);
}

#[test]
fn nobody_translates_to_scratch_and_page_at_once() {
    holds_within("replace vs access", PREEMPTIONS, replace_vs_access::<SOUND>);
}

#[test]
fn a_late_helper_misses_the_second_burial() {
    holds_within("helper vs second burial", PREEMPTIONS, helper_vs_second_burial::<false>);
}

#[test]
fn a_tombstone_without_its_own_stamp_is_caught() {
    fails("tombstones without stamps, helper vs second burial", helper_vs_second_burial::<true>);
}

#[cfg(loom)]
#[test]
fn an_install_without_release_is_caught() {
    fails("relaxed install, fault vs alloc", fault_vs_alloc::<RELAXED_INSTALL>);
}

#[test]
fn a_clear_without_tlbi_is_caught() {
    fails("no TLBI, clear vs access", clear_vs_access::<NO_TLBI>);
    fails("no TLBI, replace vs access", replace_vs_access::<NO_TLBI>);
    fails(
        "no TLBI, by its effect alone, replace vs access",
        replace_vs_access::<NO_TLBI_UNWATCHED>,
    );
}

#[test]
fn a_local_tlbi_is_caught() {
    fails("local TLBI, clear vs access", clear_vs_access::<LOCAL_TLBI>);
}

#[test]
fn a_clear_without_the_dsb_behind_its_tlbi_is_caught() {
    fails("no DSB behind the TLBI, clear vs access", clear_vs_access::<NO_DSB_AFTER>);
    fails("no DSB behind the TLBI, replace vs access", replace_vs_access::<NO_DSB_AFTER>);
}

#[test]
fn a_clear_without_the_dsb_before_its_tlbi_is_caught() {
    fails("no DSB before the TLBI, clear vs access", clear_vs_access::<NO_DSB_BEFORE>);
}

#[test]
fn a_handler_without_the_dsb_before_its_eret_is_caught() {
    fails("no DSB behind the install, two faults", two_faults::<NO_DSB_PUBLISH>);
}

#[test]
fn a_missing_isb_is_caught() {
    fails("no ISB, two faults", two_faults::<NO_ISB>);
    fails("no ISB, clear vs access", clear_vs_access::<NO_ISB>);
}

#[test]
fn a_helper_that_does_not_flush_is_caught() {
    fails("no help, clear vs access", clear_vs_access::<NO_HELP>);
}

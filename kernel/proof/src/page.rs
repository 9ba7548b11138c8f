//! One page: installs, clears, replacements, and faults beside them.

use arena::addr::{Frame, VirtAddr};
use arena::pte::{Attributes, Pte, Stamp, State};
use arena::slot::PteSlot;
use loom::sync::Arc;
use loom::thread;

use crate::machine::{Cpu, LOCAL_TLBI, NO_DSB, NO_HELP, NO_TLBI, RELAXED_INSTALL, SOUND};
use crate::run::{fails, holds};

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

/// What the abort handler does, and the access that is retried behind it.
fn access_and_recover<const W: u8>(cpu: &Cpu<W>, slot: &PteSlot) -> u64 {
    let access = || cpu.access(|walker| slot.load(walker));
    if let Some(word) = access() {
        return word;
    }
    let _lost = slot.try_set(cpu, PAGE, entry(SCRATCH));
    // Another CPU may clear the slot again; each such clear is one of this model.
    access().or_else(access).unwrap_or_default()
}

/// An allocation beside a wild access: whoever comes first, the page ends up mapped, and the access sees
/// scratch or a page that is zeroed.
fn fault_vs_alloc<const W: u8>() {
    let [alloc, fault] = Cpu::<W>::both();
    alloc.zero(SCRATCH);
    let slot = Arc::new(PteSlot::default());
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
fn clear_vs_access<const W: u8>() {
    let [free, other] = Cpu::<W>::both();
    [SCRATCH, FIRST].into_iter().for_each(|frame| free.zero(frame));
    let slot = Arc::new(PteSlot::default());
    slot.try_set(&free, PAGE, entry(FIRST)).unwrap();
    let shared = Arc::clone(&slot);
    let accessing = thread::spawn(move || {
        for _ in 0..2 {
            access_and_recover(&other, &shared);
        }
    });
    // It has the translation itself.
    assert!(free.access(|walker| slot.load(walker)).is_some());
    let cleared = slot.clear(&free, PAGE, stamp(1));
    if cleared == entry(FIRST) {
        free.free(FIRST);
    }
    accessing.join().unwrap();
    assert_ne!(slot.load(&free), entry(FIRST), "the cleared entry came back");
}

/// Two frees of one page: its frame goes back once.
fn two_clears<const W: u8>() {
    let [one, other] = Cpu::<W>::both();
    let slot = Arc::new(PteSlot::default());
    slot.try_set(&one, PAGE, entry(FIRST)).unwrap();
    let clear = |cpu: &Cpu<W>, slot: &PteSlot, number| {
        if slot.clear(cpu, PAGE, stamp(number)) == entry(FIRST) {
            cpu.free(FIRST);
        }
    };
    let shared = Arc::clone(&slot);
    let clearing = thread::spawn(move || clear(&other, &shared, 2));
    clear(&one, &slot, 1);
    clearing.join().unwrap();
    assert_eq!(slot.load(&one).state(), State::Empty, "a tombstone is left");
}

/// A replacement of scratch by a page beside an access: nobody translates to both at once.
fn replace_vs_access<const W: u8>() {
    let [alloc, other] = Cpu::<W>::both();
    [SCRATCH, SECOND].into_iter().for_each(|frame| alloc.zero(frame));
    let slot = Arc::new(PteSlot::default());
    slot.try_set(&alloc, PAGE, entry(SCRATCH)).unwrap();
    let shared = Arc::clone(&slot);
    let accessing = thread::spawn(move || access_and_recover(&other, &shared));
    assert!(alloc.access(|walker| slot.load(walker)).is_some());
    let mut stamps = 1..;
    slot.replace(&alloc, PAGE, entry(SECOND), || stamp(stamps.next().unwrap()));
    assert!(alloc.access(|walker| slot.load(walker)).is_some());
    assert_eq!(accessing.join().unwrap(), 0);
    assert_eq!(slot.load(&alloc), entry(SECOND));
}

#[test]
fn an_allocation_and_a_fault_agree_whoever_comes_first() {
    holds("fault vs alloc", fault_vs_alloc::<SOUND>);
}

#[test]
fn no_frame_is_touched_once_it_is_free() {
    holds("clear vs access", clear_vs_access::<SOUND>);
}

#[test]
fn a_page_that_is_freed_twice_goes_back_once() {
    holds("two clears", two_clears::<SOUND>);
}

#[test]
fn nobody_translates_to_scratch_and_page_at_once() {
    holds("replace vs access", replace_vs_access::<SOUND>);
}

#[test]
fn an_install_without_release_is_caught() {
    fails("relaxed install, fault vs alloc", fault_vs_alloc::<RELAXED_INSTALL>);
}

#[test]
fn a_clear_without_tlbi_is_caught() {
    fails("no TLBI, clear vs access", clear_vs_access::<NO_TLBI>);
    fails("no TLBI, replace vs access", replace_vs_access::<NO_TLBI>);
}

#[test]
fn a_local_tlbi_is_caught() {
    fails("local TLBI, clear vs access", clear_vs_access::<LOCAL_TLBI>);
}

#[test]
fn a_clear_without_the_dsb_behind_its_tlbi_is_caught() {
    fails("no DSB, clear vs access", clear_vs_access::<NO_DSB>);
    fails("no DSB, replace vs access", replace_vs_access::<NO_DSB>);
}

#[test]
fn a_helper_that_does_not_flush_is_caught() {
    fails("no help, clear vs access", clear_vs_access::<NO_HELP>);
}

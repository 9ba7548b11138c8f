//! Each rule, broken and kept.

use alloc::string::ToString;

use arena::pte::{Attributes, Stamp};

use super::*;

const SLOT: u64 = 0x1000;
const PAGE: VirtAddr = VirtAddr::new(0xffff_8001_0000_0000);
const OTHER_SLOT: u64 = 0x1008;
const OTHER: VirtAddr = VirtAddr::new(0xffff_8001_0000_1000);

fn frame(number: u64) -> Frame {
    Frame::from_number(number)
}

fn valid(number: u64) -> Pte {
    Pte::page(frame(number), Attributes::KERNEL_DATA)
}

fn tombstone() -> Pte {
    Pte::tombstone(Stamp::new(9).unwrap())
}

/// Frame 1 is scratch, 2 to 4 are the allocator's, 2 is given out and mapped at PAGE.
fn ghost() -> Ghost {
    let mut ghost = Ghost::new(frame(1));
    ghost.watch(PAGE, SLOT, Pte::EMPTY);
    ghost.watch(OTHER, OTHER_SLOT, Pte::EMPTY);
    (2..5).for_each(|number| ghost.own(frame(number)));
    ghost.gave(frame(2));
    ghost.write(0, SLOT, Pte::EMPTY, valid(2)).unwrap();
    ghost
}

fn rule(outcome: Result<(), Broken>) -> Option<Rule> {
    outcome.err().map(|broken| broken.rule)
}

#[test]
fn a_valid_entry_is_not_overwritten_by_another() {
    let mut ghost = ghost();
    assert_eq!(rule(ghost.write(0, SLOT, valid(2), valid(1))), Some(Rule::ValidToValid));
    // Attributes and the dirty bit may change.
    assert_eq!(ghost.write(0, SLOT, valid(2), valid(2)), Ok(()));
}

#[test]
fn a_mark_of_the_hardware_s_is_overwritten_only_by_who_saw_it() {
    let clean = valid(2).writable_clean();
    let dirty = Pte::from_bits(clean.bits() & !(1 << 7));
    let mut ghost = ghost();
    ghost.loaded(0, SLOT, clean);
    assert_eq!(ghost.overwrites(0, SLOT, clean), Ok(()));
    assert_eq!(rule(ghost.overwrites(0, SLOT, dirty)), Some(Rule::DirtyLost));
    ghost.loaded(1, SLOT, dirty);
    assert_eq!(rule(ghost.overwrites(0, SLOT, dirty)), Some(Rule::DirtyLost));
    assert_eq!(ghost.overwrites(1, SLOT, dirty), Ok(()));
    ghost.loaded(1, SLOT, clean);
    assert_eq!(rule(ghost.overwrites(1, SLOT, dirty)), Some(Rule::DirtyLost));
}

#[test]
fn a_cleared_page_is_stale_until_tlbi_and_dsb_by_its_clearer() {
    let made = |first: bool, tlbi: bool, last: bool| {
        let mut ghost = ghost();
        ghost.write(0, SLOT, valid(2), tombstone()).unwrap();
        if first {
            ghost.dsb(0, false);
        }
        if tlbi {
            ghost.tlbi(0, Some(PAGE));
        }
        if last {
            ghost.dsb(0, true);
        }
        rule(ghost.write(1, SLOT, tombstone(), valid(1)))
    };
    assert_eq!(made(true, true, true), None);
    assert_eq!(made(false, true, true), Some(Rule::MakeBeforeTlbi));
    assert_eq!(made(true, false, true), Some(Rule::MakeBeforeTlbi));
    assert_eq!(made(true, true, false), Some(Rule::MakeBeforeTlbi));
}

#[test]
fn a_helper_needs_full_barriers_and_the_right_page() {
    let help = |first_full: bool, page: Option<VirtAddr>, last_full: bool| {
        let mut ghost = ghost();
        ghost.write(0, SLOT, valid(2), tombstone()).unwrap();
        ghost.dsb(1, first_full);
        ghost.tlbi(1, page);
        ghost.dsb(1, last_full);
        ghost.view(PAGE)
    };
    assert_eq!(help(true, Some(PAGE.offset(8)), true), Some(View::Clean));
    assert_eq!(help(true, None, true), Some(View::Clean));
    assert_eq!(help(false, Some(PAGE), true), Some(View::Stale(frame(2))));
    assert_eq!(help(true, Some(OTHER), true), Some(View::Stale(frame(2))));
    assert_eq!(help(true, Some(PAGE), false), Some(View::Stale(frame(2))));
}

#[test]
fn another_cpu_s_dsb_completes_nobody_s_tlbi() {
    let mut ghost = ghost();
    ghost.write(0, SLOT, valid(2), Pte::EMPTY).unwrap();
    ghost.dsb(0, true);
    ghost.tlbi(0, Some(PAGE));
    ghost.dsb(1, true);
    assert_eq!(ghost.view(PAGE), Some(View::Stale(frame(2))));
}

#[test]
fn a_tlbi_before_the_clear_is_no_flush() {
    let mut ghost = ghost();
    ghost.dsb(0, true);
    ghost.tlbi(0, Some(PAGE));
    ghost.write(0, SLOT, valid(2), Pte::EMPTY).unwrap();
    ghost.dsb(0, true);
    assert_eq!(ghost.view(PAGE), Some(View::Stale(frame(2))));
}

#[test]
fn a_frame_is_freed_once_and_only_when_nothing_translates_to_it() {
    let mut ghost = ghost();
    assert_eq!(rule(ghost.took(0, frame(2))), Some(Rule::FreedWhileMapped));
    ghost.write(0, SLOT, valid(2), tombstone()).unwrap();
    assert_eq!(rule(ghost.took(0, frame(2))), Some(Rule::FreedWhileMapped), "stale");
    ghost.dsb(0, false);
    ghost.tlbi(0, Some(PAGE));
    ghost.dsb(0, true);
    assert_eq!(ghost.took(0, frame(2)), Ok(()));
    assert_eq!(rule(ghost.took(0, frame(2))), Some(Rule::DoubleFree));
    assert_eq!(rule(ghost.took(0, frame(1))), Some(Rule::ScratchFreed));
    assert_eq!(ghost.took(0, frame(99)), Ok(()), "none of the lab's");
}

#[test]
fn a_frame_has_one_owner_and_scratch_many() {
    let mut ghost = ghost();
    let second =
        |ghost: &mut Ghost, number| rule(ghost.write(1, OTHER_SLOT, Pte::EMPTY, valid(number)));
    assert_eq!(second(&mut ghost, 2), Some(Rule::TwoOwners));
    assert_eq!(second(&mut ghost, 3), Some(Rule::MapsFreeFrame));
    assert_eq!(second(&mut ghost, 1), None);
    ghost.write(0, SLOT, valid(2), tombstone()).unwrap();
    ghost.dsb(0, true);
    ghost.tlbi(0, None);
    ghost.dsb(0, true);
    assert_eq!(ghost.write(0, SLOT, tombstone(), valid(1)), Ok(()));
    assert_eq!(ghost.mapped(), 0);
}

#[test]
fn an_access_reaches_what_the_tables_say_or_what_is_not_flushed_yet() {
    let mut ghost = ghost();
    let reached = |ghost: &Ghost, number| rule(ghost.reached(1, PAGE.offset(16), frame(number)));
    assert_eq!(reached(&ghost, 2), None);
    assert_eq!(reached(&ghost, 3), Some(Rule::StaleTranslation));
    ghost.write(0, SLOT, valid(2), tombstone()).unwrap();
    assert_eq!(reached(&ghost, 2), None, "not flushed yet");
    ghost.dsb(0, false);
    ghost.tlbi(0, Some(PAGE));
    ghost.dsb(0, true);
    assert_eq!(reached(&ghost, 2), Some(Rule::StaleTranslation));
}

#[test]
fn a_frame_that_is_mapped_nowhere_at_the_end_is_lost() {
    let mut ghost = ghost();
    assert_eq!((ghost.rest(), ghost.mapped()), (Ok(()), 1));
    ghost.gave(frame(3));
    let broken = ghost.rest().unwrap_err();
    assert_eq!((broken.rule, broken.frame), (Rule::Leak, Some(frame(3))));
    assert!(broken.to_string().starts_with("leak: "), "{broken}");
}

#[test]
fn descriptors_that_nobody_watches_are_nobody_s() {
    let mut ghost = ghost();
    assert_eq!(ghost.write(0, 0x9999, valid(2), valid(3)), Ok(()));
    assert_eq!(ghost.page_of(SLOT), Some(PAGE));
    assert_eq!(ghost.page_of(0x9999), None);
}

#[test]
fn a_page_that_is_never_flushed_is_noticed_at_the_end() {
    let mut ghost = ghost();
    ghost.write(0, SLOT, valid(2), Pte::EMPTY).unwrap();
    assert_eq!(rule(ghost.rest()), Some(Rule::NeverFlushed));
    ghost.dsb(0, false);
    ghost.tlbi(0, Some(PAGE));
    ghost.dsb(0, true);
    ghost.took(0, frame(2)).unwrap();
    assert_eq!(ghost.rest(), Ok(()));
}

#[test]
fn a_second_clear_needs_maintenance_of_its_own() {
    let mut ghost = ghost();
    let clear = |ghost: &mut Ghost| ghost.write(0, SLOT, valid(2), Pte::EMPTY).unwrap();
    clear(&mut ghost);
    ghost.dsb(0, false);
    ghost.tlbi(0, Some(PAGE));
    ghost.dsb(0, true);
    ghost.write(0, SLOT, Pte::EMPTY, valid(2)).unwrap();
    clear(&mut ghost);
    ghost.tlbi(0, Some(PAGE));
    ghost.dsb(0, true);
    assert_eq!(ghost.view(PAGE), Some(View::Stale(frame(2))), "no DSB before the second TLBI");
}

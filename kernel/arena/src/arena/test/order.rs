//! What must happen before what, and what must be published or flushed.

use std::collections::BTreeSet;

use super::*;
use crate::pte::Attributes;

fn position(log: &[Event], wanted: impl Fn(&Event) -> bool) -> usize {
    log.iter().position(wanted).expect("the event is in the log")
}

#[test]
fn a_free_clears_all_then_flushes_all_then_empties_and_frees() {
    let (model, arena) = arena();
    let at = arena.alloc(None, 2).unwrap();
    let next = at.offset(PAGE_SIZE);
    let frames = [at, next].map(|page| frame_at(arena, page).unwrap());
    model.take_events();
    arena.free(at, 2).unwrap();
    let log = model.take_events();
    assert!(matches!(log[..2], [Event::Swap { .. }, Event::Swap { .. }]), "{log:?}");
    let flush = [Event::DsbIshst, Event::Tlbi(at), Event::Tlbi(next), Event::DsbIsh, Event::Isb];
    assert_eq!(log[2..7], flush);
    for (events, frame) in log[7..].chunks(2).zip(frames) {
        assert!(matches!(events[0], Event::Cas { new: 0, won: true, .. }), "{events:?}");
        assert_eq!(events[1], Event::Free(frame));
    }
    assert_eq!(log.len(), 11);
}

#[test]
fn freeing_what_is_not_mapped_costs_no_maintenance() {
    let (model, arena) = arena();
    model.take_events();
    arena.free(arena.window().page(7), 70).unwrap();
    assert_eq!(model.take_events(), []);
}

#[test]
fn a_free_flushes_a_tombstone_that_another_left() {
    let (model, arena) = arena();
    let at = arena.alloc(None, 1).unwrap();
    model.touch(at, arena.entry(at).unwrap());
    let _ = arena.slot(at).unwrap().bury(&model, arena.stamp());
    arena.free(at, 1).unwrap();
    assert!(model.tlb.borrow().is_empty(), "the translation outlived the free");
    assert_eq!(arena.entry(at).unwrap().state(), State::Empty);
}

#[test]
fn no_two_clears_of_a_slot_share_a_stamp() {
    let (model, arena) = arena();
    let at = arena.window().page(0);
    model.take_events();
    let _ = arena.recover(at);
    for _ in 0..2 {
        arena.alloc(Some(at), 70).unwrap();
        arena.free(at, 70).unwrap();
    }
    let is_burial = |event: &Event| match event {
        Event::Swap { word, new, .. } => Some((*word, *new)),
        _ => None,
    };
    let burials: Vec<_> = model.take_events().iter().filter_map(is_burial).collect();
    let distinct: BTreeSet<_> = burials.iter().collect();
    assert_eq!((burials.len(), distinct.len()), (141, 141));
}

#[test]
fn every_recovery_ends_published() {
    let (model, arena) = arena();
    let mapped = arena.alloc(None, 1).unwrap();
    let wild = arena.window().page(3);
    for (page, expected) in [(wild, "Scratch"), (wild, "Lost"), (mapped, "Spurious")] {
        model.take_events();
        let recovery = std::format!("{:?}", arena.recover(page));
        assert!(recovery.starts_with(expected), "{recovery}");
        assert!(model.take_events().ends_with(&[Event::DsbIshst, Event::Isb]), "{recovery}");
    }
}

#[test]
fn a_fault_on_a_tombstone_flushes_its_page() {
    let (model, arena) = arena();
    let wild = arena.window().page(3);
    let _ = arena.slot(wild).unwrap().bury(&model, arena.stamp());
    model.take_events();
    let recovery = arena.recover(wild.offset(0x123));
    assert!(matches!(recovery, Recovery::Scratch { .. }), "{recovery:?}");
    assert!(model.take_events().contains(&Event::Tlbi(wild)));
}

#[test]
fn an_alloc_over_scratch_survives_a_fault_in_the_break() {
    let (model, arena) = arena();
    let target = arena.window().page(0);
    let _ = arena.recover(target);
    // The first CAS finds scratch; by the second the slot is broken, and faults again.
    model.before_cas.replace(Some(Box::new(move |_: &AtomicU64| {
        model.before_cas.replace(Some(Box::new(move |_: &AtomicU64| {
            let recovery = arena.recover(target);
            assert!(matches!(recovery, Recovery::Scratch { .. }), "{recovery:?}");
        })));
    })));
    assert_eq!(arena.alloc(Some(target), 1), Ok(target));
    assert_ne!(frame_at(arena, target), Some(arena.scratch()));
}

#[test]
fn a_fault_during_destroy_is_not_ours() {
    let (model, arena) = arena();
    let at = arena.alloc(None, 1).unwrap();
    let wild = arena.window().page(9);
    let seen = Rc::new(core::cell::Cell::new(None));
    let log = seen.clone();
    model.before_cas.replace(Some(Box::new(move |_: &AtomicU64| {
        log.set(Some((arena.recover(wild), arena.recover(at))));
    })));
    arena.destroy().unwrap();
    assert_eq!(seen.get(), Some((Recovery::NotOurs, Recovery::NotOurs)));
}

#[test]
fn tables_are_freed_only_after_their_link_is_broken_and_flushed() {
    let (model, arena) = arena();
    model.take_events();
    arena.destroy().unwrap();
    let log = model.take_events();
    let broken = position(&log, |event| matches!(event, Event::Swap { .. }));
    assert_eq!(
        log[broken + 1..broken + 5],
        [Event::DsbIshst, Event::TlbiAll, Event::DsbIsh, Event::Isb]
    );
    assert!(matches!(log[broken + 5], Event::Cas { new: 0, won: true, .. }), "{log:?}");
    let freed = position(&log, |event| matches!(event, Event::Free(_)));
    assert_eq!(freed, broken + 6);
    // Two level 3 tables of pages, one of the guard, their level 2 table, scratch.
    assert_eq!(log.len() - freed, 5);
    assert_eq!(log.last(), Some(&Event::Free(arena.scratch())));
}

#[test]
fn a_wild_access_during_a_failing_alloc_leaves_no_translation() {
    let (model, arena) = arena();
    let at = arena.window().page(0);
    model.budget.set(3);
    model.on_alloc.replace(Some(Box::new(move || {
        // A wild access uses each page that is mapped so far.
        for n in 0..4 {
            let page = at.offset(n * PAGE_SIZE);
            model.touch(page, arena.entry(page).unwrap());
        }
    })));
    assert_eq!(arena.alloc(Some(at), 4), Err(AllocError::NoMemory));
    assert!(model.tlb.borrow().is_empty(), "a translation outlived the failed allocation");
}

#[test]
fn a_page_is_kernel_data_to_everyone() {
    let (_, arena) = arena();
    let at = arena.alloc(None, 1).unwrap();
    let scratch = arena.window().page(5);
    let _ = arena.recover(scratch);
    for page in [at, scratch] {
        assert_eq!(arena.entry(page).unwrap().attributes(), Some(Attributes::KERNEL_DATA));
    }
}

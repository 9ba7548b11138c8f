use std::boxed::Box;
use std::vec::Vec;

use super::*;
use crate::addr::{Frame, PhysAddr};
use crate::model::{Event, Model};
use crate::pte::Attributes;

const PAGE: VirtAddr = VirtAddr::new(0xffff_8001_0000_3000);

fn page(number: u64) -> Pte {
    Pte::page(Frame::containing(PhysAddr::new(number << 12)), Attributes::KERNEL_DATA)
}

fn stamp(number: u64) -> Stamp {
    Stamp::new(number).unwrap()
}

fn events(machine: &Model) -> Vec<Event> {
    machine.take_events()
}

#[test]
fn install_on_an_empty_slot_is_one_cas_and_a_publish() {
    let machine = Model::with_frames(0);
    let slot = PteSlot::new();
    assert_eq!(slot.try_set(&&machine, PAGE, page(1)), Ok(()));
    assert_eq!(
        events(&machine),
        [Event::Cas { old: 0, new: page(1).bits(), won: true }, Event::DsbIshst, Event::Isb]
    );
}

#[test]
fn scratch_install_loses_to_real_page_and_publishes_all_the_same() {
    let machine = Model::with_frames(0);
    let slot = PteSlot::new();
    slot.try_set(&&machine, PAGE, page(1)).unwrap();
    events(&machine);
    assert_eq!(slot.try_set(&&machine, PAGE, page(2)), Err(page(1)));
    assert_eq!(slot.load(&&machine), page(1));
    assert_eq!(events(&machine)[1..], [Event::DsbIshst, Event::Isb]);
}

#[test]
fn an_installer_that_meets_a_tombstone_flushes_before_it_installs() {
    let machine = Model::with_frames(0);
    let slot = PteSlot::new();
    slot.try_set(&&machine, PAGE, page(1)).unwrap();
    machine.touch(PAGE, page(1));
    let buried = slot.bury(&&machine, stamp(7));
    assert_eq!(buried.old, page(1));
    events(&machine);
    slot.try_set(&&machine, PAGE, page(2)).unwrap();
    let tombstone = Pte::tombstone(stamp(7)).bits();
    assert_eq!(
        events(&machine),
        [
            Event::Cas { old: tombstone, new: page(2).bits(), won: false },
            Event::DsbIsh,
            Event::Tlbi(PAGE),
            Event::DsbIsh,
            Event::Isb,
            Event::Cas { old: tombstone, new: page(2).bits(), won: true },
            Event::DsbIshst,
            Event::Isb
        ]
    );
    assert!(machine.tlb.borrow().is_empty());
}

#[test]
fn a_helper_s_late_cas_misses_a_later_tombstone() {
    let machine: &'static Model = Box::leak(Box::new(Model::with_frames(0)));
    let slot = PteSlot::new();
    let _ = slot.bury(&machine, stamp(1));
    // Between the helper's look, its first CAS, and its second the slot is filled and buried again.
    machine.before_cas.replace(Some(Box::new(|_: &AtomicU64| {
        machine.before_cas.replace(Some(Box::new(|word: &AtomicU64| {
            word.store(Pte::tombstone(stamp(2)).bits(), Ordering::Relaxed);
        })));
    })));
    slot.try_set(&machine, PAGE, page(3)).unwrap();
    let flushes = events(machine).iter().filter(|e| matches!(e, Event::Tlbi(_))).count();
    assert_eq!(flushes, 2, "one for each tombstone");
    assert_eq!(slot.load(&machine), page(3));
}

#[test]
fn clear_flushes_between_the_exchange_and_the_retirement() {
    let machine = Model::with_frames(0);
    let slot = PteSlot::new();
    slot.try_set(&&machine, PAGE, page(1)).unwrap();
    events(&machine);
    assert_eq!(slot.clear(&&machine, PAGE, stamp(9)), page(1));
    let tombstone = Pte::tombstone(stamp(9)).bits();
    assert_eq!(
        events(&machine),
        [
            Event::Swap { word: (&raw const slot).addr(), old: page(1).bits(), new: tombstone },
            Event::DsbIshst,
            Event::Tlbi(PAGE),
            Event::DsbIsh,
            Event::Isb,
            Event::Cas { old: tombstone, new: 0, won: true }
        ]
    );
    assert_eq!(slot.load(&&machine).state(), State::Empty);
}

#[test]
fn retiring_never_removes_what_a_helper_installed() {
    let machine = Model::with_frames(0);
    let slot = PteSlot::new();
    let buried = slot.bury(&&machine, stamp(1));
    slot.try_set(&&machine, PAGE, page(2)).unwrap();
    slot.retire(&&machine, buried.stamp);
    assert_eq!(slot.load(&&machine), page(2));
}

#[test]
fn retiring_never_removes_a_later_tombstone() {
    let machine = Model::with_frames(0);
    let slot = PteSlot::new();
    let first = slot.bury(&&machine, stamp(1));
    let second = slot.bury(&&machine, stamp(2));
    slot.retire(&&machine, first.stamp);
    assert_eq!(slot.load(&&machine).state(), State::Tombstone(second.stamp));
}

#[test]
fn replace_breaks_again_what_a_fault_installed_in_the_window() {
    let machine = Model::with_frames(0);
    let slot = PteSlot::new();
    let scratch = page(1);
    slot.try_set(&&machine, PAGE, scratch).unwrap();
    events(&machine);
    machine.before_cas.replace(Some(Box::new(move |word: &AtomicU64| {
        word.store(scratch.bits(), Ordering::Relaxed);
    })));
    let mut next = 0;
    let old = slot.replace(&&machine, PAGE, page(2), || {
        next += 1;
        stamp(next)
    });
    assert_eq!(old, scratch);
    assert_eq!(slot.load(&&machine), page(2));
    let log = events(&machine);
    assert_eq!(log.iter().filter(|e| matches!(e, Event::Tlbi(_))).count(), 2);
    assert_eq!(log[log.len() - 2..], [Event::DsbIshst, Event::Isb]);
}

#[test]
fn clearing_a_tombstone_that_another_left_flushes_too() {
    let machine = Model::with_frames(0);
    let slot = PteSlot::new();
    slot.try_set(&&machine, PAGE, page(1)).unwrap();
    machine.touch(PAGE, page(1));
    let first = slot.bury(&&machine, stamp(1));
    assert_eq!(slot.clear(&&machine, PAGE, stamp(2)), Pte::tombstone(first.stamp));
    assert!(machine.tlb.borrow().is_empty(), "empty promises that no TLB holds a translation");
}

#[test]
fn clearing_an_empty_slot_costs_no_maintenance() {
    let machine = Model::with_frames(0);
    let slot = PteSlot::new();
    assert_eq!(slot.clear(&&machine, PAGE, stamp(1)), Pte::EMPTY);
    assert_eq!(events(&machine).len(), 2, "the exchange and the retirement");
}

#[test]
fn installs_release_and_burials_acquire_and_release() {
    let machine = Model::with_frames(0);
    let slot = PteSlot::new();
    slot.try_set(&&machine, PAGE, page(1)).unwrap();
    assert_eq!(machine.orders.take(), [Ordering::Release]);
    slot.replace(&&machine, PAGE, page(2), || stamp(1));
    assert_eq!(machine.orders.take(), [Ordering::AcqRel, Ordering::Release]);
}

/// Drives a slot through random operations of both parties and judges every transition.
mod any_order {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Op {
        TrySet(u64),
        Bury,
        RetireOldest,
        Replace(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (1..9u64).prop_map(Op::TrySet),
            Just(Op::Bury),
            Just(Op::RetireOldest),
            (1..9u64).prop_map(Op::Replace),
        ]
    }

    proptest! {
        #[test]
        fn no_translation_is_made_while_a_tlb_holds_another(ops in prop::collection::vec(op(), 1..40)) {
            let machine = Model::with_frames(0);
            let slot = PteSlot::new();
            let mut stamps = 0;
            let mut unflushed = Vec::new();
            for op in ops {
                let before = slot.load(&&machine);
                machine.touch(PAGE, before);
                let mut next = || { stamps += 1; stamp(stamps) };
                match op {
                    Op::TrySet(n) => drop(slot.try_set(&&machine, PAGE, page(n))),
                    Op::Bury => unflushed.push(slot.bury(&&machine, next())),
                    Op::RetireOldest if !unflushed.is_empty() => {
                        let buried = unflushed.remove(0);
                        flush(&&machine, PAGE);
                        slot.retire(&&machine, buried.stamp);
                    }
                    Op::RetireOldest => {}
                    Op::Replace(n) => drop(slot.replace(&&machine, PAGE, page(n), next)),
                }
                let after = slot.load(&&machine);
                let stale = machine.tlb.borrow().get(&PAGE.get()).copied();
                if after.is_valid() {
                    prop_assert!(stale.is_none_or(|word| word == after.bits()));
                }
                if after.state() == State::Empty {
                    prop_assert_eq!(stale, None);
                }
            }
        }
    }
}

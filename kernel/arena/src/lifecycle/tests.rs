use core::sync::atomic::{AtomicBool, AtomicU32 as Counter, AtomicUsize};
use std::sync::Barrier;
use std::thread;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

#[test]
fn a_program_lives_through_its_states_in_order() {
    let life = Lifecycle::new();
    let mut seen = Vec::from([life.state()]);
    let inside = life.enter().unwrap();
    seen.push(life.state());
    assert!(life.mark_faulted());
    seen.push(life.state());
    assert!(life.abort());
    seen.push(life.state());
    drop(inside);
    assert_eq!(life.try_teardown(), Ok(()));
    seen.push(life.state());
    use State::*;
    assert_eq!(seen, [Loaded, Running, Faulted, Aborted, TornDown]);
}

#[test]
fn leaving_does_not_unmake_a_state() {
    let life = Lifecycle::new();
    drop(life.enter().unwrap());
    assert_eq!((life.state(), life.inside()), (State::Running, 0));
    drop(life.enter().unwrap());
    life.mark_faulted();
    assert_eq!(life.state(), State::Faulted);
    life.abort();
    assert!(life.has_faulted(), "an abort does not hide the fault");
}

#[test]
fn only_the_first_fault_is_the_first() {
    let life = Lifecycle::new();
    let _inside = life.enter().unwrap();
    assert_eq!(
        [life.mark_faulted(), life.mark_faulted(), life.mark_faulted()],
        [true, false, false]
    );
}

#[test]
fn a_faulted_program_may_be_entered_until_it_is_aborted() {
    let life = Lifecycle::new();
    let first = life.enter().unwrap();
    life.mark_faulted();
    let second = life.enter().unwrap();
    assert!(life.abort());
    assert_eq!(life.enter().err(), Some(Refused::Closed(State::Aborted)));
    assert_eq!(life.inside(), 2, "those inside stay counted");
    drop((first, second));
    assert_eq!(life.enter().err(), Some(Refused::Closed(State::Aborted)));
}

#[test]
fn an_abort_closes_once() {
    let life = Lifecycle::new();
    assert_eq!([life.abort(), life.abort()], [true, false]);
    life.try_teardown().unwrap();
    assert!(!life.abort(), "what is down is closed");
    assert_eq!(life.state(), State::TornDown);
}

#[test]
fn teardown_waits_for_everyone_inside() {
    let life = Lifecycle::new();
    let (first, second) = (life.enter().unwrap(), life.enter().unwrap());
    assert_eq!(life.try_teardown(), Err(NotDown::StillLoaded));
    life.abort();
    assert_eq!(life.try_teardown(), Err(NotDown::Busy { inside: 2 }));
    drop(first);
    assert_eq!(life.try_teardown(), Err(NotDown::Busy { inside: 1 }));
    drop(second);
    assert_eq!(life.try_teardown(), Ok(()));
}

#[test]
fn a_program_goes_down_once() {
    let life = Lifecycle::new();
    life.abort();
    assert_eq!(life.try_teardown(), Ok(()));
    assert_eq!(life.try_teardown(), Err(NotDown::AlreadyDown));
    assert_eq!(life.enter().err(), Some(Refused::Closed(State::TornDown)));
    assert_eq!(life.unload(), Err(NotUnloaded::Closed(State::TornDown)));
}

#[test]
fn a_loaded_program_is_not_torn_down() {
    let life = Lifecycle::new();
    assert_eq!(life.try_teardown(), Err(NotDown::StillLoaded));
    drop(life.enter().unwrap());
    assert_eq!(life.try_teardown(), Err(NotDown::StillLoaded));
    life.mark_faulted();
    assert_eq!(life.try_teardown(), Err(NotDown::StillLoaded));
}

#[test]
fn a_clean_program_is_unloaded_and_torn_down() {
    let life = Lifecycle::new();
    let inside = life.enter().unwrap();
    assert_eq!(life.unload(), Ok(()));
    assert_eq!(life.state(), State::Unloaded);
    assert_eq!(life.unload(), Err(NotUnloaded::Closed(State::Unloaded)));
    assert_eq!(life.enter().err(), Some(Refused::Closed(State::Unloaded)));
    assert_eq!(life.try_teardown(), Err(NotDown::Busy { inside: 1 }));
    drop(inside);
    assert_eq!((life.try_teardown(), life.abort()), (Ok(()), false));
}

#[test]
fn a_faulted_program_is_not_unloaded() {
    let life = Lifecycle::new();
    life.mark_faulted();
    assert_eq!(life.unload(), Err(NotUnloaded::Faulted));
    life.abort();
    assert_eq!(life.unload(), Err(NotUnloaded::Closed(State::Aborted)));
}

#[test]
fn a_fault_after_unloading_asks_for_an_abort() {
    let life = Lifecycle::new();
    let inside = life.enter().unwrap();
    life.unload().unwrap();
    life.mark_faulted();
    drop(inside);
    assert_eq!((life.state(), life.try_teardown()), (State::Faulted, Err(NotDown::StillLoaded)));
    assert!(life.abort());
    assert_eq!(life.try_teardown(), Ok(()));
}

#[test]
fn an_entry_too_many_is_refused() {
    let life = Lifecycle { word: AtomicU64::new(ENTERED | MOST_INSIDE) };
    assert_eq!(life.enter().err(), Some(Refused::Full));
    assert_eq!((life.state(), life.inside()), (State::Running, u32::MAX));
}

#[test]
fn no_entry_and_no_exit_is_lost() {
    let life = Lifecycle::new();
    thread::scope(|scope| {
        let cpu = || (0..50_000).for_each(|_| drop(life.enter().unwrap()));
        (0..4).for_each(|_| drop(scope.spawn(cpu)));
    });
    assert_eq!(life.inside(), 0);
}

/// Many enter and leave, all try to abort and to tear down: one of each succeeds, and the winner
/// of the teardown is alone.
#[test]
fn of_many_cpus_one_aborts_and_one_tears_down() {
    const CPUS: usize = 4;
    for round in 0..300 {
        let life = Lifecycle::new();
        let start = Barrier::new(CPUS);
        let (inside, freed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (aborts, downs, faults) = (Counter::new(0), Counter::new(0), Counter::new(0));
        let cpu = |number: usize| {
            start.wait();
            for turn in 0..1_000_000 {
                if let Ok(guard) = life.enter() {
                    inside.fetch_add(1, Ordering::Relaxed);
                    assert!(!freed.load(Ordering::Relaxed), "inside what is freed");
                    if turn == round % 7 {
                        faults.fetch_add(life.mark_faulted().into(), Ordering::Relaxed);
                    }
                    inside.fetch_sub(1, Ordering::Relaxed);
                    drop(guard);
                }
                if turn >= round % 11 + number {
                    aborts.fetch_add(life.abort().into(), Ordering::Relaxed);
                }
                match life.try_teardown() {
                    Ok(()) => {
                        freed.store(true, Ordering::Relaxed);
                        assert_eq!(inside.load(Ordering::Relaxed), 0);
                        downs.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(NotDown::AlreadyDown) => return,
                    Err(NotDown::Busy { .. } | NotDown::StillLoaded) => thread::yield_now(),
                }
            }
            panic!("never torn down");
        };
        thread::scope(|scope| {
            (0..CPUS).for_each(|number| drop(scope.spawn(move || cpu(number))));
        });
        let counts = [aborts, downs].map(Counter::into_inner);
        assert_eq!(counts, [1, 1], "round {round}");
        assert!(faults.into_inner() <= 1);
        assert_eq!(life.inside(), 0);
    }
}

#[test]
fn of_many_puts_one_is_the_last() {
    const OWNERS: usize = 4;
    for _ in 0..300 {
        let count = RefCount::new();
        (1..OWNERS).for_each(|_| count.get().unwrap());
        let last = thread::scope(|scope| {
            let owner = || {
                (0..50).for_each(|_| {
                    count.get().unwrap();
                    assert_eq!(count.put(), Put::Kept);
                });
                count.put()
            };
            let owners: Vec<_> = (0..OWNERS).map(|_| scope.spawn(owner)).collect();
            owners
                .into_iter()
                .filter_map(|owner| (owner.join().unwrap() == Put::Last).then_some(()))
                .count()
        });
        assert_eq!((last, count.get()), (1, Err(Gone)));
    }
}

#[test]
fn a_count_that_was_zero_stays_zero() {
    let count = RefCount::new();
    assert_eq!((count.get(), count.put(), count.put()), (Ok(()), Put::Kept, Put::Last));
    assert_eq!((count.get(), count.put()), (Err(Gone), Put::Underflow));
    assert_eq!((count.get(), count.put()), (Err(Gone), Put::Underflow));
}

#[test]
fn a_saturated_count_never_frees() {
    let count = RefCount { count: AtomicU32::new(u32::MAX - 1) };
    assert_eq!((count.get(), count.get()), (Ok(()), Ok(())));
    assert_eq!([count.put(), count.put(), count.put()], [Put::Kept; 3]);
    assert_eq!(count.count.into_inner(), u32::MAX);
}

#[derive(Clone, Copy, Debug)]
enum Call {
    Enter,
    Leave,
    Fault,
    Abort,
    Unload,
    Teardown,
}

proptest! {
    /// Against the rules said plainly, with one variable for each fact.
    #[test]
    fn any_interleaving_keeps_the_rules(calls in prop::collection::vec(prop_oneof![
        4 => Just(Call::Enter), 3 => Just(Call::Leave), 1 => Just(Call::Fault),
        1 => Just(Call::Abort), 1 => Just(Call::Unload), 2 => Just(Call::Teardown),
    ], 0..40)) {
        let life = Lifecycle::new();
        let mut guards = Vec::new();
        let (mut faulted, mut aborted, mut unloaded, mut down) = (false, false, false, false);
        for call in calls {
            match call {
                Call::Enter => {
                    let entered = life.enter();
                    prop_assert_eq!(entered.is_ok(), !aborted && !unloaded && !down);
                    guards.extend(entered);
                }
                Call::Leave => drop(guards.pop()),
                Call::Fault => {
                    prop_assert_eq!(life.mark_faulted(), !faulted);
                    faulted = true;
                }
                Call::Abort => {
                    prop_assert_eq!(life.abort(), !aborted && !down);
                    aborted = true;
                }
                Call::Unload => {
                    let open = !faulted && !aborted && !unloaded && !down;
                    prop_assert_eq!(life.unload().is_ok(), open);
                    unloaded |= open;
                }
                Call::Teardown => {
                    let closed = aborted || (unloaded && !faulted);
                    let ready = closed && guards.is_empty() && !down;
                    prop_assert_eq!(life.try_teardown().is_ok(), ready);
                    down |= ready;
                }
            }
            prop_assert_eq!(life.inside() as usize, guards.len());
            prop_assert_eq!(life.state() == State::TornDown, down);
            prop_assert_eq!(life.has_faulted(), faulted);
        }
    }
}

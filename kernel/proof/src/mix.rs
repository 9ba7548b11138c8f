//! Larger mixes, for random schedules: four CPUs that allocate, free, defer, fault and work.

use arena::arena::Freed;
use arena::protocol::{Protocol, TombstoneProtocol};

use crate::arenas::{Model, access_to, check, empty};
use crate::board::be;
use crate::checker::sync::Arc;
use crate::checker::thread;
use crate::lab::{FlushFirst, Linux72Order};
use crate::machine::{PAGES, SOUND, Timing};
use crate::run::{fails, holds};

const CPUS: usize = 4;
/// What each CPU does, one after the other.
const ACTIONS: usize = 5;

type Mixed<P> = Model<P, SOUND, CPUS>;

/// A number below `below`, by the schedule.
fn draw(below: u32) -> u32 {
    use shuttle::rand::Rng;
    shuttle::rand::thread_rng().gen_range(0..below)
}

/// One CPU's part: it frees nothing but what it was given, and reaches its own page while it has one.
fn part<P: Protocol>(arena: &Mixed<P>) {
    let mut own: Vec<u32> = Vec::new();
    for _ in 0..ACTIONS {
        match draw(4) {
            0 => {
                if let Ok(at) = arena.alloc(None, 1) {
                    let index = arena.window().range(at, 1).expect("a page of the arena").start;
                    // An access may fault again while another CPU's store is on its way.
                    let reached = (0..3).find_map(|_| access_to(arena, index));
                    let mapped =
                        arena.entry(at).unwrap().frame().map(|frame| frame.number() as usize);
                    assert!(
                        reached.is_none() || reached == mapped,
                        "the owner reaches another page than its own"
                    );
                    own.push(index);
                }
            }
            1 => {
                if let Some(index) = own.pop() {
                    let at = arena.window().page(index);
                    match draw(2) {
                        0 => arena.defer(at, 1).unwrap(),
                        _ => assert_eq!(arena.free_or_defer(at, 1), Ok(Freed::Now)),
                    }
                }
            }
            2 => {
                arena.work().unwrap();
            }
            _ => {
                access_to(arena, draw(PAGES as u32));
            }
        }
    }
    for index in own {
        arena.free(arena.window().page(index), 1).unwrap();
    }
}

fn four_cpus<P: Protocol>(timing: Timing) {
    let arena: Arc<Mixed<P>> = empty(timing, PAGES as u32);
    let parts = (1..CPUS).map(|number| {
        let arena = Arc::clone(&arena);
        thread::spawn(move || {
            be(number);
            part(&arena);
        })
    });
    let parts: Vec<_> = parts.collect();
    part(&arena);
    parts.into_iter().for_each(|part| part.join().unwrap());
    arena.work().unwrap();
    check(&arena, PAGES as u32);
    assert_eq!(arena.stats().unwrap().free_pages, PAGES as u32, "a page was not given back");
    arena.machine().cpu().unwatch();
    arena.destroy().unwrap();
}

#[test]
fn four_cpus_mix_everything_and_nothing_is_wrong() {
    holds("mix of 4 CPUs", four_cpus::<TombstoneProtocol>);
}

#[test]
fn the_order_of_linux_7_2_is_caught_in_a_mix() {
    fails("the order of Linux 7.2, mix of 4 CPUs", four_cpus::<Linux72Order>);
}

#[test]
fn the_clear_window_is_caught_in_a_mix() {
    fails("flush before the range, no tombstone, mix of 4 CPUs", four_cpus::<FlushFirst>);
}

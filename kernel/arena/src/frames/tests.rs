use std::cell::RefCell;
use std::collections::BTreeSet;
use std::vec::Vec;

use super::*;

const FIRST: u64 = 0x4_0000;

fn pool(frames: u64, room: usize) -> Pool {
    let mut pool = Pool::with_room(room).unwrap();
    pool.add(Frame::from_number(FIRST), Frame::from_number(FIRST + frames));
    pool
}

/// What the kernel does around a cache.
fn alloc(cache: &Cache, pool: &mut Pool) -> Option<u64> {
    if cache.is_empty() {
        cache.refill(pool, || true);
    }
    cache.take().map(Frame::number)
}

fn free(cache: &Cache, pool: &mut Pool, number: u64) {
    if !cache.put(Frame::from_number(number)) {
        cache.drain(pool);
        assert!(cache.put(Frame::from_number(number)));
    }
}

fn all(cache: &Cache, pool: &mut Pool) -> Vec<u64> {
    core::iter::from_fn(|| alloc(cache, pool)).collect()
}

#[test]
fn every_frame_is_given_out_once_and_comes_back() {
    for (frames, room) in [(1, 1), (33, 64), (1000, 1000), (5000, 5000), (5000, 700), (77, 1)] {
        let (cache, mut pool) = (Cache::new(), pool(frames, room));
        for _ in 0..3 {
            let given = all(&cache, &mut pool);
            let distinct: BTreeSet<_> = given.iter().copied().collect();
            assert_eq!((given.len(), distinct.len()), (frames as usize, frames as usize));
            assert!(distinct.iter().all(|n| (FIRST..FIRST + frames).contains(n)));
            assert_eq!(pool.free() + cache.len() as u64, 0);
            given.into_iter().for_each(|number| free(&cache, &mut pool, number));
            assert_eq!(pool.free() + cache.len() as u64, frames);
        }
    }
}

#[test]
fn the_frame_put_last_is_taken_first() {
    let (cache, mut pool) = (Cache::new(), pool(1000, 1000));
    let given: Vec<_> = (0..200).filter_map(|_| alloc(&cache, &mut pool)).collect();
    for &number in &given {
        free(&cache, &mut pool, number);
    }
    assert_eq!(alloc(&cache, &mut pool), given.last().copied());
}

#[test]
fn many_frames_put_at_once_are_as_many_put_one_by_one() {
    for count in [0, 1, 31, CACHE, CACHE + 1, 3 * CACHE] {
        let (cache, pool) = (Cache::new(), RefCell::new(pool(1000, 1000)));
        let given: Vec<_> =
            (0..count).filter_map(|_| alloc(&cache, &mut pool.borrow_mut())).collect();
        while cache.take().is_some() {}
        let frames = given.iter().map(|&number| Frame::from_number(number));
        cache.put_all(frames, |frame| free(&cache, &mut pool.borrow_mut(), frame.number()));
        let mut back = all(&cache, &mut pool.borrow_mut());
        back.truncate(count);
        back.sort_unstable();
        assert!(given.iter().all(|number| back.binary_search(number).is_ok()), "of {count}");
    }
}

#[test]
fn a_run_is_made_of_loose_frames_when_there_is_no_other() {
    let (cache, mut pool) = (Cache::new(), pool(1024, 1024));
    let given = all(&cache, &mut pool);
    given.into_iter().for_each(|number| free(&cache, &mut pool, number));
    // All are loose or cached: at most the run that holds the cached ones is missing.
    let run = pool.take_run(8).unwrap();
    assert!(run.number().is_multiple_of(256));
    let rest = all(&cache, &mut pool);
    assert_eq!(rest.len(), 1024 - 256);
    let inside = run.number()..run.number() + 256;
    assert!(!rest.iter().any(|number| inside.contains(number)), "a frame of the run was given");
    pool.put_run(run, 8);
    assert_eq!(pool.free(), 256);
    assert_eq!(all(&cache, &mut pool).len(), 256);
}

#[test]
fn a_run_that_cannot_be_is_none() {
    let mut pool = pool(1000, 1000);
    assert_eq!(pool.take_run(10), None);
    assert_eq!(pool.take_run(MAX_ORDER + 1), None);
    assert_eq!(pool.take_run(u32::MAX), None);
    assert_eq!(pool.free(), 1000);
}

#[test]
fn without_leave_to_split_only_loose_frames_are_given() {
    let (cache, mut pool) = (Cache::new(), pool(1000, 1000));
    cache.refill(&mut pool, || false);
    assert!(cache.is_empty());
    let first = alloc(&cache, &mut pool).unwrap();
    free(&cache, &mut pool, first);
    let given = core::iter::from_fn(|| {
        if cache.is_empty() {
            cache.refill(&mut pool, || false);
        }
        cache.take()
    });
    assert_eq!(given.count(), 1 << BLOCK_ORDER);
}

/// A tick's worker freed pages between an allocation's look at an empty cache and its refill, and their
/// frames were lost.
#[test]
fn a_refill_does_not_lose_frames_that_a_tick_has_put() {
    let (cache, mut pool) = (Cache::new(), pool(1000, 1000));
    let given: Vec<_> = (0..2).filter_map(|_| alloc(&cache, &mut pool)).collect();
    while cache.take().is_some() {}
    let pooled = pool.free();
    given.iter().for_each(|&number| free(&cache, &mut pool, number));
    cache.refill(&mut pool, || true);
    assert_eq!(pool.free() + cache.len() as u64, pooled + 2);
    assert_eq!([cache.take(), cache.take()].map(|f| f.unwrap().number()), [given[1], given[0]]);
}

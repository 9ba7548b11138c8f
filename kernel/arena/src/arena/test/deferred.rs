//! Frees that wait for a worker.

use super::*;
use crate::arena::Freed;

/// Holds the lock as a program under it finds it, and calls `inside`.
fn under_lock(arena: &TestArena, inside: impl FnOnce()) {
    let held = arena.lock().lock(crate::hw::Irqs::Masked).unwrap();
    inside();
    drop(held);
}

#[test]
fn a_free_under_the_lock_is_left_to_the_worker() {
    let (model, arena) = arena();
    let frames = model.free_frames();
    let at = arena.alloc(None, 70).unwrap();
    under_lock(arena, || assert_eq!(arena.free_or_defer(at, 70), Ok(Freed::Later)));
    assert!(arena.entry(at).unwrap().is_valid(), "a page went before the worker came");
    assert!(arena.has_deferred());
    assert_eq!(arena.work(), Ok(70));
    assert!(!arena.has_deferred());
    assert_eq!(model.free_frames(), frames);
    assert_eq!(arena.stats().unwrap().free_pages, PAGES);
    assert_eq!(arena.stats().unwrap().deferred_pages, 70);
}

#[test]
fn a_page_that_waits_to_be_freed_is_given_to_nobody() {
    let (_, arena) = arena_of(2);
    let at = arena.alloc(None, 2).unwrap();
    arena.defer(at, 2).unwrap();
    assert_eq!(arena.alloc(None, 1), Err(AllocError::NoRange));
    arena.work().unwrap();
    assert_eq!(arena.alloc(None, 2), Ok(at));
}

#[test]
fn a_worker_without_the_lock_loses_nothing() {
    let (_, arena) = arena();
    let at = arena.alloc(None, 6).unwrap();
    arena.defer(at, 2).unwrap();
    arena.defer(at.offset(4 * PAGE_SIZE), 2).unwrap();
    under_lock(arena, || assert_eq!(arena.work(), Err(LockError::Aa)));
    assert_eq!(arena.work(), Ok(4));
    assert_eq!(arena.stats().unwrap().mapped_pages, 2);
}

#[test]
fn a_page_freed_twice_once_deferred_goes_back_once() {
    let (model, arena) = arena();
    let frames = model.free_frames();
    let at = arena.alloc(None, 2).unwrap();
    arena.defer(at, 2).unwrap();
    arena.free(at, 2).unwrap();
    // Its next owner keeps it: the note was taken back by the free.
    assert_eq!(arena.alloc(Some(at), 1), Ok(at));
    assert_eq!(arena.work(), Ok(0));
    assert!(arena.entry(at).unwrap().is_valid());
    arena.free(at, 1).unwrap();
    assert_eq!(model.free_frames(), frames);
}

#[test]
fn destroy_takes_what_no_worker_came_for() {
    let (model, arena) = arena();
    let frames = model.free_frames();
    let at = arena.alloc(None, 3).unwrap();
    arena.defer(at, 3).unwrap();
    arena.destroy().unwrap();
    assert!(model.free_frames() > frames, "the pages, the tables and scratch");
}

#[test]
fn a_range_that_is_not_the_arena_s_is_not_deferred() {
    let (_, arena) = arena_of(16);
    let end = arena.window().page(16);
    assert_eq!(arena.defer(end, 1), Err(FreeError::Range(end, 1)));
    assert!(!arena.has_deferred());
}

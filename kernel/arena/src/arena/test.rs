use std::boxed::Box;
use std::rc::Rc;
use std::vec::Vec;

use super::*;
use crate::addr::PAGE_SIZE;
use crate::hw::{Frames, LockError};
use crate::model::{Event, Model};
use crate::protocol::TombstoneProtocol;
use crate::pte::State;

mod book;
mod deferred;
mod order;
mod user;

const PAGES: u32 = 1024;

type TestArena = Arena<TombstoneProtocol, &'static Model>;

/// A leaked model, so that the tracepoint closure can hold the arena; each test has its own.
fn arena() -> (&'static Model, &'static TestArena) {
    arena_of(PAGES)
}

/// The same with `max_pages` to give out in a window of [`PAGES`].
fn arena_of(max_pages: u32) -> (&'static Model, &'static TestArena) {
    let model: &'static Model = Box::leak(Box::new(Model::with_frames(256)));
    let root = model_root(&model);
    let window =
        Window::new(VirtAddr::new(0xffff_8001_0000_0000), PAGES, VirtAddr::new(1 << 32)).unwrap();
    let arena = Arena::create(model, root, window, max_pages).unwrap();
    (model, Box::leak(Box::new(arena)))
}

/// A root with the level 1 table that all windows share.
fn model_root(machine: &&'static Model) -> Frame {
    let root = machine.alloc().unwrap();
    machine.zero(root);
    Mapper::new(machine, root).make_tables(VirtAddr::new(0xffff_8001_0000_0000), 1).unwrap();
    root
}

fn frame_at(arena: &TestArena, va: VirtAddr) -> Option<Frame> {
    arena.entry(va).unwrap().frame()
}

#[test]
fn pages_are_distinct_zeroed_before_they_are_mapped_and_published_once() {
    let (model, arena) = arena();
    model.take_events();
    let at = arena.alloc(None, 3).unwrap();
    let frames: Vec<_> = (0..3).map(|n| frame_at(arena, at.offset(n * PAGE_SIZE))).collect();
    assert!(frames[0] != frames[1] && frames[1] != frames[2] && frames[0] != frames[2]);
    let log = model.take_events();
    for frame in frames {
        let frame = frame.unwrap();
        let zeroed = log.iter().position(|&e| e == Event::Zero(frame)).unwrap();
        let installed = log.iter().position(
            |e| matches!(e, Event::Cas { new, won: true, .. } if Pte::from_bits(*new).frame() == Some(frame)),
        );
        assert!(zeroed < installed.unwrap());
    }
    assert_eq!(log.iter().filter(|&&e| e == Event::DsbIshst).count(), 1);
}

#[test]
fn free_returns_frames_only_after_the_flush_of_each_page() {
    let (model, arena) = arena();
    let at = arena.alloc(None, 65).unwrap();
    for n in 0..65 {
        let page = at.offset(n * PAGE_SIZE);
        model.touch(page, arena.entry(page).unwrap());
    }
    model.take_events();
    // The model's allocator refuses a frame that a TLB still translates to.
    arena.free(at, 65).unwrap();
    let log = model.take_events();
    let barriers = log.iter().filter(|&&e| e == Event::DsbIshst).count();
    assert_eq!(barriers, 2, "one set of barriers a batch of 64");
    assert_eq!(log.iter().filter(|e| matches!(e, Event::Tlbi(_))).count(), 65);
    assert_eq!(arena.entry(at).unwrap().state(), State::Empty);
}

#[test]
fn everything_comes_back_after_destroy() {
    let (model, arena) = arena();
    let before_arena = model.free_frames();
    let at = arena.alloc(None, 40).unwrap();
    arena.reserve(arena.window().page(700), 10).unwrap();
    let _ = arena.recover(arena.window().page(900));
    let _ = arena.recover(arena.window().page(PAGES + 3));
    arena.free(at.offset(PAGE_SIZE), 7).unwrap();
    arena.destroy().unwrap();
    // Three level 3 tables (two of pages, one of the guard), a level 2 table and scratch.
    assert_eq!(model.free_frames(), before_arena + 5);
    assert_eq!(arena.stats().unwrap().mapped_pages, 0);
    assert_eq!(arena.destroy(), Err(DestroyError::Already));
    assert_eq!(arena.recover(at), Recovery::NotOurs);
}

#[test]
fn a_fault_under_the_arena_lock_is_recovered_without_it() {
    let (model, arena) = arena();
    let wild = arena.window().page(5);
    let seen = Rc::new(core::cell::RefCell::new(Vec::new()));
    let log = seen.clone();
    model.on_alloc.replace(Some(Box::new(move || {
        // The lock is held by the allocation that fired the tracepoint.
        assert_eq!(arena.alloc(None, 1), Err(AllocError::Lock(LockError::Aa)));
        log.borrow_mut().push(arena.recover(wild));
    })));
    let at = arena.alloc(None, 1).unwrap();
    assert_ne!(at, wild);
    assert!(matches!(seen.borrow()[0], Recovery::Scratch { .. }));
    assert_eq!(frame_at(arena, wild), Some(arena.scratch()));
}

#[test]
fn an_alloc_maps_its_page_where_a_fault_under_it_put_scratch() {
    let (model, arena) = arena();
    let target = arena.window().page(0);
    model.on_alloc.replace(Some(Box::new(move || {
        let _ = arena.recover(target);
    })));
    assert_eq!(arena.alloc(Some(target), 1), Ok(target));
    assert_ne!(frame_at(arena, target), Some(arena.scratch()));
}

#[test]
fn scratch_left_by_an_old_violation_does_not_block_an_alloc() {
    let (model, arena) = arena();
    let target = arena.window().page(9);
    let _ = arena.recover(target);
    model.touch(target, arena.entry(target).unwrap());
    assert_eq!(arena.alloc(Some(target), 1), Ok(target));
    assert!(model.tlb.borrow().is_empty(), "the translation to scratch was flushed");
}

#[test]
fn freeing_a_range_with_scratch_in_it_keeps_scratch() {
    let (model, arena) = arena();
    let wild = arena.window().page(1);
    let _ = arena.recover(wild);
    let free_before = model.free_frames();
    arena.free(arena.window().page(0), 3).unwrap();
    assert_eq!(model.free_frames(), free_before);
    assert_eq!(arena.entry(wild).unwrap().state(), State::Empty);
    assert!(matches!(arena.recover(wild), Recovery::Scratch { .. }), "scratch still serves");
}

#[test]
fn a_second_free_frees_only_what_is_mapped_now() {
    let (model, arena) = arena();
    let at = arena.alloc(None, 2).unwrap();
    arena.free(at, 2).unwrap();
    let free = model.free_frames();
    arena.free(at, 2).unwrap();
    assert_eq!(model.free_frames(), free);
    assert_eq!(arena.stats().unwrap().mapped_pages, 0);
}

#[test]
fn running_out_of_frames_undoes_the_batch() {
    let (model, arena) = arena();
    let free = model.free_frames();
    model.budget.set(5);
    assert_eq!(arena.alloc(None, 8), Err(AllocError::NoMemory));
    assert_eq!(model.free_frames(), free);
    let stats = arena.stats().unwrap();
    assert_eq!((stats.mapped_pages, stats.free_pages), (0, PAGES));
}

#[test]
fn a_free_of_any_size_frees_that_many_and_counts_only_what_was_mapped() {
    let (_, arena) = arena();
    for pages in (1..=20).chain([63, 64, 65, 130]) {
        let at = arena.alloc(None, pages).unwrap();
        let behind = at.offset(u64::from(pages) * PAGE_SIZE);
        let kept = arena.alloc(Some(behind), 1).unwrap();
        arena.free(at, pages).unwrap();
        // Scratch, and slots that hold nothing: nobody's pages.
        for n in (0..pages).step_by(3) {
            let _ = arena.recover(at.offset(u64::from(n) * PAGE_SIZE));
        }
        arena.free(at, pages).unwrap();
        assert_eq!(arena.stats().unwrap().mapped_pages, 1, "{pages} pages freed, two times");
        assert!((0..pages).all(|n| frame_at(arena, at.offset(u64::from(n) * PAGE_SIZE)).is_none()));
        assert!(frame_at(arena, kept).is_some());
        arena.free(kept, 1).unwrap();
    }
}

#[test]
fn a_fault_on_a_mapped_page_is_spurious_and_changes_nothing() {
    let (_, arena) = arena();
    let at = arena.alloc(None, 1).unwrap();
    let entry = arena.entry(at).unwrap();
    assert_eq!(arena.recover(at.offset(0x123)), Recovery::Spurious(entry));
    assert_eq!(arena.entry(at).unwrap(), entry);
}

#[test]
fn the_second_of_two_faulters_loses_and_still_counts_as_a_violation() {
    let (_, arena) = arena();
    let wild = arena.window().page(3);
    assert!(matches!(arena.recover(wild), Recovery::Scratch { .. }));
    assert!(matches!(arena.recover(wild), Recovery::Lost { .. }));
    let stats = arena.stats().unwrap();
    assert_eq!((stats.scratch_installs, stats.lost_installs), (1, 1));
}

#[test]
fn losing_the_race_to_the_allocator_is_success() {
    let (model, arena) = arena();
    let wild = arena.window().page(3);
    let real = Pte::page(Frame::from_number(77), crate::pte::Attributes::KERNEL_DATA);
    model.before_cas.replace(Some(Box::new(move |word: &AtomicU64| {
        word.store(real.bits(), Ordering::Relaxed);
    })));
    assert_eq!(arena.recover(wild), Recovery::Lost { before: Pte::EMPTY, winner: real });
}

#[test]
fn bad_requests_are_refused_before_anything_changes() {
    let (_, arena) = arena();
    let last = arena.window().page(PAGES - 1);
    assert_eq!(arena.alloc(None, 0), Err(AllocError::PageCount(0)));
    assert_eq!(arena.alloc(None, PAGES + 1), Err(AllocError::PageCount(PAGES + 1)));
    assert_eq!(arena.alloc(Some(last), 2), Err(AllocError::Address(last)));
    assert_eq!(arena.alloc(Some(last.offset(1)), 1), Err(AllocError::Address(last.offset(1))));
    arena.reserve(last, 1).unwrap();
    assert_eq!(arena.reserve(last, 1), Err(AllocError::InUse));
    assert_eq!(arena.alloc(Some(last), 1), Err(AllocError::InUse));
    assert_eq!(arena.free(last.offset(1), 1), Err(FreeError::Range(last.offset(1), 1)));
    assert_eq!(arena.stats().unwrap().free_pages, PAGES - 1);
}

#[test]
fn an_arena_that_does_not_fit_leaves_nothing_behind() {
    let model: &'static Model = Box::leak(Box::new(Model::with_frames(64)));
    let root = model_root(&model);
    let window =
        Window::new(VirtAddr::new(0xffff_8001_0000_0000), 1 << 18, VirtAddr::new(0)).unwrap();
    let free = model.free_frames();
    let outcome = TestArena::create(model, root, window, 16);
    assert!(matches!(outcome, Err(CreateError::Map(MapError::NoMemory))));
    assert_eq!(model.free_frames(), free);
}

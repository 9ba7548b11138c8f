//! Bookkeeping: counters, bounds, nodes, and errors that leave nothing changed.

use super::*;
use crate::hw::{Irqs, Lock};
use crate::pte::Attributes;

fn page_of(number: u64) -> Pte {
    Pte::page(Frame::from_number(number), Attributes::KERNEL_DATA)
}

#[test]
fn the_counters_follow_alloc_and_free() {
    let (_, arena) = arena();
    let counts = || {
        let stats = arena.stats().unwrap();
        (stats.mapped_pages, stats.peak_pages, stats.free_pages)
    };
    let first = arena.alloc(None, 5).unwrap();
    assert_eq!(counts(), (5, 5, PAGES - 5));
    arena.free(first, 3).unwrap();
    assert_eq!(counts(), (2, 5, PAGES - 2));
    arena.alloc(None, 4).unwrap();
    assert_eq!(counts(), (6, 6, PAGES - 6));
}

#[test]
fn every_operation_takes_the_lock_with_irqs_masked() {
    let (_, arena) = arena();
    let masks = |operation: &dyn Fn()| {
        arena.lock().asked.set(None);
        operation();
        assert_eq!(arena.lock().asked.get(), Some(Irqs::Masked));
    };
    let page = arena.window().page(3);
    masks(&|| assert_eq!(arena.alloc(Some(page), 1), Ok(page)));
    masks(&|| arena.free(page, 1).unwrap());
    masks(&|| arena.reserve(page, 1).unwrap());
    masks(&|| assert!(arena.stats().is_ok()));
    masks(&|| arena.destroy().unwrap());
}

#[test]
fn a_refused_lock_is_counted_and_changes_nothing() {
    let (model, arena) = arena();
    let page = arena.alloc(None, 1).unwrap();
    let free = model.free_frames();
    let held = arena.lock().lock(Irqs::Masked).unwrap();
    assert_eq!(arena.alloc(None, 1), Err(AllocError::Lock(LockError::Aa)));
    assert_eq!(arena.free(page, 1), Err(FreeError::Lock(LockError::Aa)));
    assert_eq!(arena.destroy(), Err(DestroyError::Lock(LockError::Aa)));
    drop(held);
    assert_eq!(model.free_frames(), free);
    assert_eq!(arena.stats().unwrap().lock_failures, 2);
    arena.destroy().unwrap();
}

#[test]
fn pages_of_the_window_beyond_the_arena_s_own_are_refused() {
    let (_, arena) = arena_of(100);
    let last = arena.window().page(99);
    assert_eq!(arena.alloc(None, 101), Err(AllocError::PageCount(101)));
    assert_eq!(arena.alloc(Some(last), 2), Err(AllocError::Address(last)));
    assert_eq!(arena.reserve(last, 2), Err(AllocError::Address(last)));
    assert_eq!(arena.free(last, 2), Err(FreeError::Range(last, 2)));
    assert_eq!(arena.free(last, 0), Err(FreeError::Range(last, 0)));
    assert_eq!(arena.alloc(Some(last), 1), Ok(last));
    assert_eq!(arena.alloc(Some(arena.window().page(0)), 99), Ok(arena.window().page(0)));
    assert_eq!(arena.alloc(None, 1), Err(AllocError::NoRange));
}

#[test]
fn an_arena_of_no_pages_or_of_more_than_its_window_is_refused() {
    let model: &'static Model = Box::leak(Box::new(Model::with_frames(64)));
    let root = model_root(&model);
    let window = Window::new(VirtAddr::new(0xffff_8001_0000_0000), 16, VirtAddr::new(0)).unwrap();
    for pages in [0, 17] {
        let outcome = TestArena::create(model, root, window, pages);
        assert!(matches!(outcome, Err(CreateError::PageCount(count)) if count == pages));
    }
}

#[test]
fn a_free_in_the_worst_order_needs_no_node() {
    let (_, arena) = arena();
    let page = |index| arena.window().page(index);
    for index in 0..200 {
        arena.alloc(Some(page(2 * index + 1)), 1).unwrap();
    }
    for index in 0..10 {
        arena.reserve(page(500 + 20 * index), 20).unwrap();
    }
    let nodes = || {
        let inner = arena.lock().lock(Irqs::Masked).unwrap();
        (inner.ranges.node_capacity(), inner.ranges.len())
    };
    let (reserved, _) = nodes();
    for index in 0..100 {
        arena.free(page(501 + 2 * index), 1).unwrap();
    }
    assert_eq!(nodes(), (reserved, 301), "no free took memory for a node");
}

#[test]
fn a_page_mapped_behind_the_tree_s_back_is_an_error_and_stays() {
    let (model, arena) = arena();
    let target = arena.window().page(1);
    let foreign = page_of(77);
    arena.slot(target).unwrap().try_set(&model, target, foreign).unwrap();
    let free = model.free_frames();
    let at = arena.window().page(0);
    assert_eq!(arena.alloc(Some(at), 3), Err(AllocError::Mapped(target, foreign)));
    assert_eq!(arena.entry(target), Some(foreign));
    assert_eq!(arena.entry(at).unwrap().state(), State::Empty);
    assert_eq!(model.free_frames(), free);
    assert_eq!(arena.stats().unwrap().free_pages, PAGES);
}

#[test]
fn scratch_is_zeroed_before_anyone_can_see_it() {
    let (model, arena) = arena();
    let log = model.take_events();
    assert!(log.contains(&Event::Zero(arena.scratch())));
}

#[test]
fn a_free_across_a_table_boundary_frees_every_page() {
    let (model, arena) = arena();
    let at = arena.window().page(500);
    let free = model.free_frames();
    arena.alloc(Some(at), 24).unwrap();
    arena.free(at, 24).unwrap();
    assert_eq!(model.free_frames(), free);
    for n in 0..24 {
        assert_eq!(arena.entry(at.offset(n * PAGE_SIZE)).unwrap().state(), State::Empty);
    }
}

//! The user window: first touches, and frees that clear both windows.

use super::*;
use crate::addr::VirtAddr;
use crate::pte::{Access, Attributes};

fn user(arena: &TestArena, index: u32) -> VirtAddr {
    arena.window().to_user(arena.window().page(index))
}

fn user_entry(model: &'static Model, arena: &TestArena, index: u32) -> Pte {
    arena.user_slot(user(arena, index)).map_or(Pte::EMPTY, |slot| slot.load(&model))
}

#[test]
fn a_first_touch_maps_one_zeroed_page_in_both_windows() {
    let (model, arena) = arena();
    model.take_events();
    arena.user_fault(user(arena, 5)).unwrap();
    let kernel = arena.entry(arena.window().page(5)).unwrap();
    let entry = user_entry(model, arena, 5);
    assert_eq!((kernel.frame(), entry.frame().is_some()), (entry.frame(), true));
    assert!(model.take_events().contains(&Event::Zero(kernel.frame().unwrap())));
    assert_eq!(entry.attributes().map(|a: Attributes| a.access), Some(Access::UserReadWrite));
    assert_eq!(arena.stats().unwrap().mapped_pages, 1);
    assert_eq!(arena.alloc(Some(arena.window().page(5)), 1), Err(AllocError::InUse));
}

#[test]
fn a_touch_of_an_allocated_page_maps_that_page() {
    let (model, arena) = arena();
    let at = arena.alloc(Some(arena.window().page(3)), 1).unwrap();
    arena.user_fault(user(arena, 3)).unwrap();
    arena.user_fault(user(arena, 3)).unwrap();
    assert_eq!(user_entry(model, arena, 3).frame(), frame_at(arena, at));
    assert_eq!(arena.stats().unwrap().mapped_pages, 1);
}

#[test]
fn a_touch_where_scratch_is_maps_nothing() {
    let (model, arena) = arena();
    let _ = arena.recover(arena.window().page(7));
    assert_eq!(arena.user_fault(user(arena, 7)), Err(UserFault::Scratch));
    assert_eq!(user_entry(model, arena, 7), Pte::EMPTY);
    assert_eq!(arena.stats().unwrap().free_pages, PAGES);
}

#[test]
fn scratch_that_comes_during_the_touch_wins_and_nothing_is_leaked() {
    let (model, arena) = arena();
    arena.user_fault(user(arena, 0)).unwrap();
    let frames = model.free_frames();
    *model.on_alloc.borrow_mut() = Some(Box::new(move || {
        let _ = arena.recover(arena.window().page(7));
    }));
    assert_eq!(arena.user_fault(user(arena, 7)), Err(UserFault::Scratch));
    *model.on_alloc.borrow_mut() = None;
    assert_eq!(model.free_frames(), frames);
    assert_eq!(arena.stats().unwrap().free_pages, PAGES - 1);
}

#[test]
fn a_free_clears_and_flushes_both_windows_before_the_frame_goes() {
    let (model, arena) = arena();
    for index in [62, 63, 64] {
        arena.user_fault(user(arena, index)).unwrap();
        // The model's allocator refuses a frame that a TLB still translates to.
        model.touch(user(arena, index), user_entry(model, arena, index));
        model.touch(arena.window().page(index), arena.entry(arena.window().page(index)).unwrap());
    }
    arena.free(arena.window().page(62), 3).unwrap();
    for index in [62, 63, 64] {
        assert_eq!(user_entry(model, arena, index).state(), State::Empty);
    }
    assert!(model.tlb.borrow().is_empty());
    assert_eq!(arena.stats().unwrap().mapped_pages, 0);
}

#[test]
fn a_touch_outside_or_of_a_reserved_page_is_refused() {
    let (_, arena) = arena_of(16);
    arena.reserve(arena.window().page(4), 1).unwrap();
    assert_eq!(arena.user_fault(user(arena, 16)), Err(UserFault::Outside));
    assert_eq!(arena.user_fault(VirtAddr::new(0)), Err(UserFault::Outside));
    assert_eq!(arena.user_fault(user(arena, 4)), Err(UserFault::Unallocated));
}

#[test]
fn an_arena_that_allocates_nothing_for_tasks_still_shares_its_pages() {
    let (_, arena) = arena();
    arena.set_fault_on_unallocated(true);
    assert_eq!(arena.user_fault(user(arena, 1)), Err(UserFault::Unallocated));
    arena.alloc(Some(arena.window().page(1)), 1).unwrap();
    assert_eq!(arena.user_fault(user(arena, 1)), Ok(()));
}

#[test]
fn destroy_frees_the_user_s_tables_too() {
    let model: &'static Model = Box::leak(Box::new(Model::with_frames(256)));
    let root = model_root(&model);
    let before = model.free_frames();
    let window =
        Window::new(VirtAddr::new(0xffff_8001_0000_0000), PAGES, VirtAddr::new(1 << 32)).unwrap();
    let arena: TestArena = Arena::create(model, root, window, PAGES).unwrap();
    assert!(arena.user_table().is_some());
    arena.user_fault(user(&arena, 0)).unwrap();
    arena.user_fault(user(&arena, 1023)).unwrap();
    arena.destroy().unwrap();
    assert_eq!(model.free_frames(), before);
}

#[test]
fn a_touch_without_memory_leaks_nothing() {
    let (model, arena) = arena();
    for budget in 0..6 {
        let frames = model.free_frames();
        model.budget.set(budget);
        let outcome = arena.user_fault(user(arena, 600 + budget as u32 * 20));
        model.budget.set(usize::MAX);
        let stats = arena.stats().unwrap();
        // Tables that were made stay; a page that was mapped for the kernel is counted.
        assert!(outcome.is_ok() || outcome == Err(UserFault::NoMemory), "{outcome:?}");
        assert_eq!(stats.mapped_pages + stats.free_pages, PAGES);
        assert!(frames - model.free_frames() <= 6);
    }
}

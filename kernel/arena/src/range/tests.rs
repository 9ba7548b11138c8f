use std::vec;
use std::vec::Vec;

use super::pool::CHUNK;
use super::*;

fn run(start: u32, pages: u32) -> PageRange {
    PageRange::new(start, pages)
}

fn tree(runs: &[PageRange]) -> RangeTree {
    let mut tree = RangeTree::new();
    for &range in runs {
        tree.set(range).unwrap();
    }
    tree.check();
    tree
}

fn runs(tree: &RangeTree) -> Vec<PageRange> {
    tree.check();
    tree.ranges().collect()
}

/// A tree with every node in use and no memory for another: pages 0, 2, 4 and so on, then a long
/// run at the end.
fn full() -> (RangeTree, PageRange) {
    let mut tree = RangeTree::new();
    tree.pool.limit = Some(CHUNK);
    let last = CHUNK as u32 - 1;
    (0..last).for_each(|page| tree.set(run(2 * page, 1)).unwrap());
    let long = run(2 * last, 10);
    tree.set(long).unwrap();
    (tree, long)
}

impl RangeTree {
    /// Checks both trees against each other, the runs against the rules, and the counts.
    pub(super) fn check(&self) {
        assert_eq!(self.starts.check(&self.pool), self.len());
        assert_eq!(self.sizes.check(&self.pool), self.len());
        let mut free = 0;
        let mut end = None;
        for range in self.ranges() {
            assert!(range.pages > 0, "empty run at {}", range.start);
            assert!(end < Some(range.start.into()), "{} touches its neighbour", range.start);
            end = Some(range.end());
            free += range.pages;
        }
        assert_eq!(self.free_pages(), free);
        assert!(self.len() <= self.node_capacity());
    }
}

#[test]
fn merge_joins_both_neighbours() {
    let mut tree = tree(&[run(0, 4), run(6, 4)]);
    tree.set(run(4, 2)).unwrap();
    assert_eq!(runs(&tree), [run(0, 10)]);
}

#[test]
fn merge_joins_one_neighbour_and_leaves_the_other() {
    let mut left = tree(&[run(0, 4), run(8, 4)]);
    left.set(run(4, 2)).unwrap();
    assert_eq!(runs(&left), [run(0, 6), run(8, 4)]);
    let mut right = tree(&[run(0, 4), run(8, 4)]);
    right.set(run(6, 2)).unwrap();
    assert_eq!(runs(&right), [run(0, 4), run(6, 6)]);
}

#[test]
fn set_swallows_everything_that_it_covers() {
    let mut tree = tree(&[run(2, 1), run(4, 1), run(6, 1), run(10, 5)]);
    tree.set(run(0, 12)).unwrap();
    assert_eq!(runs(&tree), [run(0, 15)]);
}

#[test]
fn set_of_free_pages_changes_nothing() {
    let mut tree = tree(&[run(0, 10)]);
    tree.set(run(3, 4)).unwrap();
    tree.set(run(0, 10)).unwrap();
    assert_eq!((runs(&tree), tree.free_pages()), (vec![run(0, 10)], 10));
}

#[test]
fn split_leaves_two() {
    let mut tree = tree(&[run(0, 10)]);
    tree.clear(run(4, 2)).unwrap();
    assert_eq!(runs(&tree), [run(0, 4), run(6, 4)]);
}

#[test]
fn clear_cuts_both_ends_and_removes_the_middle() {
    let mut tree = tree(&[run(0, 4), run(6, 2), run(10, 4)]);
    tree.clear(run(2, 10)).unwrap();
    assert_eq!(runs(&tree), [run(0, 2), run(12, 2)]);
}

#[test]
fn clear_of_used_pages_changes_nothing() {
    let mut tree = tree(&[run(0, 4), run(8, 4)]);
    tree.clear(run(4, 4)).unwrap();
    tree.clear(run(12, 100)).unwrap();
    assert_eq!(runs(&tree), [run(0, 4), run(8, 4)]);
}

#[test]
fn best_fit_prefers_the_smallest() {
    let tree = tree(&[run(0, 8), run(10, 3), run(20, 5)]);
    assert_eq!([1, 3, 4, 5, 6, 8].map(|pages| tree.find(pages)), [10, 10, 20, 20, 0, 0].map(Some));
    assert_eq!(tree.find(9), None);
}

#[test]
fn ties_go_to_the_lowest_address() {
    for order in [[0, 10, 20], [20, 10, 0], [10, 20, 0]] {
        let tree = tree(&order.map(|start| run(start, 3)));
        assert_eq!(tree.find(2), Some(0), "{order:?}");
    }
}

#[test]
fn take_is_find_and_clear() {
    let mut tree = tree(&[run(0, 8), run(10, 3), run(20, 5)]);
    assert_eq!(tree.take(3), Some(10));
    assert_eq!(runs(&tree), [run(0, 8), run(20, 5)]);
    assert_eq!(tree.take(4), Some(20));
    assert_eq!(runs(&tree), [run(0, 8), run(24, 1)]);
    assert_eq!(tree.take(9), None);
}

#[test]
fn nothing_is_found_for_no_pages() {
    let mut tree = tree(&[run(0, 8)]);
    assert_eq!((tree.find(0), tree.take(0)), (None, None));
    assert_eq!(runs(&tree), [run(0, 8)]);
}

#[test]
fn an_empty_range_is_free_and_marks_nothing() {
    let mut tree = tree(&[run(0, 4)]);
    tree.set(run(9, 0)).unwrap();
    tree.clear(run(2, 0)).unwrap();
    assert_eq!(runs(&tree), [run(0, 4)]);
    assert!(tree.contains(run(9, 0)) && !tree.intersects(run(2, 0)));
}

#[test]
fn contains_wants_every_page_and_intersects_any() {
    let tree = tree(&[run(2, 4), run(8, 4)]);
    assert!(tree.contains(run(2, 4)) && tree.contains(run(3, 1)));
    assert!(!tree.contains(run(1, 2)) && !tree.contains(run(4, 5)) && !tree.contains(run(6, 1)));
    assert!(tree.intersects(run(0, 3)) && tree.intersects(run(5, 4)));
    assert!(!tree.intersects(run(6, 2)) && !tree.intersects(run(0, 2)));
    assert!(!tree.intersects(run(12, u32::MAX)));
}

#[test]
fn the_largest_run_is_known() {
    assert_eq!(RangeTree::new().largest(), 0);
    assert_eq!(tree(&[run(0, 3), run(5, 9), run(20, 9), run(40, 1)]).largest(), 9);
}

#[test]
fn a_whole_arena_of_2_to_the_20_pages_comes_back() {
    const PAGES: u32 = 1 << 20;
    let mut tree = tree(&[run(0, PAGES)]);
    (0..PAGES).for_each(|page| assert_eq!(tree.take(1), Some(page)));
    assert!(tree.is_empty());
    (0..PAGES).step_by(2).for_each(|page| tree.set(run(page, 1)).unwrap());
    tree.check();
    assert_eq!(tree.len(), PAGES as usize / 2);
    (1..PAGES).step_by(2).for_each(|page| tree.set(run(page, 1)).unwrap());
    assert_eq!(runs(&tree), [run(0, PAGES)]);
}

#[test]
fn the_last_index_is_out_of_bounds() {
    let mut tree = tree(&[run(0, u32::MAX)]);
    for range in [run(u32::MAX, 1), run(u32::MAX - 1, 2), run(1, u32::MAX)] {
        assert_eq!(tree.set(range), Err(RangeError::OutOfBounds(range)));
        assert_eq!(tree.clear(range), Err(RangeError::OutOfBounds(range)));
        assert!(!tree.contains(range), "{range:?}");
    }
    assert_eq!(tree.find(u32::MAX), Some(0));
    tree.clear(run(1, 1)).unwrap();
    tree.clear(run(u32::MAX - 1, 1)).unwrap();
    assert_eq!(runs(&tree), [run(0, 1), run(2, u32::MAX - 3)]);
}

#[test]
fn out_of_nodes_leaves_the_tree_unchanged() {
    let (mut tree, long) = full();
    let before = runs(&tree);
    assert_eq!(tree.clear(run(long.start + 4, 1)), Err(RangeError::NoMemory));
    assert_eq!(runs(&tree), before);
    assert_eq!(tree.set(run(long.start + 20, 1)), Err(RangeError::NoMemory));
    assert_eq!(runs(&tree), before);
    assert_eq!(tree.reserve_nodes(CHUNK + 1), Err(RangeError::NoMemory));
}

#[test]
fn merging_and_cutting_ends_need_no_node() {
    let (mut tree, long) = full();
    tree.clear(run(long.start, 1)).unwrap();
    tree.clear(run(long.start + 8, 2)).unwrap();
    tree.set(run(1, 1)).unwrap();
    assert_eq!(tree.len(), CHUNK - 1);
    tree.clear(run(long.start + 4, 1)).expect("the node that merging gave back");
    tree.check();
}

#[test]
fn reserved_nodes_are_enough_for_every_free() {
    let (used, pages) = (3 * CHUNK as u32, 1 << 20);
    let mut tree = tree(&[run(0, pages)]);
    tree.reserve_nodes(used as usize + 1).unwrap();
    tree.pool.limit = Some(0);
    // As many runs as that many used pages can leave.
    (0..used).for_each(|page| tree.clear(run(2 * page + 1, 1)).unwrap());
    assert_eq!(tree.len(), used as usize + 1);
    (0..used).rev().for_each(|page| tree.set(run(2 * page + 1, 1)).unwrap());
    assert_eq!(runs(&tree), [run(0, pages)]);
}

#[test]
fn a_reservation_that_fails_keeps_no_node() {
    let mut tree = tree(&[run(0, 1 << 20)]);
    let before = tree.node_capacity();
    tree.pool.limit = Some(before + 5 * CHUNK);
    assert_eq!(tree.reserve_nodes(before + 6 * CHUNK), Err(RangeError::NoMemory));
    assert_eq!(tree.node_capacity(), before);
    tree.reserve_nodes(before + 5 * CHUNK).unwrap();
    assert_eq!(tree.node_capacity(), before + 5 * CHUNK);
}

#[test]
fn a_page_from_the_front_and_back_touches_neither_tree() {
    let mut tree = tree(&[run(0, 2), run(10, 100), run(200, 1000)]);
    let before = (tree.starts.changes, tree.sizes.changes);
    tree.clear(run(10, 1)).unwrap();
    tree.set(run(10, 1)).unwrap();
    assert_eq!(tree.take(50), Some(10));
    tree.set(run(59, 1)).unwrap();
    tree.clear(run(1199, 1)).unwrap();
    tree.set(run(1199, 7)).unwrap();
    tree.clear(run(1, 1)).unwrap();
    assert_eq!((tree.starts.changes, tree.sizes.changes), before);
    assert_eq!(runs(&tree), [run(0, 1), run(59, 51), run(200, 1006)]);
}

#[test]
fn a_change_of_order_by_size_rehangs_one_tree_once() {
    let mut tree = tree(&[run(0, 5), run(10, 6)]);
    let (starts, sizes) = (tree.starts.changes, tree.sizes.changes);
    tree.clear(run(10, 3)).unwrap();
    assert_eq!((tree.starts.changes - starts, tree.sizes.changes - sizes), (0, 2));
    assert_eq!((tree.find(3), tree.largest()), (Some(13), 5));
}

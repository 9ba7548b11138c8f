//! The range tree against a plain bitmap, under any interleaving of its calls.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::pool::CHUNK;
use super::*;

#[derive(Clone, Copy, Debug)]
enum Call {
    Set(PageRange),
    Clear(PageRange),
    Take(u32),
    TakeAt(PageRange),
    Find(u32),
    Ask(PageRange),
}

struct Bitmap(Vec<bool>);

impl Bitmap {
    fn mark(&mut self, range: PageRange, free: bool) {
        self.0[range.start as usize..range.end() as usize].fill(free);
    }

    fn part(&self, range: PageRange) -> &[bool] {
        &self.0[range.start as usize..range.end() as usize]
    }

    fn runs(&self) -> Vec<PageRange> {
        let mut runs: Vec<PageRange> = vec![];
        for (page, _) in self.0.iter().enumerate().filter(|(_, free)| **free) {
            match runs.last_mut() {
                Some(last) if last.end() == page as u64 => last.pages += 1,
                _ => runs.push(PageRange::new(page as u32, 1)),
            }
        }
        runs
    }

    fn find(&self, pages: u32) -> Option<u32> {
        let fitting = self.runs().into_iter().filter(|run| run.pages >= pages && pages > 0);
        fitting.min_by_key(|run| (run.pages, run.start)).map(|run| run.start)
    }
}

/// Runs `calls` on both. `nodes` is what the tree may use, so that running out is met too.
fn compare(pages: u32, nodes: Option<usize>, calls: &[Call]) -> Result<(), TestCaseError> {
    let mut bitmap = Bitmap(vec![false; pages as usize]);
    let mut tree = RangeTree::new();
    tree.pool.limit = nodes;
    for &call in calls {
        match call {
            Call::Set(range) => mark(&mut tree, &mut bitmap, range, true)?,
            Call::Clear(range) => mark(&mut tree, &mut bitmap, range, false)?,
            Call::Take(count) => {
                let taken = tree.take(count);
                prop_assert_eq!(taken, bitmap.find(count));
                if let Some(start) = taken {
                    bitmap.mark(PageRange::new(start, count), false);
                }
            }
            Call::TakeAt(range) => {
                let all = bitmap.part(range).iter().all(|&free| free);
                let mut cut = Bitmap(bitmap.0.clone());
                cut.mark(range, false);
                let fits = !all || tree.pool.limit.is_none_or(|nodes| cut.runs().len() <= nodes);
                let taken = tree.take_at(range);
                prop_assert_eq!(taken, if fits { Ok(all) } else { Err(RangeError::NoMemory) });
                if taken == Ok(true) {
                    bitmap = cut;
                }
            }
            Call::Find(count) => prop_assert_eq!(tree.find(count), bitmap.find(count)),
            Call::Ask(range) => {
                prop_assert_eq!(tree.contains(range), bitmap.part(range).iter().all(|&free| free));
                prop_assert_eq!(tree.intersects(range), bitmap.part(range).contains(&true));
            }
        }
        tree.check();
        let runs = bitmap.runs();
        prop_assert_eq!(tree.largest(), runs.iter().map(|run| run.pages).max().unwrap_or(0));
        prop_assert_eq!(tree.ranges().collect::<Vec<_>>(), runs, "after {:?}", call);
    }
    Ok(())
}

/// The tree refuses exactly when there would be more runs than nodes, and then changes nothing.
fn mark(
    tree: &mut RangeTree,
    bitmap: &mut Bitmap,
    range: PageRange,
    free: bool,
) -> Result<(), TestCaseError> {
    let before = bitmap.0.clone();
    bitmap.mark(range, free);
    let fits = tree.pool.limit.is_none_or(|nodes| bitmap.runs().len() <= nodes);
    let done = if free { tree.set(range) } else { tree.clear(range) };
    prop_assert_eq!(done, if fits { Ok(()) } else { Err(RangeError::NoMemory) });
    if !fits {
        bitmap.0 = before;
    }
    Ok(())
}

fn range(pages: u32, longest: u32) -> impl Strategy<Value = PageRange> {
    (0..pages, 0..=longest)
        .prop_map(move |(start, length)| PageRange::new(start, length.min(pages - start)))
}

/// Calls on an arena of `pages` pages. Short ranges make many runs, long ones merge many.
fn calls(pages: u32, longest: u32, most: usize) -> impl Strategy<Value = Vec<Call>> {
    let call = prop_oneof![
        4 => range(pages, longest).prop_map(Call::Set),
        3 => range(pages, longest).prop_map(Call::Clear),
        2 => (0..=longest).prop_map(Call::Take),
        2 => range(pages, longest).prop_map(Call::TakeAt),
        1 => (0..=longest).prop_map(Call::Find),
        1 => range(pages, longest).prop_map(Call::Ask),
    ];
    prop::collection::vec(call, 0..most)
}

proptest! {
    #[test]
    fn short_and_long_ranges_match_the_bitmap(calls in calls(40, 40, 60)) {
        compare(40, None, &calls)?;
    }

    #[test]
    fn many_runs_match_the_bitmap(calls in calls(300, 3, 300)) {
        compare(300, None, &calls)?;
    }

    #[test]
    fn running_out_of_nodes_matches_the_bitmap(calls in calls(300, 8, 80)) {
        let long = 2 * CHUNK as u32 - 2;
        let mut full: Vec<Call> = (0..long).step_by(2)
            .map(|page| Call::Set(PageRange::new(page, 1)))
            .collect();
        full.push(Call::Set(PageRange::new(long, 300 - long)));
        full.extend(calls);
        compare(300, Some(CHUNK), &full)?;
    }

    #[test]
    fn single_pages_come_and_go_like_in_the_bitmap(pages in prop::collection::vec(0u32..64, 0..400)) {
        let mut free = [false; 64];
        let calls: Vec<Call> = pages.into_iter().map(|page| {
            let flag = &mut free[page as usize];
            *flag = !*flag;
            let range = PageRange::new(page, 1);
            if *flag { Call::Set(range) } else { Call::Clear(range) }
        }).collect();
        compare(64, None, &calls)?;
    }
}

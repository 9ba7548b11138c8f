//! The range tree by itself.

use arena::addr::PageRange;
use arena::range::RangeTree;

use super::{figure, quietly};
use crate::runner::{Ctx, Failure, Outcome, item};

item! {
    name: "bench-range-tree",
    suite: "bench",
    about: "find, clear and set among 1, 1,000 and 100,000 ranges",
    run: trees,
}

fn trees(_: &Ctx) -> Outcome {
    quietly(|| {
        for ranges in [1, 1000, 100_000] {
            let mut tree = RangeTree::new();
            // Ranges of three pages, a page apart.
            for n in 0..ranges {
                tree.set(PageRange::new(4 * n, 3)).map_err(Failure::of_debug("set"))?;
            }
            let middle = PageRange::new(4 * (ranges / 2), 3);
            let size = u64::from(ranges);
            figure("range-find", size, || Ok(()), |()| tree.find(2))?;
            // The middle page: the range becomes two, and one again.
            let inner = PageRange::new(middle.start + 1, 1);
            let mut counts = [("range-clear", true), ("range-set", false)];
            for (name, clears) in &mut counts {
                let tree = core::cell::RefCell::new(&mut tree);
                let prepare = || {
                    let outcome = match *clears {
                        true => tree.borrow_mut().set(inner),
                        false => tree.borrow_mut().clear(inner),
                    };
                    outcome.map_err(Failure::of_debug("range"))
                };
                figure(name, size, prepare, |()| match *clears {
                    true => tree.borrow_mut().clear(inner),
                    false => tree.borrow_mut().set(inner),
                })?;
            }
        }
        Ok(())
    })
}

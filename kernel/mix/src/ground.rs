//! Where the operations of one CPU go.

use crate::{CPUS, Phase};

/// log2 of a page's bytes.
pub const PAGE_SHIFT: u32 = 12;
/// Bytes of a page.
pub const PAGE_BYTES: u64 = 1 << PAGE_SHIFT;
/// Pages of an arena's window; the upper guard begins behind them.
pub const WINDOW_PAGES: u32 = 1 << 20;
/// Pages that one level 3 table maps.
pub const TABLE_PAGES: u32 = 512;
/// Where in each page the word lies that is read and written.
pub const WORD: u64 = 0x7f0;

/// Pages of one CPU: in every region of this size lies exactly one boundary between tables.
const REGION: u32 = 640;
/// Pages beyond those of the arena that each CPU has for itself: half of them behind the last page
/// that can be allocated, half in the upper guard.
pub const OUTSIDE: usize = 4;

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ground {
    /// Pages of the arena that can be allocated.
    pub max_pages: u32,
    /// The first page that is this CPU's.
    pub first: u32,
    /// How many are.
    pub pages: u32,
    /// Pages that can never be allocated, on which a kernel access finds scratch for ever after the
    /// first. No other CPU goes there.
    pub outside: [u32; OUTSIDE],
    /// Whether no other CPU uses the arena.
    pub alone: bool,
}

impl Ground {
    /// The ground of `cpu` in a phase whose replies are foreseeable.
    pub const fn of(phase: Phase, cpu: usize) -> Self {
        let cpu = cpu as u32;
        let alone = matches!(phase, Phase::Own);
        let (max_pages, first) =
            if alone { (REGION, 0) } else { (REGION * CPUS as u32, REGION * cpu) };
        let (beyond, guard) = (max_pages + 2 * cpu, WINDOW_PAGES + 2 * cpu);
        let outside = [beyond, beyond + 1, guard, guard + 1];
        Self { max_pages, first, pages: REGION, outside, alone }
    }

    /// One past the last page that is this CPU's.
    pub const fn end(&self) -> u32 {
        self.first + self.pages
    }

    /// The first page behind the boundary between two tables.
    pub const fn boundary(&self) -> u32 {
        self.first.next_multiple_of(TABLE_PAGES)
            + if self.first.is_multiple_of(TABLE_PAGES) { TABLE_PAGES } else { 0 }
    }
}

/// The byte at which page `index` begins, counted from the arena's base.
pub const fn start_of(index: u32) -> u64 {
    (index as u64) << PAGE_SHIFT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grounds_of_one_arena_are_disjoint_and_each_crosses_a_table() {
        for phase in [Phase::Shared, Phase::Own] {
            for cpu in 0..CPUS {
                let ground = Ground::of(phase, cpu);
                assert!(ground.end() <= ground.max_pages);
                let boundary = ground.boundary();
                assert!(boundary.is_multiple_of(TABLE_PAGES));
                assert!(ground.first + 64 <= boundary && boundary + 64 <= ground.end());
                for outside in ground.outside {
                    let guard = WINDOW_PAGES..WINDOW_PAGES + 8;
                    let beyond = ground.max_pages..WINDOW_PAGES;
                    assert!(beyond.contains(&outside) || guard.contains(&outside));
                }
            }
        }
        for (one, other) in (0..CPUS).flat_map(|a| (0..a).map(move |b| (a, b))) {
            let (one, other) = (Ground::of(Phase::Shared, one), Ground::of(Phase::Shared, other));
            assert!(one.first >= other.end() || other.first >= one.end());
            assert!(one.outside.iter().all(|page| !other.outside.contains(page)));
        }
    }
}

//! What a page costs among many: it must not cost more than alone.

use super::counts::Count;

/// Operations on so many pages.
const BY_PAGE: [&str; 2] = ["arena-alloc", "arena-free"];

/// What a page costs in one operation, by how many there are.
pub struct PerPage<'a> {
    name: &'a str,
    /// Pages, and instructions for all of them.
    sizes: Vec<(u64, u64)>,
}

/// The operations on pages that were counted for more than one size, the smallest first.
pub fn of(counts: &[Count]) -> Vec<PerPage<'_>> {
    let sizes = |name| {
        let of_name = counts.iter().filter(|count| count.name == name);
        let mut sizes: Vec<_> = of_name.map(|count| (count.size, count.count)).collect();
        sizes.sort_unstable();
        sizes
    };
    let all = BY_PAGE.into_iter().map(|name| PerPage { name, sizes: sizes(name) });
    all.filter(|operation| operation.sizes.len() > 1).collect()
}

impl PerPage<'_> {
    /// Whether a page among many costs more than one among the fewest.
    pub fn grows(&self) -> bool {
        let (fewest, least) = self.sizes[0];
        // a / n > b / m, without fractions.
        self.sizes.iter().any(|(pages, count)| count * fewest > least * pages)
    }

    /// In a line.
    pub fn line(&self) -> String {
        let page = |(pages, count): &(u64, u64)| {
            format!("{:.1} of {pages}", *count as f64 / *pages as f64)
        };
        let sizes: Vec<_> = self.sizes.iter().map(page).collect();
        let mark = if self.grows() { "  GROWS" } else { "" };
        format!("{}: a page costs {}{mark}", self.name, sizes.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(all: &[(u64, u64)]) -> Vec<Count> {
        let count = |&(size, count)| Count { name: "arena-free".into(), size, count, spread: 0 };
        all.iter().map(count).collect()
    }

    #[test]
    fn a_page_among_many_must_not_cost_more_than_alone() {
        let flat = counts(&[(512, 512 * 44), (1, 236), (8, 8 * 236)]);
        assert!(!of(&flat)[0].grows());
        assert_eq!(
            of(&flat)[0].line(),
            "arena-free: a page costs 236.0 of 1, 236.0 of 8, 44.0 of 512"
        );
        let steep = counts(&[(1, 236), (8, 8 * 236 + 1)]);
        assert!(of(&steep)[0].grows() && of(&steep)[0].line().ends_with("GROWS"));
        // Of one size alone nothing can be said.
        assert!(of(&flat[..1]).is_empty());
    }
}

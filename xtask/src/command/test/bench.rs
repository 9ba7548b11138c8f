//! The benchmarks count, count the same twice, and what they count is near its budget.

use ktap::item::Item;

use super::work::Job;
use crate::command::bench::check::{Budget, Clock, Count, MODELS, kernel, measure};
use crate::machine::Qemu;
use crate::record::{Record, Status};
use crate::toolchain::Toolchain;

/// Name of the job.
const NAME: &str = "two-runs-count-the-same-and-no-figure-is-twice-its-budget";
/// Times its budget that a figure may be: `cargo xtask bench` is strict, and says which are above. The
/// figures are those of a compiler, which need not be the one that the budgets were met with.
const TIMES: u64 = 2;

/// The job.
pub fn job<'a>(toolchain: &'a Toolchain, qemu: &'a Qemu, items: &'a [Item]) -> Job<'a> {
    Job::single(format!("harness/bench/{NAME}"), move || {
        let mut record = Record::new("harness", "bench", NAME, Status::Passed);
        let image = kernel(toolchain)?;
        let run = || measure(qemu, &image, items, MODELS[0], Clock::Instructions);
        let [one, two] = [run()?, run()?];
        record.output = one.iter().map(line).collect();
        if let Some(why) = wrong(&one, &two) {
            record.status = Status::Failed(why);
        }
        Ok(record)
    })
}

fn line(count: &Count) -> String {
    format!("{} size {}: {}", count.name, count.size, count.cell())
}

/// What is wrong with the figures of two runs.
fn wrong(one: &[Count], two: &[Count]) -> Option<String> {
    let nops = one.iter().find(|count| count.name == "nops-100");
    if nops.is_none_or(|nops| nops.count != 100) {
        return Some(format!("100 nops count {:?}", nops.map(|nops| nops.count)));
    }
    if let Some((one, two)) = one.iter().zip(two).find(|(one, two)| one != two) {
        return Some(format!("two runs differ: {}, then {}", line(one), line(two)));
    }
    if one.len() != two.len() {
        return Some(format!("{} figures, then {}", one.len(), two.len()));
    }
    let most =
        |count: &Count| Budget::of(&count.name, count.size).map(|budget| budget.most * TIMES);
    let over = |count: &&Count| most(count).is_some_and(|most| count.count > most);
    one.iter().find(over).map(|count| format!("{TIMES} times its budget: {}", line(count)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(spin: u64) -> Vec<Count> {
        let count = |name: &str, count| Count { name: name.into(), size: 1, count, spread: 0 };
        vec![count("nops-100", 100), count("irq-spinlock", spin)]
    }

    #[test]
    fn what_a_bad_count_looks_like_is_told() {
        assert_eq!(wrong(&figures(20), &figures(20)), None);
        let told = |one: &[Count], two: &[Count]| wrong(one, two).unwrap();
        assert_eq!(
            told(&figures(18), &figures(19)),
            "two runs differ: irq-spinlock size 1: 18, then irq-spinlock size 1: 19"
        );
        assert_eq!(told(&figures(41), &figures(41)), "2 times its budget: irq-spinlock size 1: 41");
        assert_eq!(told(&figures(18), &figures(18)[..1]), "2 figures, then 1");
        assert_eq!(told(&figures(18)[1..], &[]), "100 nops count None");
        let mut slow = figures(18);
        slow[0].count = 101;
        assert_eq!(told(&slow, &slow), "100 nops count Some(101)");
    }
}

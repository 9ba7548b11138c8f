//! `cargo xtask bench`: what operations cost in guest instructions, and how fast the lab explores.
//!
//! Instructions are counted under QEMU's `-icount` on an image without the lab: deterministic, the same
//! on every host. An exception entry, a TLBI, a DC ZVA or a CAS counts one, whatever it costs on
//! hardware. Schedules a second are a figure of this machine, to be compared with itself.

mod budget;
mod compare;
mod counts;
mod plot;
mod schedules;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

use crate::cli::Bench as Options;
use crate::exit::Exit;
use crate::image::Build;
use crate::machine::Qemu;
use crate::report::put;
use crate::run::{self, Kernel};
use crate::{items, toolchain};

use budget::Budget;
use compare::Figures;
use counts::Count;

pub use counts::SUITE;

/// CPU models that are counted; budgets are those of the first.
const MODELS: [&str; 2] = ["neoverse-n1", "cortex-a72"];

/// Runs the command.
///
/// # Errors
/// Missing tools, a kernel that does not build, a file that cannot be read or written, a filter of
/// nothing, a guest that fails.
pub fn run(options: &Options) -> Result<Exit> {
    // Before minutes are spent on figures that nothing can be done with.
    let baseline = options.baseline.as_deref().map(compare::read).transpose()?;
    run::prepare_output()?;
    let toolchain = toolchain::choose(&options.setup)?;
    let qemu = Qemu::find(&options.setup)?;
    let filter = options.filter.as_deref().unwrap_or_default();
    let bare = counts::kernel(&toolchain)?;
    let items = items::read(&bare.elf)?;
    let mut figures = Figures::default();
    let mut over = 0;
    for model in MODELS {
        let counted = counts::measure(&qemu, &bare, &items, model)?;
        figures.add(model, counted.into_iter().filter(|count| count.name.contains(filter)));
    }
    over += put_counts(&figures);
    let schedules = schedules::wanted(filter);
    if !schedules.is_empty() {
        let kernel = Kernel::build(&toolchain, Build::Release)?;
        let items = items::read(&kernel.elf)?;
        figures.schedules = schedules::run(&qemu, &kernel, &items, &schedules)?;
    }
    if figures.is_empty() {
        bail!("no benchmark's name contains {filter}; without a filter all are run");
    }
    if let Some(path) = &options.json {
        let json = serde_json::to_string_pretty(&figures)?;
        std::fs::write(path, json + "\n")
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    if let Some(path) = &options.plot {
        std::fs::write(path, plot::svg(&figures))
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    let worse = baseline.map_or(0, |baseline| {
        let lines = compare::regressions(&baseline, &figures, options.percent);
        lines.iter().for_each(|line| put(&format!("worse: {line}\n")));
        lines.len()
    });
    put(&format!("{over} over budget, {worse} worse than the baseline\n"));
    Ok(if over + worse > 0 { Exit::Failed } else { Exit::Passed })
}

/// Prints the table; returns how many figures exceed their budgets.
fn put_counts(figures: &Figures) -> usize {
    let [first, second] = MODELS;
    let mut rows: BTreeMap<(usize, &str, u64), [Option<&Count>; 2]> = BTreeMap::new();
    for (model, all) in &figures.counts {
        let column = usize::from(model != first);
        for (order, count) in all.iter().enumerate() {
            rows.entry((order, &count.name, count.size)).or_default()[column] = Some(count);
        }
    }
    if rows.is_empty() {
        return 0;
    }
    put(&format!(
        "guest instructions          size {first:>12} {second:>12}   budget    Linux*    floor\n"
    ));
    let mut over = 0;
    for ((_, name, size), [one, other]) in rows {
        let budget = Budget::of(name, size);
        let exceeds = one.zip(budget).is_some_and(|(one, budget)| one.count > budget.most);
        over += usize::from(exceeds);
        let cell = |count: Option<&Count>| count.map_or_else(|| "-".into(), Count::cell);
        let of_budget = |pick: fn(&Budget) -> Option<u64>| {
            budget.as_ref().and_then(pick).map_or_else(|| "-".into(), |n| n.to_string())
        };
        put(&format!(
            "{name:<26} {size:>5} {:>12} {:>12} {:>8} {:>9} {:>8}{}\n",
            cell(one),
            cell(other),
            of_budget(|budget| Some(budget.most)),
            of_budget(|budget| budget.linux),
            of_budget(|budget| budget.floor),
            if exceeds { "  OVER" } else { "" }
        ));
    }
    put("* Linux 7.2.13, measured elsewhere by the same method\n");
    over
}

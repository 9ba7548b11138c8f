//! `cargo xtask bench`: what operations cost in guest instructions, and how fast the lab explores.
//!
//! Instructions are counted under QEMU's `-icount` on an image without the lab: deterministic, the same
//! on every host. An exception entry, a TLBI, a DC ZVA or a CAS counts one, whatever it costs on
//! hardware. Beside them stands how long each takes here, in times of zeroing a page: what the emulation
//! makes of it. Times and schedules a second are figures of this machine, to be compared with themselves.

mod boot;
mod budget;
mod compare;
mod counts;
mod growth;
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
use counts::{Clock, Count};

pub use counts::SUITE;

/// What the test of this command looks at: two runs of the first model, and what no figure may exceed.
pub mod check {
    pub use super::MODELS;
    pub use super::budget::Budget;
    pub use super::counts::{Clock, Count, kernel, measure};
}

/// CPU models that are counted; budgets are those of the first.
pub const MODELS: [&str; 2] = ["neoverse-n1", "cortex-a72"];

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
        let counted = counts::measure(&qemu, &bare, &items, model, Clock::Instructions)?;
        figures.add(model, counted.into_iter().filter(|count| count.name.contains(filter)));
    }
    figures.wall_ns = counts::measure(&qemu, &bare, &items, MODELS[0], Clock::Wall)?;
    over += put_counts(&figures);
    if boot::NAME.contains(filter) || filter.contains(boot::NAME) {
        let (boot, exceeded) = boot::run(&qemu, &bare, &items)?;
        figures.boot = Some(boot);
        over += exceeded;
    }
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

/// Prints the table; returns how many figures exceed their budgets, or grow where they must not.
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
        "guest instructions          size {first:>12} {second:>12}   budget    Linux*    floor  \
         time/zero\n"
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
            "{name:<26} {size:>5} {:>12} {:>12} {:>8} {:>9} {:>8} {:>9}{}\n",
            cell(one),
            cell(other),
            of_budget(|budget| Some(budget.most)),
            of_budget(|budget| budget.linux),
            of_budget(|budget| budget.floor),
            in_pages(&figures.wall_ns, name, size).unwrap_or_else(|| "-".into()),
            if exceeds { "  OVER" } else { "" }
        ));
    }
    put("* Linux 7.2.13, measured elsewhere by the same method\n");
    if let Some(rate) = interpreter_rate(&figures.wall_ns) {
        put(&format!("interpreter: {rate:.0} million instructions a second on this host\n"));
    }
    let of_first = figures.counts.get(first).map(Vec::as_slice).unwrap_or_default();
    put_unavoidable(of_first);
    for per_page in growth::of(of_first) {
        put(&format!("{}\n", per_page.line()));
        over += usize::from(per_page.grows());
    }
    over
}

/// Instructions of bytecode in a microsecond of this host.
fn interpreter_rate(wall_ns: &[Count]) -> Option<f64> {
    let run = wall_ns.iter().find(|count| count.name == "bpf-instructions" && count.count > 0)?;
    Some(run.size as f64 * 1000.0 / run.count as f64)
}

/// How long an operation takes on this host, in times of zeroing a page; `None` where that is lost in the
/// time that reading the clock takes.
fn in_pages(wall_ns: &[Count], name: &str, size: u64) -> Option<String> {
    let ns = |name: &str, size| {
        let is_it = |count: &&Count| (count.name.as_str(), count.size) == (name, size);
        wall_ns.iter().find(is_it).map(|count| count.count).filter(|&ns| ns > 0)
    };
    let (of_this, of_page) = (ns(name, size)?, ns("zero-page", 1)?);
    (!name.contains("bytes")).then(|| format!("{:.2}", of_this as f64 / of_page as f64))
}

/// For each operation what cannot be avoided in it, and how far above that it is.
fn put_unavoidable(counts: &[Count]) {
    for count in counts.iter().filter(|count| count.size == 1) {
        if let Some((least, parts)) = budget::unavoidable(&count.name) {
            let above = count.count.saturating_sub(least);
            put(&format!("{}: {least} cannot be avoided ({parts}); {above} above\n", count.name));
        }
    }
}

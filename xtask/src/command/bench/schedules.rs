//! How fast the lab explores, and how that scales with steps and CPUs.
//!
//! Schedules a second of the host's time, all CPUs in one thread of QEMU's: a figure of this machine,
//! to be compared with itself.

use anyhow::{Result, bail};
use ktap::item::Item;
use serde::{Deserialize, Serialize};

use super::counts::{CLOCK, Clock};
use crate::calibrate;
use crate::command::explore::log::{Counts, Fact, fact};
use crate::exit::Exit;
use crate::guest::{Deadline, Next};
use crate::items;
use crate::machine::{Machine, Qemu};
use crate::report::put;
use crate::run::{Boot, Kernel};

/// What is run: the race, and how its schedules are chosen. From few steps to many, from two CPUs to
/// four.
const ROWS: [(&str, &str); 8] = [
    ("lab/two-faulters.explored", "random"),
    ("lab/clear-refault", "random"),
    ("lab/check-then-store", "random"),
    ("lab/check-then-store", "pct"),
    ("lab/check-then-store", "dfs"),
    ("lab/aa-same-slot.explored", "random"),
    ("lab/fault-storm.three", "random"),
    ("lab/fault-storm.four", "random"),
];
/// Random schedules of a row.
const SCHEDULES: u64 = 20_000;
/// Times that a row is measured; the best counts.
const RUNS: usize = 3;
/// Preemptions of the exhaustive row: enough for it to take a while, without pruning.
const BOUND: u32 = 5;

/// A row that was measured.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Row {
    /// The race.
    pub benchmark: String,
    /// How its schedules are chosen.
    pub mode: String,
    /// CPUs.
    pub cpus: u64,
    /// Steps of the longest schedule.
    pub longest_steps: u64,
    /// Schedules that were run.
    pub schedules: u64,
    /// And how many a second.
    pub schedules_per_second: u64,
    /// Guest instructions of a schedule, on average: all CPUs', set-up and oracles included.
    #[serde(default)]
    pub instructions: u64,
}

impl Row {
    /// Guest instructions of a step with its hand-over, at most: schedules are at most as long as the
    /// longest.
    fn per_step(&self) -> u64 {
        self.instructions / self.longest_steps.max(1)
    }
}

/// The rows whose name contains `filter`.
pub fn wanted(filter: &str) -> Vec<(&'static str, &'static str)> {
    ROWS.into_iter().filter(|(name, _)| name.contains(filter)).collect()
}

/// Measures and prints rows.
///
/// # Errors
/// A race that did not hold.
pub fn run(
    qemu: &Qemu,
    kernel: &Kernel,
    items: &[Item],
    wanted: &[(&'static str, &'static str)],
) -> Result<Vec<Row>> {
    put(
        "schedules                  mode     CPUs  steps  schedules  schedules/s  insns  insns/step\n",
    );
    let mut rows = Vec::new();
    for (name, mode) in wanted {
        let runs = (0..RUNS).map(|_| measure(qemu, kernel, items, name, mode));
        let runs = runs.collect::<Result<Vec<_>>>()?;
        // What else the host does only ever costs time.
        let best = runs.into_iter().max_by_key(|row| row.schedules_per_second);
        let Some(mut row) = best else { continue };
        row.instructions = instructions(qemu, kernel, items, name, mode)?;
        put(&format!(
            "{:<26} {:<7} {:>5} {:>6} {:>10} {:>12} {:>6} {:>11}\n",
            row.benchmark,
            row.mode,
            row.cpus,
            row.longest_steps,
            row.schedules,
            row.schedules_per_second,
            row.instructions,
            row.per_step()
        ));
        rows.push(row);
    }
    Ok(rows)
}

/// Guest instructions of a schedule.
fn instructions(
    qemu: &Qemu,
    kernel: &Kernel,
    items: &[Item],
    name: &str,
    mode: &str,
) -> Result<u64> {
    let (_, counts) = explored(qemu, kernel, items, name, mode, Clock::Instructions)?;
    Ok(counts.us * 1000 / counts.schedules)
}

fn measure(qemu: &Qemu, kernel: &Kernel, items: &[Item], name: &str, mode: &str) -> Result<Row> {
    let (cpus, counts) = explored(qemu, kernel, items, name, mode, Clock::Wall)?;
    Ok(Row {
        benchmark: name.into(),
        mode: mode.into(),
        cpus,
        longest_steps: counts.longest,
        schedules: counts.schedules,
        schedules_per_second: counts.schedules * 1_000_000 / counts.us.max(1),
        instructions: 0,
    })
}

/// CPUs, and what the guest tells of the exploration.
fn explored(
    qemu: &Qemu,
    kernel: &Kernel,
    items: &[Item],
    name: &str,
    mode: &str,
    clock: Clock,
) -> Result<(u64, Counts)> {
    let race = name.strip_prefix("lab/").unwrap_or(name);
    let item = items::select(items, &[race.to_string()])?.remove(0);
    let smp = u8::try_from(item.min_cpus).unwrap_or(2).max(2);
    let cpu = match clock {
        Clock::Instructions => format!("neoverse-n1,{CLOCK}"),
        Clock::Wall => "neoverse-n1".into(),
    };
    let machine = Machine { single: true, ..Machine::new(&cpu, 3, smp) };
    let words = match mode {
        "dfs" => vec!["explore=dfs".into(), format!("bound={BOUND}"), "states=0".into()],
        _ => vec![format!("explore={mode}"), format!("count={}", clock.schedules())],
    };
    let measured = || calibrate::limit(qemu, &machine, kernel, items);
    let boot = Boot {
        qemu,
        machine: &machine,
        kernel,
        items: vec![item],
        variant: "default",
        words,
        qemu_args: clock.qemu_args(),
        deadline: Deadline {
            again: Some(&measured),
            unlimited: true,
            ..Deadline::fixed(calibrate::UNMEASURED)
        },
        log: format!("bench-{race}-{mode}"),
    };
    let mut counts = Counts::default();
    let booted = boot.run(|line, _| {
        if let Some(Fact::Explored(of_all)) = fact(line) {
            counts = of_all;
        }
        Next::More
    })?;
    if counts.schedules == 0 || booted.outcome.exit != Exit::Passed {
        bail!("{name}: the guest {}: {}", booted.outcome.exit, booted.outcome.why);
    }
    Ok((smp.into(), counts))
}

impl Clock {
    /// Random schedules of a row: instructions are the same every time.
    fn schedules(self) -> u64 {
        match self {
            Self::Instructions => SCHEDULES / 20,
            Self::Wall => SCHEDULES,
        }
    }
}

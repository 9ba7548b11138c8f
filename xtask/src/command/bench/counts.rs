//! Guest instructions: boots under `-icount`, and what they print.

use anyhow::{Result, bail};
use ktap::item::Item;
use serde::{Deserialize, Serialize};

use crate::calibrate;
use crate::exit::Exit;
use crate::guest::{Deadline, Next};
use crate::image;
use crate::machine::{Machine, Qemu};
use crate::run::{Boot, Kernel};
use crate::toolchain::Toolchain;

/// The suite of the guest's benchmarks.
pub const SUITE: &str = "bench";
/// Makes CNTVCT_EL0 count nanoseconds, of which an instruction takes one.
pub const CLOCK: &str = "cntfrq=1000000000";

/// One figure.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Count {
    /// The benchmark.
    pub name: String,
    /// What its cost is proportional to, or 1.
    pub size: u64,
    /// Guest instructions: the median of the rounds.
    pub count: u64,
    /// How far the rounds lie apart.
    pub spread: u64,
}

impl Count {
    /// The figure of a line of the guest's, without `bench: `.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let name = words.next()?.to_string();
        let mut number =
            |key: &str| words.next()?.strip_prefix(key)?.strip_prefix('=')?.parse().ok();
        Some(Self {
            name,
            size: number("size")?,
            count: number("count")?,
            spread: number("spread")?,
        })
    }

    /// The figure, and how far the rounds lie apart where they do.
    pub fn cell(&self) -> String {
        match self.spread {
            0 => self.count.to_string(),
            spread => format!("{}+-{spread}", self.count),
        }
    }
}

/// The image that is measured: without the lab.
///
/// # Errors
/// It does not build.
pub fn kernel(toolchain: &Toolchain) -> Result<Kernel> {
    Kernel::of(image::build_measured(toolchain)?)
}

/// What the guest's counter counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clock {
    /// Guest instructions.
    Instructions,
    /// Nanoseconds of this host.
    Wall,
}

impl Clock {
    /// What QEMU is told so that it counts so.
    pub fn qemu_args(self) -> Vec<String> {
        match self {
            Self::Instructions => vec!["-icount".into(), "shift=0,sleep=off".into()],
            Self::Wall => Vec::new(),
        }
    }
}

/// Counts everything on one CPU of `model`, and under [`Clock::Instructions`] what needs several on two
/// and on four.
///
/// # Errors
/// QEMU cannot count, or the guest fails.
pub fn measure(
    qemu: &Qemu,
    kernel: &Kernel,
    items: &[Item],
    model: &str,
    clock: Clock,
) -> Result<Vec<Count>> {
    let mut counts = on_cpus(qemu, kernel, items, model, clock, 1)?;
    if clock == Clock::Instructions {
        for cpus in [2, 4] {
            counts.extend(on_cpus(qemu, kernel, items, model, clock, cpus)?);
        }
    }
    Ok(counts)
}

fn on_cpus(
    qemu: &Qemu,
    kernel: &Kernel,
    items: &[Item],
    model: &str,
    clock: Clock,
    cpus: u8,
) -> Result<Vec<Count>> {
    let cpu = format!("{model},{CLOCK}");
    let machine = Machine { single: true, mem: "256M".into(), ..Machine::new(&cpu, 3, cpus) };
    let runs = |item: &&Item| item.suite == SUITE && (item.min_cpus > 1) == (cpus > 1);
    let boot = Boot {
        qemu,
        machine: &machine,
        kernel,
        items: items.iter().filter(runs).collect(),
        variant: "default",
        words: Vec::new(),
        qemu_args: clock.qemu_args(),
        deadline: Deadline { unlimited: true, ..Deadline::fixed(calibrate::UNMEASURED) },
        log: format!("bench-{model}-{cpus}"),
    };
    let mut counts = Vec::new();
    let booted = boot.run(|line, _| {
        let line = line.trim_start().strip_prefix("# bench: ");
        counts.extend(line.and_then(Count::parse));
        Next::More
    })?;
    if booted.outcome.exit != Exit::Passed {
        bail!("{model}: the guest {}: {}", booted.outcome.exit, booted.outcome.why);
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_guest_s_is_a_figure() {
        let count = Count::parse("arena-alloc size=8 count=2400 spread=3").unwrap();
        assert_eq!((count.name.as_str(), count.size), ("arena-alloc", 8));
        assert_eq!(count.cell(), "2400+-3");
        for cut in ["arena-alloc", "arena-alloc size=8 count=24", "a size=x count=1 spread=0"] {
            assert_eq!(Count::parse(cut), None, "{cut}");
        }
    }
}

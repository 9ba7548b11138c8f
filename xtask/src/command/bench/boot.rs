//! The boot as the host sees it: time, memory, size.

use std::time::Instant;

use anyhow::{Result, bail};
use ktap::item::Item;
use serde::{Deserialize, Serialize};

use super::budget;
use crate::calibrate;
use crate::exit::Exit;
use crate::guest::{Deadline, Next};
use crate::items;
use crate::machine::{Machine, Qemu};
use crate::report::put;
use crate::run::{Boot, Kernel};

/// Word by which a filter asks for it.
pub const NAME: &str = "boot";
/// The least memory that is promised.
const MEMORY: &str = "32M";
/// Boots; the median counts.
const BOOTS: usize = 5;
/// What they run: an item that does next to nothing.
const SMALLEST: &str = "bench-boot";
/// Units of the times in /proc/self/stat, in milliseconds: USER_HZ is 100 wherever Linux runs.
const TICK_MS: u64 = 10;

/// Figures of the host's; times in milliseconds.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Figures {
    /// From QEMU's start to the first line.
    pub first_line_ms: u64,
    /// From QEMU's start to the verdict.
    pub verdict_ms: u64,
    /// Processor time of QEMU's; `None` where the host does not tell.
    pub host_cpu_ms: Option<u64>,
    /// The machine's memory.
    pub memory: String,
    /// Bytes of the flat image.
    pub image_bytes: u64,
}

/// Measures and prints; returns how many budgets are exceeded.
///
/// # Errors
/// The kernel does not boot with that little memory.
pub fn run(qemu: &Qemu, kernel: &Kernel, all: &[Item]) -> Result<(Figures, usize)> {
    let machine = Machine {
        single: true,
        mem: MEMORY.into(),
        ..Machine::new("neoverse-n1,cntfrq=1000000000", 3, 1)
    };
    let (mut firsts, mut verdicts, mut busy) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..BOOTS {
        let boot = Boot {
            qemu,
            machine: &machine,
            kernel,
            items: items::select(all, &[SMALLEST.to_string()])?,
            variant: "default",
            words: Vec::new(),
            qemu_args: Vec::new(),
            deadline: Deadline::fixed(calibrate::UNMEASURED),
            log: "bench-boot".into(),
        };
        let (before, started) = (children_ms(), Instant::now());
        let booted = boot.run(|_, _| Next::More)?;
        if booted.outcome.exit != Exit::Passed {
            bail!("with {MEMORY}: the guest {}: {}", booted.outcome.exit, booted.outcome.why);
        }
        firsts.push(booted.times.first.unwrap_or_default());
        verdicts.push(booted.times.verdict.unwrap_or_else(|| started.elapsed()));
        busy.extend(children_ms().zip(before).map(|(now, before)| now - before));
    }
    let figures = Figures {
        first_line_ms: median(firsts).as_millis() as u64,
        verdict_ms: median(verdicts).as_millis() as u64,
        host_cpu_ms: (busy.len() == BOOTS).then(|| median(busy)),
        memory: MEMORY.into(),
        image_bytes: kernel.image_bytes()?,
    };
    let (line, over) = told(&figures);
    put(&line);
    Ok((figures, over))
}

/// The line of the figures, and how many of them exceed their budgets.
fn told(figures: &Figures) -> (String, usize) {
    let Figures { first_line_ms, verdict_ms, host_cpu_ms, memory, image_bytes } = figures;
    let mut over = usize::from(*image_bytes > budget::IMAGE_BYTES);
    let busy = host_cpu_ms.map_or(String::new(), |busy| {
        let exceeds = busy > budget::HOST_CPU_MS;
        over += usize::from(exceeds);
        format!(
            ", host CPU {busy} ms (budget {}; Linux* 3400 to 4800){}",
            budget::HOST_CPU_MS,
            mark(exceeds)
        )
    });
    let line = format!(
        "boot with {memory}: first line {first_line_ms} ms, verdict {verdict_ms} ms{busy}; image \
         {image_bytes} bytes (budget {}; Linux* 38,600,000){}\n",
        budget::IMAGE_BYTES,
        mark(*image_bytes > budget::IMAGE_BYTES)
    );
    (line, over)
}

fn mark(exceeds: bool) -> &'static str {
    if exceeds { " OVER" } else { "" }
}

fn median<T: Ord + Copy>(mut of: Vec<T>) -> T {
    of.sort_unstable();
    of[of.len() / 2]
}

/// Processor time of all children that ended, in milliseconds (proc(5): cutime and cstime).
fn children_ms() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    children_ticks(&stat).map(|ticks| ticks * TICK_MS)
}

fn children_ticks(stat: &str) -> Option<u64> {
    // The name, in parentheses, may hold anything; behind it, fields are apart by a space.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(13);
    let mut field = || fields.next()?.parse::<u64>().ok();
    Some(field()? + field()?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_time_of_children_is_found_behind_any_name() {
        let stat = "1 (a) b (c) S 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20";
        // utime and stime are fields 14 and 15 of proc(5), cutime and cstime the next two.
        assert_eq!(children_ticks(stat), Some(16 + 17));
        assert_eq!(children_ticks("1 (a) S 4"), None);
        assert_eq!(children_ticks(""), None);
    }

    #[test]
    fn a_figure_over_its_budget_is_counted() {
        let mut figures = Figures {
            first_line_ms: 1,
            verdict_ms: 2,
            host_cpu_ms: Some(budget::HOST_CPU_MS),
            memory: MEMORY.into(),
            image_bytes: budget::IMAGE_BYTES,
        };
        assert_eq!(told(&figures).1, 0);
        figures.image_bytes += 1;
        figures.host_cpu_ms = Some(budget::HOST_CPU_MS + 1);
        let (line, over) = told(&figures);
        assert_eq!((over, line.matches(" OVER").count()), (2, 2), "{line}");
        assert_eq!(median(vec![Duration::ZERO]), Duration::ZERO);
    }
}

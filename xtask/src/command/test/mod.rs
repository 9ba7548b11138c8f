//! `cargo xtask test`: host tests, then every guest test on every machine of the matrix, then the
//! harness's own.

mod bench;
mod debugger;
mod explore;
mod fuzz;
mod guest;
mod hang;
mod host;
mod judges;
mod litmus;
mod midway;
mod miri;
mod mix;
pub mod prog;
mod samples;
mod select;
mod steps;
mod targets;
mod timing;
mod walker;
mod work;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Result;
use ktap::item::Item;

use crate::cli::Test as Options;
use crate::command::selftest;
use crate::exit::Exit;
use crate::image::Build;
use crate::items;
use crate::machine::{Machine, Qemu};
use crate::record::{Record, Totals, exit_of};
use crate::report::{Terminal, closing_line, put, write_files};
use crate::run::{self, Kernel};
use crate::symbol::Symbols;
use crate::toolchain::{self, Toolchain};

use litmus::Litmus;
use select::Selection;
pub use work::{Job, off};

/// Everything that a run needs and that stays as it is over its repetitions.
struct Bed<'a> {
    options: &'a Options,
    selection: Selection,
    machines: Vec<Machine>,
    /// The QEMU of a machine that names none.
    qemu: Qemu,
    kernels: HashMap<Build, Kernel>,
    items: Vec<Item>,
    toolchain: Toolchain,
    litmus: Litmus,
}

/// Runs the command.
///
/// # Errors
/// Missing tools, a kernel that does not build, a report that cannot be written.
pub fn run(options: &Options) -> Result<Exit> {
    let selection = Selection::new(options)?;
    run::prepare_output()?;
    let toolchain = toolchain::choose(&options.setup)?;
    let qemus = Qemu::find_all(&options.setup, options.matrix)?;
    let machines = Machine::under_each(options.matrix, &qemus);
    for machine in &machines {
        machine.qemu.as_ref().unwrap_or(&qemus[0]).check_cpu(&machine.cpu)?;
    }
    let mut kernels = HashMap::new();
    for machine in &machines {
        if let Entry::Vacant(place) = kernels.entry(machine.build) {
            place.insert(Kernel::build(&toolchain, machine.build)?);
        }
    }
    let items = items::read(&kernels[&Build::Release].elf)?;
    let (qemu, litmus) = (qemus[0].clone(), Litmus::new(options.setup.no_install));
    let bed = Bed { options, selection, machines, qemu, kernels, items, toolchain, litmus };
    let jobs = bed.jobs(options.seed)?;
    if options.list {
        jobs.iter().flat_map(|job| &job.tests).for_each(|test| put(&format!("{test}\n")));
        return Ok(Exit::Passed);
    }
    let host = bed.selection.is_all() || !bed.selection.host_failures().is_empty();
    if jobs.is_empty() && !host {
        return Ok(bed.nothing());
    }
    let qemus: Vec<_> = qemus.iter().map(ToString::to_string).collect();
    let (under, machines) = (qemus.join(", "), bed.machines.len());
    put(&format!("guest: {under}, {machines} machines, kernel built with {}\n", bed.toolchain));
    let records = bed.rounds(host)?;
    if std::env::var_os("FAULTLINE_REPORT").is_none_or(|value| value != "none") {
        write_files(&records)?;
    }
    Ok(close(&records))
}

impl Bed<'_> {
    /// All repetitions.
    fn rounds(&self, host: bool) -> Result<Vec<Record>> {
        let most =
            self.options.repeat.unwrap_or(if self.options.until_fail { u32::MAX } else { 1 });
        let mut all = Vec::new();
        for round in 1..=most {
            let seed = self.options.seed.map(|seed| seed.wrapping_add(u64::from(round) - 1));
            let mut records = self.round(seed, host)?;
            records.iter_mut().for_each(|record| record.round = round);
            let failed = records.iter().any(|record| record.status.is_failure());
            all.extend(records);
            if most > 1 {
                let seed = seed.map_or(String::new(), |seed| format!(", seed {seed}"));
                put(&format!(
                    "round {round}{seed}: {}\n",
                    if failed { "failed" } else { "passed" }
                ));
            }
            if failed && self.options.until_fail {
                break;
            }
        }
        timing::flaky(&all).iter().for_each(|line| put(&format!("{line}\n")));
        if self.options.timings {
            timing::table(&all).iter().for_each(|line| put(&format!("{line}\n")));
        }
        Ok(all)
    }

    fn round(&self, seed: Option<u64>, host: bool) -> Result<Vec<Record>> {
        let mut records = if host { self.host()? } else { Vec::new() };
        records.extend(self.work_off(&self.jobs(seed)?)?);
        if self.options.judges {
            let jobs = judges::jobs(&self.options.setup, &records);
            records.extend(self.work_off(&jobs)?);
        }
        Ok(records)
    }

    /// What needs no guest: all of it, or what failed in the last run and is to be repeated.
    fn host(&self) -> Result<Vec<Record>> {
        type Check = fn() -> Result<Record>;
        let beside: [(&str, Check); 2] =
            [(miri::NAME, miri::record), (targets::NAME, targets::record)];
        let again = self.selection.host_failures();
        let wants = |name: &str| again.is_empty() || again.iter().any(|again| again == name);
        let is_beside = |name: &String| beside.iter().any(|(beside, _)| beside == name);
        let tests: Vec<_> = again.iter().filter(|name| !is_beside(name)).cloned().collect();
        let mut records = Vec::new();
        if again.is_empty() || !tests.is_empty() {
            records.extend(host::run(&tests, self.options.long)?);
        }
        for (_, record) in beside.into_iter().filter(|(name, _)| wants(name)) {
            records.push(record()?);
        }
        Ok(records)
    }

    /// The jobs of one round.
    fn jobs(&self, seed: Option<u64>) -> Result<Vec<Job<'_>>> {
        let release = &self.kernels[&Build::Release];
        let mut jobs = Vec::new();
        for machine in &self.machines {
            let bench = guest::Bench {
                qemu: machine.qemu.as_ref().unwrap_or(&self.qemu),
                machine,
                kernel: &self.kernels[&machine.build],
                items: &self.items,
                timeout: self.options.timeout.map(Duration::from_secs),
                seed,
                words: &[],
            };
            jobs.extend(guest::jobs(bench, &self.selection));
        }
        let mut own = selftest::jobs(&self.qemu, release, &self.items);
        own.extend(explore::jobs(&self.qemu, release, &self.items));
        own.extend(prog::jobs(&self.qemu, release, &self.items));
        own.extend(hang::jobs(&self.qemu, release, &self.items));
        own.extend(walker::jobs(&self.qemu, release, &self.items));
        own.push(steps::job(&self.toolchain, &self.qemu, &self.items));
        own.push(bench::job(&self.toolchain, &self.qemu, &self.items));
        own.extend(self.litmus.jobs()?);
        own.push(midway::job(&self.qemu, release, &self.items));
        own.extend(fuzz::jobs(&self.qemu, release, &self.items, seed, self.options.long));
        own.extend(samples::jobs(&self.qemu, release, &self.items, seed, self.options.long));
        own.extend(mix::jobs(&self.qemu, release, &self.items, seed, self.options.long));
        own.extend(debugger::jobs(&self.options.setup, &self.qemu, release, &self.items)?);
        own.retain(|job| {
            let label = job.name.split('/').next().unwrap_or_default();
            self.selection.wants(&job.name, &[label])
        });
        jobs.extend(own);
        Ok(jobs)
    }

    fn work_off(&self, jobs: &[Job<'_>]) -> Result<Vec<Record>> {
        let terminal = Mutex::new(self.terminal(jobs.iter().map(|job| job.tests.len()).sum()));
        let records = work::off(jobs, &terminal);
        terminal.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).close();
        records
    }

    fn terminal(&self, total: usize) -> Terminal {
        Terminal::new(total, Symbols::of(&self.kernels[&Build::Release].elf))
    }

    /// A selection of nothing: no verdict, and what may have been meant.
    fn nothing(&self) -> Exit {
        let paths: Vec<_> = self
            .machines
            .iter()
            .flat_map(|machine| {
                self.items.iter().map(move |item| format!("{machine}/{}/{}", item.suite, item.name))
            })
            .collect();
        let near = self.selection.near(paths.iter().map(String::as_str));
        let hint = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
        put(&format!("no test matches: no verdict{hint} (`cargo xtask test --list` lists them)\n"));
        Exit::NoVerdict
    }
}

/// The closing line, and the exit code with its reason if it is not that of failing tests.
pub fn close(records: &[Record]) -> Exit {
    let exit = exit_of(records);
    if exit == Exit::NoVerdict {
        put("no verdict: see the tests above, or everything was skipped\n");
    }
    put(&format!("{}\n", closing_line(Totals::of(records))));
    exit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Status;

    #[test]
    fn a_run_ends_with_the_code_of_its_records() {
        let record = |status| Record::new("m", "s", "n", status);
        assert_eq!(close(&[]), Exit::NoVerdict);
        assert_eq!(close(&[record(Status::Skipped("no".into()))]), Exit::NoVerdict);
        assert_eq!(close(&[record(Status::Passed)]), Exit::Passed);
        assert_eq!(close(&[record(Status::Hung("why".into()))]), Exit::Hung);
    }
}

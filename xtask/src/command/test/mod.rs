//! `cargo xtask test`: host tests, then every guest test on every machine of the matrix, then the
//! harness's own.

mod debugger;
mod guest;
mod harness;
mod host;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;

use crate::cli::Test as Options;
use crate::exit::Exit;
use crate::image::Build;
use crate::interrupt;
use crate::items;
use crate::judges;
use crate::machine::{Machine, Qemu};
use crate::record::{Record, Totals, exit_of};
use crate::report::{Terminal, closing_line, put, write_files};
use crate::run::Kernel;
use crate::symbol::Symbols;
use crate::toolchain;

/// One boot, or several in a row, as one piece of work for one core.
pub struct Job<'a> {
    /// What it is, for the live line.
    pub name: String,
    /// Names of the tests it gives a record of.
    pub tests: Vec<String>,
    /// Does it.
    pub work: Box<dyn Fn() -> Result<Vec<Record>> + Send + Sync + 'a>,
}

/// Runs the command.
///
/// # Errors
/// Missing tools, a kernel that does not build, a report that cannot be written.
pub fn run(options: &Options) -> Result<Exit> {
    let toolchain = toolchain::choose(&options.setup)?;
    let qemu = Qemu::find(&options.setup)?;
    let machines = Machine::matrix(options.matrix);
    for machine in &machines {
        qemu.check_cpu(&machine.cpu)?;
    }
    let mut kernels = HashMap::new();
    for machine in &machines {
        if let Entry::Vacant(place) = kernels.entry(machine.build) {
            place.insert(Kernel::build(&toolchain, machine.build)?);
        }
    }
    let elf = &kernels[&Build::Release].elf;
    let items = items::read(elf)?;
    let silence = Duration::from_secs(options.timeout);
    let mut jobs = Vec::new();
    for machine in &machines {
        let bench =
            guest::Bench { qemu: &qemu, machine, kernel: &kernels[&machine.build], silence };
        jobs.extend(guest::jobs(bench, &items, options.filter.as_deref(), options.exact));
    }
    jobs.extend(harness::jobs(&qemu, &kernels[&Build::Release], &items, options.filter.as_deref()));
    let release = &kernels[&Build::Release];
    let filter = options.filter.as_deref();
    jobs.extend(debugger::jobs(&options.setup, &qemu, release, &items, filter)?);
    if options.exact {
        jobs.retain(|job| job.tests.iter().all(|test| Some(test.as_str()) == filter));
    }
    if options.list {
        jobs.iter().flat_map(|job| &job.tests).for_each(|test| put(&format!("{test}\n")));
        return Ok(Exit::Passed);
    }
    let mut records = match options.filter {
        None => host::run()?,
        Some(_) => Vec::new(),
    };
    put(&format!("guest: {qemu}, {} machines, kernel built with {toolchain}\n", machines.len()));
    records.extend(work_off(&jobs, Symbols::of(elf))?);
    if options.judges {
        let verdicts = judges::judge(&options.setup, &records)?;
        let mut terminal = Terminal::new(verdicts.len(), Symbols::of(elf));
        verdicts.iter().for_each(|record| terminal.ended(record));
        records.extend(verdicts);
    }
    if std::env::var_os("FAULTLINE_REPORT").is_none_or(|value| value != "none") {
        write_files(&records)?;
    }
    Ok(close(&records))
}

/// The closing line, and the exit code with its reason if it is not that of failing tests.
fn close(records: &[Record]) -> Exit {
    let exit = exit_of(records);
    if records.is_empty() {
        put("no test matches: no verdict\n");
    } else if exit == Exit::NoVerdict {
        put("no verdict: see the tests above, or everything was skipped\n");
    }
    put(&format!("{}\n", closing_line(Totals::of(records))));
    exit
}

/// Works the jobs off, as many at once as there are cores, and returns their records in order.
fn work_off(jobs: &[Job<'_>], symbols: Symbols) -> Result<Vec<Record>> {
    let next = AtomicUsize::new(0);
    let total = jobs.iter().map(|job| job.tests.len()).sum();
    let terminal = Mutex::new(Terminal::new(total, symbols));
    let done = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if interrupt::requested() {
                        return;
                    }
                    lock(&terminal).running(&job.name);
                    let records = (job.work)();
                    if let Ok(records) = &records {
                        let mut terminal = lock(&terminal);
                        records.iter().for_each(|record| terminal.ended(record));
                    }
                    lock(&done).push((job.name.clone(), records));
                }
            });
        }
    });
    anyhow::ensure!(!interrupt::requested(), "interrupted; no QEMU is left");
    let mut done = done.into_inner().unwrap_or_default();
    let place = |name: &String| jobs.iter().position(|job| job.name == *name);
    done.sort_by_key(|(name, _)| place(name));
    let mut all = Vec::new();
    for (_, records) in done {
        all.extend(records?);
    }
    Ok(all)
}

/// A poisoned lock guards counters only: go on.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::record::Status;

    fn record(name: &str, status: Status) -> Record {
        Record {
            machine: "m".into(),
            suite: "s".into(),
            name: name.into(),
            status,
            wall: Duration::ZERO,
            output: Vec::new(),
            log: None,
            green: None,
        }
    }

    fn job<'a>(name: &str, work: impl Fn() -> Result<Vec<Record>> + Send + Sync + 'a) -> Job<'a> {
        Job { name: name.into(), tests: vec![name.into()], work: Box::new(work) }
    }

    #[test]
    fn records_come_in_the_order_of_the_jobs() {
        let names: Vec<_> = (0..20).map(|n| n.to_string()).collect();
        let jobs: Vec<_> =
            names.iter().map(|name| job(name, || Ok(vec![record(name, Status::Passed)]))).collect();
        let records = work_off(&jobs, Symbols::of(Path::new("/nowhere"))).unwrap();
        assert!(records.iter().map(|record| &record.name).eq(&names));
    }

    #[test]
    fn a_job_that_cannot_be_done_ends_the_run_as_an_error() {
        let jobs = [
            job("a", || Ok(vec![record("a", Status::Passed)])),
            job("b", || anyhow::bail!("no QEMU")),
        ];
        let error = work_off(&jobs, Symbols::of(Path::new("/nowhere"))).unwrap_err();
        assert_eq!(error.to_string(), "no QEMU");
    }

    #[test]
    fn a_run_ends_with_the_code_of_its_records() {
        assert_eq!(close(&[]), Exit::NoVerdict);
        assert_eq!(close(&[record("a", Status::Skipped("no".into()))]), Exit::NoVerdict);
        assert_eq!(close(&[record("a", Status::Passed)]), Exit::Passed);
        assert_eq!(close(&[record("a", Status::Hung("why".into()))]), Exit::Hung);
    }
}

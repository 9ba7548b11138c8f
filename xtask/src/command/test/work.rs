//! Work for the cores: jobs, and the records that come of them as they come.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;

use crate::interrupt;
use crate::record::{Record, Status};
use crate::report::Terminal;

/// Takes a record as soon as there is one: a crash is told before the rest of its suite runs.
pub type Sink<'a> = &'a (dyn Fn(Record) + Sync);

/// Does a job.
type Work<'a> = Box<dyn Fn(Sink<'_>) -> Result<()> + Send + Sync + 'a>;

/// One boot, or several in a row, as one piece of work for one core.
pub struct Job<'a> {
    /// What it is, for the live line.
    pub name: String,
    /// Names of the tests it gives a record of.
    pub tests: Vec<String>,
    /// Does it.
    pub work: Work<'a>,
}

impl<'a> Job<'a> {
    /// A job of one test, `machine/suite/test`.
    pub fn single(path: String, work: impl Fn() -> Result<Record> + Send + Sync + 'a) -> Self {
        let work: Work<'a> = Box::new(move |sink| {
            sink(work()?);
            Ok(())
        });
        Self { tests: vec![path.clone()], name: path, work }
    }
}

/// Works the jobs off, as many at once as there are cores, and returns their records in order. A
/// job that cannot be done leaves a record for each of its tests that says so.
///
/// # Errors
/// The person ended it.
pub fn off(jobs: &[Job<'_>], terminal: &Mutex<Terminal>) -> Result<Vec<Record>> {
    let next = AtomicUsize::new(0);
    let done: Vec<Mutex<Vec<Record>>> = jobs.iter().map(|_| Mutex::default()).collect();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(number) else { return };
                    if interrupt::requested() {
                        return;
                    }
                    lock(terminal).running(&job.name);
                    let sink = |record: Record| {
                        lock(terminal).ended(&record);
                        lock(&done[number]).push(record);
                    };
                    if let Err(error) = (job.work)(&sink) {
                        let there = lock(&done[number]).len();
                        let why = format!("{error:#}");
                        undone(job, there, &why).for_each(sink);
                    }
                }
            });
        }
    });
    anyhow::ensure!(!interrupt::requested(), "interrupted; no QEMU is left");
    Ok(done.iter().flat_map(|records| std::mem::take(&mut *lock(records))).collect())
}

/// Records for the tests of a job that ended by an error behind `there` of them.
fn undone<'a>(job: &'a Job<'_>, there: usize, why: &'a str) -> impl Iterator<Item = Record> + 'a {
    job.tests.iter().skip(there).map(|path| {
        let mut parts = path.splitn(3, '/');
        let mut part = || parts.next().unwrap_or_default();
        Record::new(part(), part(), part(), Status::NoVerdict(why.into()))
    })
}

/// A poisoned lock guards records and counters only: go on.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::symbol::Symbols;

    fn worked(jobs: &[Job<'_>]) -> Vec<Record> {
        let terminal = Terminal::new(jobs.len(), Symbols::of(Path::new("/nowhere")));
        off(jobs, &Mutex::new(terminal)).unwrap()
    }

    #[test]
    fn records_come_in_the_order_of_the_jobs() {
        let names: Vec<_> = (0..20).map(|n| n.to_string()).collect();
        let job = |name: &String| {
            let record = Record::new("m", "s", name, Status::Passed);
            Job::single(name.clone(), move || Ok(record.clone()))
        };
        let jobs: Vec<_> = names.iter().map(job).collect();
        assert!(worked(&jobs).iter().map(|record| &record.name).eq(&names));
    }

    /// Was the end of the whole run: one boot that QEMU refused took every other result with it.
    #[test]
    fn a_job_that_cannot_be_done_costs_its_own_tests_only() {
        let good = |name: &str| {
            let record = Record::new("m", "s", name, Status::Passed);
            Job::single(record.path(), move || Ok(record.clone()))
        };
        let broken = Job {
            name: "broken".into(),
            tests: ["m/s/b", "m/s/c"].map(String::from).into(),
            work: Box::new(|sink| {
                sink(Record::new("m", "s", "b", Status::Passed));
                anyhow::bail!("no QEMU")
            }),
        };
        let records = worked(&[good("a"), broken, good("d")]);
        let names: Vec<_> = records.iter().map(|record| record.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "d"]);
        assert_eq!(records[2].status, Status::NoVerdict("no QEMU".into()));
    }
}

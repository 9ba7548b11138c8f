//! `cargo xtask selftest`: everything that could make the harness green for a wrong reason, done on
//! purpose. Each break must lead to its exit code and its words; `cargo xtask test` does the same as
//! part of a whole run.

mod doctored;
mod guest;
mod process;

use std::sync::Mutex;

use anyhow::Result;
use ktap::item::Item;

use super::test::{Job, close, off};
use crate::cli::Selftest as Options;
use crate::exit::Exit;
use crate::image::Build;
use crate::items;
use crate::machine::Qemu;
use crate::record::{Record, Status};
use crate::report::{Terminal, put};
use crate::run::{self, Kernel};
use crate::symbol::Symbols;
use crate::toolchain;

/// What a break must come to.
struct Wanted {
    name: &'static str,
    exit: Exit,
    says: &'static str,
}

/// Runs the command.
///
/// # Errors
/// Missing tools, a kernel that does not build.
pub fn run(options: &Options) -> Result<Exit> {
    run::prepare_output()?;
    let toolchain = toolchain::choose(&options.setup)?;
    let qemu = Qemu::find(&options.setup)?;
    let kernel = Kernel::build(&toolchain, Build::Release)?;
    let items = items::read(&kernel.elf)?;
    let mut jobs = jobs(&qemu, &kernel, &items);
    jobs.retain(|job| options.filter.as_deref().is_none_or(|filter| job.name.contains(filter)));
    let terminal = Mutex::new(Terminal::new(jobs.len(), Symbols::of(&kernel.elf)));
    let records = off(&jobs, &terminal)?;
    for record in records.iter().filter(|record| record.status == Status::Passed) {
        let said = record.output.first().map_or("", String::as_str);
        put(&format!("{:<48} {said}\n", record.name));
    }
    Ok(close(&records))
}

/// A job for each break.
pub fn jobs<'a>(qemu: &'a Qemu, kernel: &'a Kernel, items: &'a [Item]) -> Vec<Job<'a>> {
    let mut jobs = doctored::jobs();
    jobs.extend(guest::jobs(qemu, kernel, items));
    jobs.extend(process::jobs(qemu));
    jobs
}

impl Wanted {
    /// The record of a break that came to `exit`, with `why` for the person.
    fn record(&self, suite: &str, exit: Exit, why: &str) -> Record {
        let came = came_to(exit, why);
        let status = if exit == self.exit && why.contains(self.says) {
            Status::Passed
        } else {
            let expected = came_to(self.exit, self.says);
            Status::Failed(format!("it came to {came}; expected {expected}"))
        };
        Record { output: vec![came], ..Record::new("harness", suite, self.name, status) }
    }
}

/// What a break came to, in the words of the table.
fn came_to(exit: Exit, why: &str) -> String {
    format!("exit {}: {why}", exit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_break_is_caught_by_its_code_and_its_words_only() {
        let wanted = Wanted { name: "x", exit: Exit::Hung, says: "silent" };
        let status = |exit, why| wanted.record("log", exit, why).status;
        assert_eq!(status(Exit::Hung, "it was silent"), Status::Passed);
        assert!(status(Exit::Hung, "it spoke").is_failure());
        assert!(status(Exit::NoVerdict, "it was silent").is_failure());
    }

    /// The README's table of breaks is the list of them, no more and no less.
    #[test]
    fn the_readme_lists_every_break_with_its_code() {
        let readme = include_str!("../../../../README.md");
        let mut rows: Vec<_> = readme
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once("` | exit "))
            .map(|(name, code)| (name, code.trim_end_matches(" |")))
            .collect();
        for wanted in doctored::wanted().chain(guest::wanted()).chain(process::wanted()) {
            let code = (wanted.exit as u8).to_string();
            let row = (wanted.name, code.as_str());
            let at = rows.iter().position(|known| *known == row);
            let at = at.unwrap_or_else(|| panic!("no row | `{}` | exit {code} |", wanted.name));
            rows.remove(at);
        }
        assert!(rows.is_empty(), "rows of no break: {rows:?}");
    }
}

//! `cargo xtask litmus`: what the architecture allows, asked of Arm's formal model by herd7.

pub mod expect;
pub mod herd;

use std::time::Instant;

use anyhow::{Result, bail};

use crate::cli::Litmus as Options;
use crate::exit::Exit;
use crate::report::put;

use expect::{Expected, Verdict};
use herd::{Availability, Herd};

/// Runs the command.
///
/// # Errors
/// A filter of nothing, tests that cannot be read, a herd7 that was named and does not run.
pub fn run(options: &Options) -> Result<Exit> {
    let filter = options.filter.as_deref().unwrap_or_default();
    let tests: Vec<_> =
        expect::all()?.into_iter().filter(|test| test.name.contains(filter)).collect();
    if tests.is_empty() {
        bail!("no litmus test's name contains {filter}; without a filter all are run");
    }
    let herd = match Herd::find(options.herd7.as_deref(), options.no_install)? {
        Availability::There(herd) => herd,
        Availability::NotHere(why) => {
            put(&format!("0 passed, 0 failed, {} skipped: {why}\n", tests.len()));
            return Ok(Exit::Passed);
        }
    };
    put(&format!("herd7 {}\n", herd.version));
    put("test                          expected         found                seconds\n");
    let mut failed = 0;
    for test in &tests {
        let started = Instant::now();
        let found = herd.judge(test)?;
        let good = found == test.verdict;
        failed += usize::from(!good);
        put(&format!(
            "{:<29} {:<16} {:<20} {:>7.2}{}\n",
            test.name,
            test.verdict.to_string(),
            found.to_string(),
            started.elapsed().as_secs_f64(),
            if good { "" } else { "  FAIL" }
        ));
    }
    put(&format!("{} passed, {failed} failed\n", tests.len() - failed));
    Ok(if failed > 0 { Exit::Failed } else { Exit::Passed })
}

/// Why a verdict is not the expected one.
pub fn difference(test: &Expected, found: &Verdict) -> Option<String> {
    (*found != test.verdict)
        .then(|| format!("expected {}, found {found}: {}", test.verdict, test.why))
}

//! The litmus tests as tests of `cargo xtask test`: skipped, with the reason, where no herd7 is to be had.

use std::sync::OnceLock;

use anyhow::Result;

use super::work::Job;
use crate::command::litmus::difference;
use crate::command::litmus::expect::{self, Expected};
use crate::command::litmus::herd::{Availability, Herd};
use crate::record::{Record, Status};

/// One herd7 for all, looked for when the first test needs it.
pub struct Litmus {
    herd: OnceLock<Availability>,
    no_install: bool,
}

impl Litmus {
    /// Nothing looked for yet.
    pub fn new(no_install: bool) -> Self {
        Self { herd: OnceLock::new(), no_install }
    }

    /// A job for each test.
    ///
    /// # Errors
    /// The tests cannot be read.
    pub fn jobs(&self) -> Result<Vec<Job<'_>>> {
        let job = |test: Expected| {
            Job::single(format!("litmus/herd7/{}", test.name), move || self.judge(&test))
        };
        Ok(expect::all()?.into_iter().map(job).collect())
    }

    fn judge(&self, test: &Expected) -> Result<Record> {
        let mut record = Record::new("litmus", "herd7", &test.name, Status::Passed);
        let found = self.herd.get_or_init(|| {
            let found = Herd::find(None, self.no_install);
            found.unwrap_or_else(|error| Availability::NotHere(format!("{error:#}")))
        });
        let herd = match found {
            Availability::There(herd) => herd,
            Availability::NotHere(why) => {
                record.status = Status::Skipped(why.clone());
                return Ok(record);
            }
        };
        let verdict = herd.judge(test)?;
        record.output = vec![format!("herd7 {}: {verdict}", herd.version)];
        if let Some(why) = difference(test, &verdict) {
            record.status = Status::Failed(why);
        }
        Ok(record)
    }
}

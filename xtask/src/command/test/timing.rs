//! What a run tells about its own boots: how long they took, and which tests changed their minds.

use crate::record::{Record, Status};

/// A line for each boot whose log came to its end, and one for the fastest verdict.
pub fn table(records: &[Record]) -> Vec<String> {
    let mut boots: Vec<(&str, &Record)> = Vec::new();
    for record in records {
        if let (Some(log), Some(_)) = (&record.log, record.times.verdict)
            && boots.iter().all(|(known, other)| known != log || other.round != record.round)
        {
            boots.push((log, record));
        }
    }
    let ms = |time: Option<std::time::Duration>| {
        time.map_or("-".into(), |time| format!("{:.0}", time.as_secs_f64() * 1000.0))
    };
    let mut lines = vec!["first line  verdict   (ms from the start of QEMU)".to_string()];
    lines.extend(boots.iter().map(|(log, record)| {
        let (first, verdict) = (ms(record.times.first), ms(record.times.verdict));
        format!("{first:>10} {verdict:>8}   {log}")
    }));
    if let Some((log, record)) = boots.iter().min_by_key(|(_, record)| record.times.verdict) {
        lines.push(format!("fastest verdict: {} ms, {log}", ms(record.times.verdict)));
    }
    lines
}

/// The tests that both passed and failed over the rounds of a run.
pub fn flaky(records: &[Record]) -> Vec<String> {
    let mut paths: Vec<String> = Vec::new();
    for record in records.iter().filter(|record| record.status.is_failure()) {
        if !paths.contains(&record.path()) {
            paths.push(record.path());
        }
    }
    let of = |path: &str| -> (usize, usize) {
        let rounds: Vec<_> = records.iter().filter(|record| record.path() == path).collect();
        (rounds.iter().filter(|record| record.status == Status::Passed).count(), rounds.len())
    };
    let line = |path: String| {
        let (passed, all) = of(&path);
        (passed > 0).then(|| format!("flaky: {path} passed {passed} of {all} times"))
    };
    paths.into_iter().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_test_that_fails_now_and_then_is_named() {
        let record = |name: &str, failed: bool, round| {
            let status = if failed { Status::Failed("x".into()) } else { Status::Passed };
            Record { round, ..Record::new("m", "s", name, status) }
        };
        let records = [
            record("a", false, 1),
            record("b", true, 1),
            record("c", true, 1),
            record("a", false, 2),
            record("b", false, 2),
            record("c", true, 2),
        ];
        assert_eq!(flaky(&records), ["flaky: m/s/b passed 1 of 2 times"]);
    }

    #[test]
    fn each_boot_has_one_line_and_the_fastest_is_named() {
        let record = |log: &str, verdict: Option<u64>| {
            let mut record = Record::new("m", "s", "n", Status::Passed);
            record.log = Some(log.into());
            record.times.verdict = verdict.map(Duration::from_millis);
            record
        };
        let records = [
            record("a", Some(90)),
            record("a", Some(90)),
            record("b", Some(70)),
            record("c", None),
        ];
        let lines = table(&records);
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert_eq!(lines[3], "fastest verdict: 70 ms, b");
    }
}

//! Tests of the lab as a person uses it: what loses is found, a token is enough to see it again, and
//! the parts of a campaign are the whole.

use anyhow::{Result, bail, ensure};
use clap::Parser;
use ktap::item::Item;

use super::Job;
use crate::cli::{Cli, Command, Explore};
use crate::command::explore::{Bed, Line, Piece, Verdict, pieces, replays};
use crate::machine::Qemu;
use crate::record::{Record, Status};
use crate::run::Kernel;

/// The race that is explored.
const RACE: &str = "check-then-store";
/// A variant that loses it, and by which rule.
const LOSES: (&str, &str) = ("plain-store", "valid-to-valid");
/// Replays of its schedule with all CPUs in one thread.
const REPLAYS: u64 = 10;

/// A test: its name, and what it does.
type Claim = (&'static str, fn(Bed<'_>) -> Result<()>);

const CLAIMS: &[Claim] = &[
    ("a-token-replays-ten-times-out-of-ten", a_token_replays),
    ("two-parts-count-what-the-whole-counts", parts_count_what_the_whole_counts),
];

/// A job for each.
pub fn jobs<'a>(qemu: &'a Qemu, kernel: &'a Kernel, items: &'a [Item]) -> Vec<Job<'a>> {
    let job = |(name, claim): &'static Claim| {
        Job::single(format!("harness/explore/{name}"), move || {
            let status = match claim(Bed { qemu, kernel, items }) {
                Ok(()) => Status::Passed,
                Err(error) => Status::Failed(format!("{error:#}")),
            };
            Ok(Record::new("harness", "explore", name, status))
        })
    };
    CLAIMS.iter().map(job).collect()
}

fn a_token_replays(bed: Bed<'_>) -> Result<()> {
    let (variant, rule) = LOSES;
    let line = explored(bed, &["--variant", variant])?;
    let is_so = |line: &Line| line.verdict == Verdict::Lost && line.rule == rule;
    ensure!(is_so(&line), "{RACE} under {variant}: {:?} {}", line.verdict, line.why);
    for (words, count) in
        [(&["--variant", variant][..], REPLAYS), (&["--variant", variant, "--mttcg"], 1)]
    {
        let played = with_piece(bed, words, |piece| replays(bed, piece, &line.token, count))?;
        let same = |line: &Line| is_so(line) && line.token == played[0].line.token;
        let good = played.iter().filter(|played| same(&played.line)).count() as u64;
        ensure!(good == count, "{good} of {count} replays of {} lost by {rule}", line.token);
    }
    Ok(())
}

fn parts_count_what_the_whole_counts(bed: Bed<'_>) -> Result<()> {
    let of = |shard: &str| {
        let line = explored(bed, &["--variant", "default", "--states", "0", "--shard", shard])?;
        ensure!(line.exhaustive, "part {shard} is not exhaustive: {}", line.why);
        Ok(line.schedules)
    };
    let (whole, first, second) = (of("0/1")?, of("0/2")?, of("1/2")?);
    ensure!(first > 0 && second > 0, "a part is empty: {first} and {second}");
    ensure!(first + second == whole, "{first} and {second} are not {whole}");
    Ok(())
}

/// The one piece that `words` describe, explored.
fn explored(bed: Bed<'_>, words: &[&str]) -> Result<Line> {
    let played = with_piece(bed, words, |piece| bed.play(piece, piece.unit.words(), |_| {}))?;
    match played {
        Some(played) => Ok(played.line),
        None => bail!("interrupted"),
    }
}

fn with_piece<R>(
    bed: Bed<'_>,
    words: &[&str],
    with: impl FnOnce(&Piece<'_>) -> Result<R>,
) -> Result<R> {
    let options = options(words)?;
    let race = crate::items::select(bed.items, &[RACE.to_string()])?;
    with(&pieces(&options, &race, "")[0])
}

fn options(words: &[&str]) -> Result<Explore> {
    let words = ["xtask", "explore", RACE].iter().chain(words);
    match Cli::try_parse_from(words)?.command {
        Command::Explore(options) => Ok(options),
        _ => bail!("no exploration"),
    }
}

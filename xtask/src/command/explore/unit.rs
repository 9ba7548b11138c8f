//! The parts of a campaign: each is one boot, and is the same wherever and whenever it is made.

use ktap::item::{Expect, Item};
use serde::{Deserialize, Serialize};

use crate::cli::{Explore, Mode};
use crate::machine::Machine;

/// Random schedules of one boot: some seconds' work, so that little is lost when it is ended.
const CHUNK: u64 = 50_000;
/// Random schedules where no number is given.
const RANDOM: u64 = 10_000;

/// What is explored in one boot. Equal units give equal results.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize, Debug)]
pub struct Unit {
    /// Hash of the kernel image.
    pub kernel: String,
    /// The machine, by its name.
    pub machine: String,
    /// The race.
    pub scenario: String,
    /// The protocol variant.
    pub variant: String,
    /// Which schedules.
    pub mode: String,
    /// Preemptions or changes of priority.
    pub bound: u32,
    /// Seed of the random modes, 0 for dfs.
    pub seed: u64,
    /// Number of the first random schedule.
    pub first: u64,
    /// Random schedules; 0 for dfs.
    pub count: u64,
    /// The part of the whole, I/N.
    pub shard: String,
    /// States remembered.
    pub states: u64,
    /// Milliseconds after which it stops unfinished; 0: never.
    pub milliseconds: u64,
}

/// A unit with what it needs to be run.
#[derive(Clone, Debug)]
pub struct Piece<'a> {
    /// The unit.
    pub unit: Unit,
    /// Its race.
    pub item: &'a Item,
    /// Its machine.
    pub machine: Machine,
    /// How it must end.
    pub expect: Expect,
}

impl Unit {
    /// The words that tell it to the kernel.
    pub fn words(&self) -> Vec<String> {
        let Self { mode, bound, seed, first, count, shard, states, milliseconds, .. } = self;
        let mut words = vec![
            format!("explore={mode}"),
            format!("bound={bound}"),
            format!("shard={shard}"),
            format!("states={states}"),
            format!("milliseconds={milliseconds}"),
        ];
        if *count > 0 {
            let chunk = [("seed", seed), ("first", first), ("count", count)];
            words.extend(chunk.map(|(key, value)| format!("{key}={value}")));
        }
        words
    }

    /// Index and number of shards.
    pub fn shards(&self) -> (u32, u32) {
        let parts = self.shard.split_once('/');
        let parts = parts.and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)));
        parts.unwrap_or((0, 1))
    }
}

/// The pieces of a campaign, in the order of `items`: what the default protocol does comes first.
pub fn pieces<'a>(options: &Explore, items: &[&'a Item], kernel: &str) -> Vec<Piece<'a>> {
    let mut all = Vec::new();
    for item in items {
        for (variant, expect) in variants(item, options.variant.as_deref()) {
            let machine = machine(options, item);
            let unit = Unit {
                kernel: kernel.into(),
                machine: machine.to_string(),
                scenario: item.name.clone(),
                variant,
                mode: mode_name(options.mode).into(),
                bound: options.bound,
                seed: if options.mode == Mode::Dfs { 0 } else { options.seed },
                first: 0,
                count: 0,
                shard: options.shard.clone(),
                states: if options.mode == Mode::Dfs { options.states } else { 0 },
                milliseconds: options.time.unwrap_or(0) * 1000,
            };
            for (first, count) in chunks(options) {
                let unit = Unit { first, count, ..unit.clone() };
                let (machine, expect) = (machine.clone(), expect.clone());
                all.push(Piece { unit, item, machine, expect });
            }
        }
    }
    all
}

/// The variants under which `item` is explored, and how it must end under each. One that it does
/// not name must hold: nobody promised otherwise.
pub fn variants(item: &Item, only: Option<&str>) -> Vec<(String, Expect)> {
    let default = ("default".to_string(), item.expect.clone());
    let named = item.variants.iter().map(|v| (v.name.clone(), v.expect.clone()));
    let mut all: Vec<_> = [default].into_iter().chain(named).collect();
    if let Some(only) = only {
        all.retain(|(name, _)| name == only);
        if all.is_empty() {
            all.push((only.into(), Expect::Pass));
        }
    }
    all
}

/// The machine for a race: as many CPUs as it has actors, unless more are asked for.
pub fn machine(options: &Explore, item: &Item) -> Machine {
    let smp = options.smp.unwrap_or(u8::try_from(item.min_cpus).unwrap_or(u8::MAX).clamp(1, 8));
    Machine { single: !options.mttcg, ..Machine::new(&options.cpu, options.gic, smp) }
}

/// First number and count of each boot's random schedules. One that is limited in time is one boot.
fn chunks(options: &Explore) -> Vec<(u64, u64)> {
    if options.mode == Mode::Dfs {
        return vec![(0, 0)];
    }
    let count = options.count.unwrap_or(RANDOM);
    let chunk = if options.time.is_some() { count } else { CHUNK };
    (0..count.div_ceil(chunk)).map(|n| (n * chunk, chunk.min(count - n * chunk))).collect()
}

const fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Dfs => "dfs",
        Mode::Random => "random",
        Mode::Pct => "pct",
    }
}

#[cfg(test)]
pub mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    /// The options of a command line.
    pub fn options(line: &str) -> Explore {
        let words = ["xtask", "explore"].into_iter().chain(line.split_whitespace());
        match Cli::try_parse_from(words).unwrap().command {
            Command::Explore(options) => options,
            _ => unreachable!(),
        }
    }

    /// A race that one variant loses.
    pub fn race() -> Item {
        let variant = ktap::item::Variant {
            name: "plain-store".into(),
            about: String::new(),
            expect: Expect::Fail("valid-to-valid".into()),
        };
        Item {
            name: "check-then-store".into(),
            suite: "scenario".into(),
            about: String::new(),
            expect: Expect::Pass,
            variants: vec![variant],
            min_cpus: 3,
            timeout_ms: 0,
            explored: true,
        }
    }

    #[test]
    fn a_race_is_explored_under_the_default_and_each_variant_that_it_names() {
        let race = race();
        let all = pieces(&options(""), &[&race], "k");
        let names: Vec<_> = all.iter().map(|piece| piece.unit.variant.as_str()).collect();
        assert_eq!(names, ["default", "plain-store"]);
        assert_eq!((all[0].machine.smp, all[0].machine.single), (3, true));
        let one = pieces(&options("--variant plain-store --cpus 4 --mttcg"), &[&race], "k");
        assert_eq!((one.len(), one[0].machine.smp, one[0].machine.single), (1, 4, false));
        let strange = pieces(&options("--variant busy"), &[&race], "k");
        assert_eq!(strange[0].expect, Expect::Pass);
    }

    #[test]
    fn random_schedules_are_cut_into_boots_that_cover_all_once() {
        let race = race();
        let line = "--mode random --count 120000 --variant default --seed 9";
        let all = pieces(&options(line), &[&race], "k");
        let parts: Vec<_> = all.iter().map(|piece| (piece.unit.first, piece.unit.count)).collect();
        assert_eq!(parts, [(0, 50_000), (50_000, 50_000), (100_000, 20_000)]);
        let words = all[2].unit.words().join(" ");
        assert!(words.contains("explore=random") && words.contains("seed=9 first=100000"));
        let timed = pieces(&options(&format!("{line} --time 3")), &[&race], "k");
        assert_eq!(timed.len(), 1);
        assert!(timed[0].unit.words().contains(&"milliseconds=3000".into()));
    }

    #[test]
    fn a_part_is_one_of_a_number_of_parts() {
        assert_eq!(options("--shard 1/4").shard, "1/4");
        for wrong in ["4/4", "x", "1", "-1/2", "0/0"] {
            let shard = format!("--shard={wrong}");
            assert!(Cli::try_parse_from(["xtask", "explore", &shard]).is_err(), "{wrong}");
        }
    }
}

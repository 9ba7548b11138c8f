//! How a race is explored: what `explore=` and its companions on the command line say.

use explore::dfs::Shard;
use explore::schedule::Schedule;
use mix::Batch;

/// Which schedules are run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// All within the bound, depth first.
    Dfs,
    /// Uniformly random ones.
    Random,
    /// Random ones by priorities.
    Pct,
    /// The one of the token.
    Token,
}

/// The options, as far as they were given.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Which schedules.
    pub mode: Mode,
    /// Preemptions, for [`Mode::Dfs`]; changes of priority, for [`Mode::Pct`].
    pub bound: u32,
    /// Seed of the random modes.
    pub seed: u64,
    /// Number of the first random schedule.
    pub first: u64,
    /// Random schedules, repetitions of the token's, or operations of the random mix. 0: the mode's
    /// own number.
    pub count: u64,
    /// The part of the whole that this run is.
    pub shard: Shard,
    /// The schedule to replay.
    pub token: &'static str,
    /// States remembered for pruning; 0: none.
    pub states: usize,
    /// Milliseconds after which the exploration stops unfinished; 0: never.
    pub milliseconds: u64,
    /// Whether stores and TLB maintenance are delayed to their barriers.
    pub weak: bool,
    /// What chance does then, for every schedule the same; 0: something else for each.
    pub chance: u64,
    /// Whether every step is printed, also of a schedule that is right.
    pub trace: bool,
    /// The batch of the random mix whose replies are printed in full.
    pub mix: Option<Batch>,
}

impl Options {
    /// What holds where nothing is said.
    pub const DEFAULT: Self = Self {
        mode: Mode::Dfs,
        bound: 2,
        seed: 1,
        first: 0,
        count: 0,
        shard: Shard::WHOLE,
        token: "",
        states: 1 << 16,
        milliseconds: 0,
        weak: false,
        chance: 0,
        trace: false,
        mix: None,
    };

    /// The same with delays; random schedules where nothing else was asked for, since chance decides
    /// beside the schedule.
    #[must_use]
    pub const fn weakened(mut self) -> Self {
        self.weak = true;
        if let Mode::Dfs = self.mode {
            self.mode = Mode::Random;
        }
        self
    }

    /// The same with at least `count` random schedules where no number was given.
    #[must_use]
    pub const fn often(mut self, count: u64) -> Self {
        if let (0, Mode::Random | Mode::Pct) = (self.count, self.mode) {
            self.count = count;
        }
        self
    }

    /// Takes `key=value`; `None` if the key is none of ours, `Some(false)` if the value is wrong.
    pub fn take(&mut self, key: &str, value: &'static str) -> Option<bool> {
        Some(match key {
            "explore" => self.take_mode(value),
            "bound" => set(&mut self.bound, value),
            "seed" => set(&mut self.seed, value),
            "first" => set(&mut self.first, value),
            "count" => set(&mut self.count, value),
            "states" => set(&mut self.states, value),
            "milliseconds" => set(&mut self.milliseconds, value),
            "shard" => self.take_shard(value).is_some(),
            "token" => {
                (self.mode, self.token) = (Mode::Token, value);
                self.chance = Schedule::chance_of(value);
                self.weak |= self.chance > 0;
                Schedule::check(value).is_ok()
            }
            "weak" => flag(&mut self.weak, value),
            "trace" => flag(&mut self.trace, value),
            "mix" => {
                self.mix = Batch::parse(value);
                self.mix.is_some()
            }
            _ => return None,
        })
    }

    fn take_mode(&mut self, value: &str) -> bool {
        self.mode = match value {
            "dfs" => Mode::Dfs,
            "random" => Mode::Random,
            "pct" => Mode::Pct,
            _ => return false,
        };
        true
    }

    fn take_shard(&mut self, value: &str) -> Option<()> {
        let (index, of) = value.split_once('/')?;
        let (index, of) = (index.parse().ok()?, of.parse().ok()?);
        self.shard = Shard { index, of };
        (index < of).then_some(())
    }
}

fn set<T: core::str::FromStr>(place: &mut T, value: &str) -> bool {
    value.parse().map(|value| *place = value).is_ok()
}

fn flag(place: &mut bool, value: &str) -> bool {
    *place = value == "1";
    value == "0" || value == "1"
}

//! One schedule again, from its token.

use crate::schedule::{Choice, Schedule};
use crate::strategy::{Decision, Strategy};

/// Runs one schedule, a number of times.
pub struct Replay {
    schedule: Schedule,
    step: usize,
    left: u32,
    /// Steps at which the token asked for what could not happen.
    refused: u64,
}

impl Replay {
    /// `schedule`, `times` over.
    pub fn new(schedule: Schedule, times: u32) -> Self {
        Self { schedule, step: 0, left: times, refused: 0 }
    }
}

impl Strategy for Replay {
    fn next(&mut self) -> bool {
        self.step = 0;
        let more = self.left > 0;
        self.left = self.left.saturating_sub(1);
        more
    }

    fn choose(&mut self, decision: &Decision) -> Choice {
        let wanted = self.schedule.iter().nth(self.step);
        self.step += 1;
        match wanted {
            Some(choice) if decision.choices.contains(choice) => choice,
            Some(_) => {
                self.refused += 1;
                decision.default()
            }
            None => decision.default(),
        }
    }

    /// The token is of another scenario, another variant or another version of the code.
    fn diverged(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Choices;
    use alloc::vec::Vec;

    fn decision(current: u8) -> Decision {
        let choices = Choices::NONE.with(Choice::Cpu(0)).with(Choice::Cpu(1));
        Decision { current: Some(current), choices, state: 0 }
    }

    #[test]
    fn a_token_is_followed_and_then_the_running_cpu_goes_on() {
        let mut replay = Replay::new(Schedule::parse("a2b").unwrap(), 2);
        for _ in 0..2 {
            assert!(replay.next());
            let mut current = 0;
            let all: Vec<_> = (0..5)
                .map(|_| {
                    current = replay.choose(&decision(current)).cpu();
                    current
                })
                .collect();
            assert_eq!(all, [0, 0, 1, 1, 1]);
        }
        assert!(!replay.next());
        assert_eq!(replay.diverged(), 0);
    }

    #[test]
    fn a_token_that_does_not_fit_is_noticed() {
        let mut replay = Replay::new(Schedule::parse("c").unwrap(), 1);
        assert!(replay.next());
        assert_eq!(replay.choose(&decision(1)), Choice::Cpu(1));
        assert_eq!(replay.diverged(), 1);
    }
}

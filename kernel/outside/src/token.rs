//! The token of a schedule: what is read is what was meant, and what is printed can be read.

use explore::schedule::Schedule;

use crate::is_a_sentence;

/// Longest schedule that is gone through step by step.
const STEPS: usize = 4096;

/// Any text is a token, or is refused in words; both readers agree; the token of what was read is read
/// as the same.
///
/// # Panics
/// If that does not hold.
pub fn holds(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let read = Schedule::parse(text);
    assert_eq!(Schedule::check(text), read.as_ref().map(|_| ()).map_err(|error| *error));
    match read {
        Err(error) => is_a_sentence(&error),
        Ok(schedule) => {
            assert!(!schedule.is_empty());
            let known = |c: char| "abcdABCD.w".contains(c) || c.is_ascii_digit();
            assert!(text.chars().all(known), "read: {text:.80}");
            assert_eq!(schedule.chance, Schedule::chance_of(text));
            comes_back(&schedule);
        }
    }
}

/// A schedule survives its token, and the token the schedule.
fn comes_back(schedule: &Schedule) {
    let token = schedule.to_string();
    let read = Schedule::parse(&token);
    assert_eq!(read.as_ref(), Ok(schedule), "read back from {token:.80}");
    assert_eq!(read.map(|schedule| schedule.to_string()), Ok(token));
    if schedule.len() <= STEPS {
        let mut pushed = Schedule::default();
        pushed.chance = schedule.chance;
        schedule.iter().for_each(|choice| pushed.push(choice));
        assert_eq!(pushed, *schedule, "the same steps one by one");
    }
}

#[cfg(test)]
mod tests {
    use explore::schedule::Choice;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(crate::CASES))]

        #[test]
        fn any_text_is_a_token_or_is_refused_in_words(text in "\\PC{0,24}") {
            holds(text.as_bytes());
        }

        #[test]
        fn text_that_looks_like_a_token_is_one_or_is_refused_in_words(
            chance in "(w[+0]?[0-9]{1,21}\\.?)?",
            runs in "([a-dA-D]([1-9][0-9]{0,6})?){0,8}",
            rest in "([a-eA-E0-9]{0,12})?",
        ) {
            holds(format!("{chance}{runs}{rest}").as_bytes());
        }

        #[test]
        fn a_schedule_is_what_its_token_says(
            chance in prop_oneof![Just(0), any::<u64>()],
            steps in prop::collection::vec(0..8_usize, 1..200),
        ) {
            let mut schedule = Schedule::default();
            schedule.chance = chance;
            let choices: Vec<_> = Choice::all().collect();
            steps.iter().for_each(|&step| schedule.push(choices[step]));
            comes_back(&schedule);
            let read = Schedule::parse(&schedule.to_string()).unwrap();
            prop_assert!(read.iter().eq(steps.iter().map(|&step| choices[step])));
            prop_assert_eq!((read.len(), read.chance), (steps.len(), chance));
        }
    }

    #[test]
    fn the_seeds_hold() {
        crate::replay("token", holds);
    }
}

//! The search, tried on programs small enough to count by hand.

use std::collections::BTreeSet;

use super::*;
use crate::order::{Access, Order};

/// A step of a tiny program: a load into its CPU's register, or a store of the register plus one.
#[derive(Clone, Copy)]
enum Step {
    Load(usize),
    Store(usize),
    Own,
}

/// Runs `programs` under `strategy` until it is through; returns the outcomes and the number of
/// schedules that count.
fn explore(programs: &[&[Step]], strategy: &mut dyn Strategy) -> (BTreeSet<Vec<u64>>, usize) {
    let (mut outcomes, mut count) = (BTreeSet::new(), 0);
    while strategy.next() {
        let outcome = run(programs, strategy);
        if strategy.end() {
            count += 1;
            outcomes.insert(outcome);
        }
        assert!(count < 1_000_000);
    }
    (outcomes, count)
}

fn run(programs: &[&[Step]], strategy: &mut dyn Strategy) -> Vec<u64> {
    let mut memory = vec![0; 4];
    let mut registers = vec![0; programs.len()];
    let mut at = vec![0; programs.len()];
    let (mut order, mut current) = (Order::default(), None);
    loop {
        let runnable = (0..programs.len()).filter(|cpu| at[*cpu] < programs[*cpu].len());
        let choices = runnable.fold(Choices::NONE, |all, cpu| all.with(Choice::Cpu(cpu as u8)));
        if choices.is_empty() {
            memory.extend(registers);
            return memory;
        }
        let choice = strategy.choose(&Decision { current, choices, state: order.state() });
        let cpu = usize::from(choice.cpu());
        let (kind, object, writes) = match programs[cpu][at[cpu]] {
            Step::Load(address) => {
                registers[cpu] = memory[address];
                (1, address, false)
            }
            Step::Store(address) => {
                memory[address] = registers[cpu] + 1;
                (2, address, true)
            }
            Step::Own => (3, 100 + cpu, true),
        };
        order.step(cpu, Access { kind, object: object as u64, writes });
        at[cpu] += 1;
        current = Some(cpu as u8);
    }
}

/// Two CPUs that count up without a lock.
const RACE: &[&[Step]] = &[&[Step::Load(0), Step::Store(0)], &[Step::Load(0), Step::Store(0)]];

fn dfs(bound: u32, states: usize) -> Dfs {
    Dfs::new(bound, states, Shard::WHOLE)
}

#[test]
fn without_a_bound_every_interleaving_is_run_once() {
    let mut strategy = dfs(99, 0);
    let (outcomes, count) = explore(RACE, &mut strategy);
    assert_eq!(count, 6, "four over two");
    assert_eq!(outcomes.len(), 3);
    assert!(strategy.is_exhaustive());
    let three: &[&[Step]] = &[&[Step::Own; 3], &[Step::Own; 3], &[Step::Own; 2]];
    assert_eq!(explore(three, &mut dfs(99, 0)).1, 560, "8! / (3! 3! 2!)");
}

#[test]
fn the_bound_is_on_preemptions() {
    assert_eq!(explore(RACE, &mut dfs(0, 0)).1, 2, "either first");
    assert_eq!(explore(RACE, &mut dfs(1, 0)).1, 4);
    assert_eq!(explore(RACE, &mut dfs(2, 0)).1, 6);
    // Lost updates need one.
    assert_eq!(explore(RACE, &mut dfs(0, 0)).0.len(), 2);
    assert_eq!(explore(RACE, &mut dfs(1, 0)).0.len(), 3);
}

#[test]
fn pruning_loses_no_outcome() {
    let programs: &[&[Step]] = &[
        &[Step::Own, Step::Load(0), Step::Own, Step::Store(0), Step::Load(1)],
        &[Step::Load(0), Step::Own, Step::Store(1), Step::Store(0)],
        &[Step::Own, Step::Store(1)],
    ];
    for bound in [0, 1, 2, 99] {
        let (all, many) = explore(programs, &mut dfs(bound, 0));
        let mut pruned = dfs(bound, 1 << 12);
        let (seen, few) = explore(programs, &mut pruned);
        assert_eq!(all, seen, "bound {bound}");
        let most = if bound == 99 { many / 4 } else { many };
        assert!(few <= most, "{few} of {many} at bound {bound}");
        assert!(bound == 0 || pruned.pruned() > 0);
    }
}

#[test]
fn a_full_memory_of_states_only_costs_time() {
    let programs: &[&[Step]] = &[&[Step::Own; 4], &[Step::Own; 4]];
    let (all, many) = explore(programs, &mut dfs(99, 0));
    let (seen, few) = explore(programs, &mut dfs(99, 4));
    assert_eq!(all, seen);
    assert!(few <= many);
}

#[test]
fn shards_are_apart_and_together_everything() {
    let programs: &[&[Step]] = &[
        &[Step::Load(0), Step::Store(0), Step::Load(1), Step::Store(1), Step::Own],
        &[Step::Load(0), Step::Store(0), Step::Load(1), Step::Store(1), Step::Own],
    ];
    for states in [0, 1 << 12] {
        let (all, many) = explore(programs, &mut dfs(99, states));
        let parts: Vec<_> = (0..3)
            .map(|index| explore(programs, &mut Dfs::new(99, states, Shard { index, of: 3 })))
            .collect();
        let union: BTreeSet<_> = parts.iter().flat_map(|(seen, _)| seen.clone()).collect();
        assert_eq!(all, union);
        let sum: usize = parts.iter().map(|(_, count)| count).sum();
        assert!(parts.iter().all(|(_, count)| *count > 0));
        if states == 0 {
            assert_eq!(sum, many, "no schedule twice");
        }
    }
}

#[test]
fn an_interrupt_is_a_choice_that_preempts() {
    let decision = Decision {
        current: Some(0),
        choices: Choices::NONE.with(Choice::Cpu(0)).with(Choice::Tick(0)),
        state: 0,
    };
    let count = |bound| {
        let mut strategy = dfs(bound, 0);
        let mut seen = Vec::new();
        while strategy.next() {
            seen.push(strategy.choose(&decision));
        }
        seen
    };
    assert_eq!(count(0), [Choice::Cpu(0)]);
    assert_eq!(count(1), [Choice::Cpu(0), Choice::Tick(0)]);
}

#[test]
fn a_state_is_known_only_if_it_cost_no_less_before() {
    let mut visited = Visited::new(8);
    assert!(!visited.meet(7, 2));
    assert!(!visited.meet(7, 1), "more can follow than before");
    assert!(visited.meet(7, 1) && visited.meet(7, 2));
    assert!(!visited.meet(8, 2));
}

#[test]
fn what_shards_prune_is_in_some_shard_all_the_same() {
    let program = [Step::Own, Step::Own, Step::Own, Step::Own, Step::Load(0), Step::Store(0)];
    let programs: &[&[Step]] = &[&program, &program];
    let (all, _) = explore(programs, &mut dfs(99, 1 << 12));
    let mut union = BTreeSet::new();
    for index in 0..5 {
        let shard = Shard { index, of: 5 };
        union.extend(explore(programs, &mut Dfs::new(99, 1 << 12, shard)).0);
    }
    assert_eq!(all, union);
}

#[test]
fn going_on_is_no_preemption() {
    let choices = Choices::NONE.with(Choice::Cpu(0)).with(Choice::Cpu(1));
    let preempts = |current, choice| Decision { current, choices, state: 0 }.preempts(choice);
    assert!(!preempts(Some(0), Choice::Cpu(0)));
    assert!(preempts(Some(0), Choice::Cpu(1)));
    assert!(!preempts(Some(2), Choice::Cpu(1)), "the running CPU cannot go on");
    assert!(!preempts(None, Choice::Cpu(1)));
}

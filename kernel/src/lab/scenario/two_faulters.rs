//! `two-faulters`: CPUs fault on one empty slot at once, many rounds.
//!
//! Actors: the same program on every CPU. Steps: all meet at a barrier, then each has a kfunc read
//! the same unmapped page, a new one each round.
//! Right: one install a round, every read succeeds, every fault is reported.
//! Wrong: two installs, or a lost report.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arena::addr::{PAGE_SIZE, VirtAddr};
use arena::lifecycle::State as Life;
use arena::window::FULL_PAGES;

use super::{drain_violations, load, new_arena, page, tear_down};
use crate::arch::barrier;
use crate::arch::smp::{self, CpuSet};
use crate::fault;
use crate::prog::kfunc;
use crate::prog::program::{Code, Program};
use crate::runner::{Ctx, Failure, Outcome, claim, item};

item! {
    name: "two-faulters",
    suite: "scenario",
    about: "CPUs fault on one empty slot at once, many rounds",
    min_cpus: 2,
    run: two_faulters,
}

const ROUNDS: u64 = 100;

struct Faulters {
    first: AtomicU64,
    cpus: AtomicU32,
    arrived: AtomicU32,
    wrong_reads: AtomicU32,
}

static CODE: Faulters = Faulters {
    first: AtomicU64::new(0),
    cpus: AtomicU32::new(0),
    arrived: AtomicU32::new(0),
    wrong_reads: AtomicU32::new(0),
};

impl Code for Faulters {
    fn run(&self, _: &Program, _: u64) -> u64 {
        let first = VirtAddr::new(self.first.load(Ordering::Relaxed));
        let cpus = self.cpus.load(Ordering::Relaxed);
        for round in 0..ROUNDS {
            self.meet(round as u32, cpus);
            if kfunc::read_word(first.offset(round * PAGE_SIZE)) != 0 {
                self.wrong_reads.fetch_add(1, Ordering::Relaxed);
            }
        }
        0
    }
}

impl Faulters {
    /// Returns on every CPU once all have come, in round `round`.
    fn meet(&self, round: u32, cpus: u32) {
        self.arrived.fetch_add(1, Ordering::AcqRel);
        while self.arrived.load(Ordering::Acquire) < (round + 1) * cpus {
            barrier::wait_hint();
        }
    }
}

fn two_faulters(ctx: &Ctx) -> Outcome {
    let arena = new_arena(ctx)?;
    // Beyond what may be allocated, so that no round finds a page.
    let first = page(&arena, FULL_PAGES / 2);
    let cpus = CpuSet::online().len() as u32;
    CODE.first.store(first.get(), Ordering::Relaxed);
    CODE.cpus.store(cpus, Ordering::Relaxed);
    CODE.arrived.store(0, Ordering::Relaxed);
    CODE.wrong_reads.store(0, Ordering::Relaxed);
    let program = load("faulters", &CODE, &arena)?;
    let recovered = fault::COUNTS.recovered.load(Ordering::Relaxed);
    smp::on_each(CpuSet::online(), |_| {
        let _ = program.run(0);
    });
    let recovered = fault::COUNTS.recovered.load(Ordering::Relaxed) - recovered;

    let stats = arena.stats().map_err(Failure::of_debug("arena lock"))?;
    claim!(
        stats.scratch_installs == ROUNDS,
        "{} installs in {ROUNDS} rounds",
        stats.scratch_installs
    );
    claim!(
        recovered == stats.scratch_installs + stats.lost_installs,
        "{recovered} faults, {} installs, {} lost",
        stats.scratch_installs,
        stats.lost_installs
    );
    let wrong = CODE.wrong_reads.load(Ordering::Relaxed);
    claim!(wrong == 0, "{wrong} reads did not see scratch");
    let reports = drain_violations(&ctx.without_story(), &program);
    claim!(reports.len() as u64 == recovered, "{} reports of {recovered} faults", reports.len());
    for round in 0..ROUNDS {
        let address = arena.window().to_user(first.offset(round * PAGE_SIZE)).get();
        claim!(reports.iter().any(|v| v.address == address), "round {round} was not reported");
        let frame = arena.entry(first.offset(round * PAGE_SIZE)).and_then(|entry| entry.frame());
        claim!(frame == Some(arena.scratch()), "round {round} left no scratch");
    }
    claim!(program.life().state() == Life::Aborted, "the program was not aborted");
    ctx.note(format_args!(
        "{cpus} CPUs, {ROUNDS} rounds: {recovered} faults, {} lost the race",
        stats.lost_installs
    ));
    tear_down(ctx, program, arena)
}

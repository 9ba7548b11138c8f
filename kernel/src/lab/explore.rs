//! Runs a race under one schedule after the other, and tells what came of it.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::fmt;

use explore::dfs::Dfs;
use explore::ghost::{Broken, Ghost, Rule};
use explore::order::mix;
use explore::random::{Manner, Random};
use explore::replay::Replay;
use explore::schedule::Schedule;
use explore::strategy::Strategy;

use arena::pte::Pte;
use arena::walk::leaf_slot;

use super::engine::weak::Weak;
use super::engine::{self, Core, hook};
use super::options::{Mode, Options};
use super::race::{self, Ground, Race};
use crate::arch::percpu::CpuId;
use crate::arch::smp::{self, CpuSet};
use crate::arch::timer;
use crate::mem::machine::Machine;
use crate::mem::{frame, kmap};
use crate::runner::{self, Ctx, Failure, Outcome, claim};

/// How often progress is told, in nanoseconds.
const TELL_NS: u64 = 500_000_000;
/// Random schedules where no number is given.
const RANDOM: u64 = 1000;
/// Steps among which changes of priority fall.
const PCT_LENGTH: u64 = 64;

/// What an exploration has come to.
#[derive(Default)]
struct Tally {
    schedules: u64,
    pruned: u64,
    longest: u32,
    exhaustive: bool,
    began: u64,
    told: u64,
}

/// Explores `race` on `ground` as the command line says. Its item must say `explored: true`.
///
/// # Errors
/// A claim, or what kept the exploration from going on. A rule that is broken ends the run instead:
/// the machine holds nothing any more that could be trusted.
pub fn run(ctx: &Ctx, ground: &Ground, race: &dyn Race) -> Outcome {
    run_as(ctx, ctx.lab(), ground, race)
}

/// [`run`] with options that a scenario needs whatever the command line says.
///
/// # Errors
/// As [`run`].
pub fn run_as(ctx: &Ctx, options: &Options, ground: &Ground, race: &dyn Race) -> Outcome {
    if ground.actors > CpuSet::online().len() {
        return Err(Failure::Skip("needs more CPUs"));
    }
    // The host explores what says so: a race that does not would never be in a campaign.
    claim!(runner::is_explored(), "the item lacks `explored: true`");
    engine::open(core(ground, options)?);
    smp::on_each(CpuSet::online(), |_| timer::stop_tick());
    let act = |cpu: usize| race.act(cpu);
    let mut outcome = Ok(Tally::default());
    let actors = CpuSet::online().iter().take(ground.actors);
    let actors = actors.fold(CpuSet::NONE, CpuSet::with);
    let result = ::core::cell::Cell::new(None);
    let result = OnBoot(&result);
    smp::on_each(actors, |cpu| match cpu {
        CpuId::BOOT => {
            result.set(schedules(ctx, options, ground, race));
            engine::dismiss();
        }
        other => engine::attend(other.index(), &act, &race::probe),
    });
    if let Some(of_boot) = result.0.take() {
        outcome = of_boot;
    }
    smp::on_each(CpuSet::online(), |_| timer::start_tick());
    if let Some(core) = engine::close() {
        give_back(ground, core);
    }
    tell(ctx, options, ground, &outcome?);
    Ok(())
}

/// A place that only the boot CPU's part of a job on several CPUs uses.
struct OnBoot<'a>(&'a ::core::cell::Cell<Option<Result<Tally, Failure>>>);

// SAFETY: `set` is called on the boot CPU alone, which also made the cell.
unsafe impl Sync for OnBoot<'_> {}

impl OnBoot<'_> {
    fn set(&self, value: Result<Tally, Failure>) {
        self.0.set(Some(value));
    }
}

/// The boot CPU's part: every schedule, from its choice to its judgement.
fn schedules(
    ctx: &Ctx,
    options: &Options,
    ground: &Ground,
    race: &dyn Race,
) -> Result<Tally, Failure> {
    let act = |cpu: usize| race.act(cpu);
    let mut tally = Tally { began: timer::now_ns(), ..Tally::default() };
    tally.told = tally.began;
    while engine::between(|core| core.strategy.next()) {
        race.reset()?;
        let number = engine::between(|core| core.schedules);
        engine::between(|core| {
            core.begin(race.ticks());
            core.schedule.chance = if options.weak { chance(options, number) } else { 0 };
        });
        engine::set_delays(options.weak.then(|| Weak::new(chance(options, number))));
        engine::conduct(&act);
        hook::let_all_out();
        engine::set_delays(None);
        judge(ground, race);
        let counts = engine::between(|core| core.strategy.diverged() == 0 && core.strategy.end());
        engine::between(|core| core.schedules += u64::from(counts));
        if options.trace {
            engine::between(|core| tell_steps(core, &mut |line| runner::diagnose(line)));
        }
        if engine::between(|core| core.strategy.diverged()) > 0 {
            return Err(diverged(options));
        }
        let now = timer::now_ns();
        if options.milliseconds > 0 && now - tally.began > options.milliseconds * 1_000_000 {
            break;
        }
        if now - tally.told > TELL_NS {
            tally.told = now;
            engine::between(|core| tally.take(core));
            ctx.note(format_args!("exploring: {}", tally.line()));
        }
    }
    engine::between(|core| tally.take(core));
    Ok(tally)
}

/// What chance does in a schedule.
fn chance(options: &Options, number: u64) -> u64 {
    match options.chance {
        0 => mix(options.seed, options.first + number) | 1,
        fixed => fixed,
    }
}

/// The oracles that look when all is done; does not come back if a rule is broken.
fn judge(ground: &Ground, race: &dyn Race) {
    if let Err(broken) = engine::between(|core| core.ghost.rest()) {
        engine::lose(&broken, "");
    }
    let unreported = engine::between(|core| core.unreported);
    if unreported != 0 {
        lose(Rule::Reports, &format!("{unreported} more violations than reports"));
    }
    race::probe(0);
    for cpu in 1..ground.actors {
        engine::ask_to_probe(cpu);
    }
    if let Err(Failure::Claim(text)) = race.check() {
        lose(Rule::Claim, &text);
    }
    let stats =
        ground.arenas().try_fold(0, |sum, arena| Some(sum + arena.stats().ok()?.mapped_pages));
    if let Some(books) = stats {
        let mapped = engine::between(|core| core.ghost.mapped());
        let books = books as usize;
        if books != mapped {
            lose(Rule::Books, &format!("the books say {books} pages, the tables hold {mapped}"));
        }
    }
}

fn lose(rule: Rule, why: &str) -> ! {
    engine::lose(&Broken { rule, page: None, frame: None, cpu: 0 }, why)
}

fn diverged(options: &Options) -> Failure {
    Failure::new(match options.mode {
        Mode::Token => {
            "the token asks for what cannot happen: it is of another scenario, variant or version"
                .into()
        }
        _ => "the same choices led elsewhere: something beside the schedule decides".into(),
    })
}

/// The core of an exploration of `ground`.
fn core(ground: &Ground, options: &Options) -> Result<Core, Failure> {
    let mut ghost = Ghost::new(ground.arena.scratch());
    for &page in &ground.pages {
        let slot = leaf_slot(&Machine, kmap::root(), page)
            .ok_or_else(|| Failure::new(format!("no slot decides about {page}")))?;
        let now = slot.load(&Machine);
        ghost.watch(page, ::core::ptr::from_ref(slot).addr() as u64, now);
    }
    for &page in &ground.shown {
        let user = ground.arena.window().to_user(page);
        let slot = ground.arena.user_slot(user);
        let slot = slot.ok_or_else(|| Failure::new(format!("no slot decides about {user}")))?;
        let now = slot.load(&Machine);
        ghost.watch_user(user, ::core::ptr::from_ref(slot).addr() as u64, now, page);
    }
    let mut core = Core::new(strategy(options), ghost, ground.actors);
    if options.trace {
        core.timeline.stamp();
    }
    for _ in 0..ground.frames {
        let frame = frame::alloc().ok_or_else(|| Failure::new("no frames for the lab".into()))?;
        core.own(frame);
    }
    Ok(core)
}

fn strategy(options: &Options) -> Box<dyn Strategy + Send> {
    let &Options { bound, seed, first, shard, states, .. } = options;
    let random = |manner| {
        let count = if options.count == 0 { RANDOM } else { options.count };
        Box::new(Random::new(manner, seed, first, first + count, shard))
    };
    match options.mode {
        Mode::Dfs => Box::new(Dfs::new(bound, states, shard)),
        Mode::Random => random(Manner::Uniform),
        Mode::Pct => random(Manner::Pct { changes: bound, length: PCT_LENGTH }),
        Mode::Token => {
            let schedule = Schedule::parse(options.token).unwrap_or_default();
            Box::new(Replay::new(schedule, options.count.clamp(1, 1_000_000) as u32))
        }
    }
}

/// Everything back to the frame allocator.
fn give_back(ground: &Ground, core: Core) {
    for page in &ground.pages {
        // What the last schedule left mapped, frames of the lab among it.
        // The page is one arena's; the other refuses.
        for arena in ground.arenas() {
            let _ = arena.free(*page, 1);
        }
    }
    core.into_frames().for_each(frame::free);
}

impl Tally {
    fn take(&mut self, core: &mut Core) {
        self.schedules = core.schedules;
        self.pruned = core.strategy.pruned();
        self.longest = core.longest;
        self.exhaustive = core.strategy.is_exhaustive();
    }

    fn line(&self) -> String {
        let Self { schedules, pruned, longest, exhaustive, began, .. } = *self;
        let us = (timer::now_ns() - began) / 1000;
        let exhaustive = u8::from(exhaustive);
        format!(
            "schedules={schedules} pruned={pruned} longest={longest} exhaustive={exhaustive} us={us}"
        )
    }
}

/// The line that the host puts into its table.
fn tell(ctx: &Ctx, options: &Options, ground: &Ground, tally: &Tally) {
    let (mode, bound) = (mode_name(options.mode), options.bound);
    ctx.note(format_args!(
        "explored: variant={} cpus={} mode={mode} bound={bound} {}",
        ctx.variant(),
        ground.actors,
        tally.line()
    ));
}

const fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Dfs => "dfs",
        Mode::Random => "random",
        Mode::Pct => "pct",
        Mode::Token => "token",
    }
}

/// A schedule that lost, step by step, and the end of the run.
pub fn tell_loss(core: Option<&mut Core>, broken: &Broken, why: &str) -> ! {
    if let Some(core) = core {
        tell_schedule(core, broken.rule.name(), &mut |line| runner::diagnose(line));
    }
    runner::diagnose(format_args!("oracle: {broken}"));
    for line in why.lines() {
        runner::diagnose(format_args!("oracle: {line}"));
    }
    runner::fail_and_end(broken.rule.name())
}

/// The schedule in which this CPU, an actor, came to a bad end of another kind: without it nobody
/// could come there again. Any context of an actor; nothing where no schedule runs.
pub fn tell_end(rule: &str, put: &mut dyn FnMut(fmt::Arguments<'_>)) {
    if engine::is_acting() {
        engine::between(|core| tell_schedule(core, rule, put));
    }
}

fn tell_schedule(core: &mut Core, rule: &str, put: &mut dyn FnMut(fmt::Arguments<'_>)) {
    tell_steps(core, put);
    for (cpu, status) in core.waiting() {
        put(format_args!("lab: cpu{cpu} is {status:x?}"));
    }
    let (token, schedules) = (&core.schedule, core.schedules + 1);
    put(format_args!("lost: rule={rule} token={token} schedules={schedules}"));
}

/// The places first, by which a reader knows the addresses, then what happened there.
fn tell_steps(core: &Core, put: &mut dyn FnMut(fmt::Arguments<'_>)) {
    let scratch = core.ghost.scratch().start().get();
    put(format_args!("lab: scratch frame={scratch:#x}"));
    for (page, slot) in core.ghost.slots() {
        put(format_args!("lab: slot page={:#x} object={slot:#x}", page.get()));
        if core.timeline.is_stamped() {
            let [l0, l1, l2, _] = kmap::walk_to(page).entries.map(Pte::bits);
            let (page, root) = (page.get(), kmap::root().start().get());
            put(format_args!(
                "lab: walk page={page:#x} root={root:#x} l0={l0:#x} l1={l1:#x} l2={l2:#x}"
            ));
        }
    }
    let (entries, lost) = core.timeline.entries();
    for (at, entry) in entries {
        match at {
            0 => put(format_args!("lab: {entry}")),
            at => put(format_args!("lab: {entry} at={at}")),
        }
    }
    if lost > 0 {
        put(format_args!("lab: {lost} more entries found no room"));
    }
}

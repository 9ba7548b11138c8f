//! The phases whose replies are foreseeable: they are digested batch by batch, for the host.

use alloc::vec::Vec;

use arena::addr::VirtAddr;
use arena::arena::{AllocError, FreeError, UserFault};
use arena::pte::Pte;
use mix::ground::{Ground, PAGE_SHIFT, WORD, start_of};
use mix::op::{Op, Ops};
use mix::reply::{Digest, Refusal, Reply, Slot};
use mix::{BATCH, Batch, CPUS, Phase};

use super::{Place, Plan, arena, close, on_each, tear_down, tell};
use crate::mem::machine::Machine;
use crate::runner::{Ctx, Failure, Outcome};

pub fn run(ctx: &Ctx, phase: Phase, plan: Plan) -> Outcome {
    let ground = Ground::of(phase, 0);
    let places: Vec<_> = if ground.alone {
        (0..CPUS).map(|_| Place::new(&arena(ctx, ground.max_pages)?)).collect::<Result<_, _>>()?
    } else {
        Place::all_in(&arena(ctx, ground.max_pages)?)?
    };
    on_each(|cpu| places[cpu].operate(phase, cpu, plan));
    for (cpu, place) in places.iter().enumerate() {
        place.tell_last(phase, cpu)?;
    }
    let arenas = if ground.alone { CPUS } else { 1 };
    places[..arenas].iter().try_for_each(|place| close(place, ground.max_pages))?;
    tear_down(places)
}

impl Place {
    fn operate(&self, phase: Phase, cpu: usize, plan: Plan) {
        let mut ops = Ops::new(phase, cpu, plan.seed);
        let total = phase.each(plan.count);
        for number in 0..total.div_ceil(BATCH) {
            let mut digest = Digest::default();
            let full = plan.full == Some(Batch { phase, cpu, number });
            for at in number * BATCH..total.min((number + 1) * BATCH) {
                let reply = self.perform(ops.draw());
                digest.reply(reply);
                if full {
                    tell(format_args!("{phase} {cpu} operation {at}: {reply}"));
                }
            }
            tell(format_args!("{phase} {cpu} batch {number}: {digest}"));
        }
    }

    fn perform(&self, op: Op) -> Reply {
        let refused = Reply::Refused;
        match op {
            Op::Alloc(at, pages) => {
                let got = self.arena.alloc(at.map(|at| self.address(at)), pages);
                let base = self.address(0).get();
                got.map_or_else(
                    |error| refused(of_alloc(error)),
                    |page| Reply::At((page.get().wrapping_sub(base) >> PAGE_SHIFT) as u32),
                )
            }
            Op::Reserve(at, pages) => {
                let got = self.arena.reserve(self.address(at), pages);
                got.map_or_else(|error| refused(of_alloc(error)), |()| Reply::Done)
            }
            Op::Free(at, pages) => match self.arena.free(self.address(at), pages) {
                Ok(()) => Reply::Done,
                Err(FreeError::Range(..)) => refused(Refusal::Range),
                Err(_) => refused(Refusal::Other),
            },
            Op::Read(at) => self.access(at, None),
            Op::Write(at, word) => self.access(at, Some(word)),
            Op::Touch(at) => {
                let user = self.arena.window().to_user(self.address(at));
                let touched = self.arena.user_fault(user);
                touched.map_or_else(|error| refused(of_touch(error)), |()| Reply::Done)
            }
            Op::Books => self.books().unwrap_or(refused(Refusal::Other)),
        }
    }

    fn access(&self, at: u64, write: Option<u64>) -> Reply {
        let at = self.address(at);
        let before = self.slot(at);
        let read = match write {
            Some(word) => {
                self.write(at, word);
                0
            }
            None => self.read(at),
        };
        let after = self.slot(at);
        let reports = self.reports(at, write.is_some());
        let word = match (after, write) {
            (Slot::Page, None) => read,
            (Slot::Page, Some(_)) => self.read(at),
            _ => 0,
        };
        let tasks = self.for_tasks(at);
        Reply::Access { before, after, reports, word, tasks }
    }

    /// What the user window's entry for the page of `at` holds.
    fn for_tasks(&self, at: VirtAddr) -> Slot {
        let slot = self.arena.user_slot(self.arena.window().to_user(at));
        let entry = slot.map_or(Pte::EMPTY, |slot| slot.load(&Machine));
        match entry.frame() {
            None if entry == Pte::EMPTY => Slot::Empty,
            Some(frame) if Some(frame) == self.arena.entry(at).and_then(Pte::frame) => Slot::Page,
            _ => Slot::Other,
        }
    }

    fn books(&self) -> Option<Reply> {
        let stats = self.arena.stats().ok()?;
        Some(Reply::Books {
            mapped: stats.mapped_pages,
            peak: stats.peak_pages,
            free: stats.free_pages,
            scratched: stats.scratch_installs,
        })
    }

    /// Tells what each page of `cpu` holds, and what the arena's books say, for which an arena that
    /// several CPUs use has several lines.
    fn tell_last(&self, phase: Phase, cpu: usize) -> Outcome {
        let ground = Ground::of(phase, cpu);
        let mut digest = Digest::default();
        for page in ground.first..ground.end() {
            let at = self.address(start_of(page) + WORD);
            let slot = self.slot(at);
            let word = if slot == Slot::Page { self.read(at) } else { 0 };
            digest.page(slot, word, self.for_tasks(at));
        }
        tell(format_args!("{phase} {cpu} last: {digest}"));
        let stats = self.arena.stats().map_err(Failure::of_debug("stats"))?;
        let (mapped, free) = (stats.mapped_pages, stats.free_pages);
        let (scratched, lost) = (stats.scratch_installs, stats.lost_installs);
        tell(format_args!("{phase} {cpu} books: {mapped} {free} {scratched} {lost}"));
        Ok(())
    }
}

fn of_alloc(error: AllocError) -> Refusal {
    match error {
        AllocError::PageCount(_) => Refusal::Count,
        AllocError::Address(_) => Refusal::Address,
        AllocError::InUse => Refusal::InUse,
        AllocError::NoRange => Refusal::NoRange,
        _ => Refusal::Other,
    }
}

fn of_touch(error: UserFault) -> Refusal {
    match error {
        UserFault::Outside => Refusal::Address,
        UserFault::Scratch => Refusal::Scratch,
        UserFault::Unallocated => Refusal::Reserved,
        UserFault::NoMemory | UserFault::Lock(_) => Refusal::Other,
    }
}

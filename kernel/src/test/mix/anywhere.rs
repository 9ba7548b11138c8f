//! The phase in which every CPU takes pages wherever they are: noted with tickets, for the host.

use alloc::string::String;
use core::sync::atomic::{AtomicU64, Ordering};

use arena::arena::AllocError;
use mix::Phase;
use mix::ground::{PAGE_SHIFT, WORD, start_of};
use mix::hand::{Deed, Hand, PAGES, Run};
use mix::judge::held_slot;
use mix::note::{Came, Note, Odd};
use mix::reply::{Digest, Slot};

use super::{Place, Plan, arena, close, on_each, tear_down, tell};
use crate::arch::smp::{self, CpuSet};
use crate::runner::{Ctx, Failure, Outcome};

/// Bytes of notes that one line of the log carries.
const LINE: usize = 400;

/// Hands out tickets. Every draw is before or behind every other, and what a CPU did before it drew
/// is seen by who draws later: AcqRel.
struct Tickets(AtomicU64);

pub fn run(ctx: &Ctx, plan: Plan) -> Outcome {
    let arena = arena(ctx, PAGES)?;
    let places = Place::all_in(&arena)?;
    let tickets = Tickets(AtomicU64::new(0));
    on_each(|cpu| places[cpu].roam(cpu, plan, &tickets));
    await_workers(&places[0])?;
    places[0].tell_books()?;
    close(&places[0], PAGES)?;
    tear_down(places)
}

/// Returns when every deferred free is through.
fn await_workers(place: &Place) -> Outcome {
    loop {
        place.arena.work().map_err(Failure::of_debug("work"))?;
        // A worker that came first works in its CPU's tick, which is over before a job begins there.
        smp::on_each(CpuSet::online(), |_| {});
        // One that was not given the lock has noted its pages again.
        if !place.arena.has_deferred() {
            return Ok(());
        }
    }
}

impl Tickets {
    fn draw(&self) -> u64 {
        self.0.fetch_add(1, Ordering::AcqRel)
    }
}

impl Place {
    fn roam(&self, cpu: usize, plan: Plan, tickets: &Tickets) {
        let mut hand = Hand::new(cpu, plan.seed);
        let mut notes = String::new();
        let (mut first, mut last) = (0, 0);
        let total = Phase::Anywhere.each(plan.count);
        for number in 0..total {
            let note = self.follow(&mut hand, tickets);
            let _ = note.write(&mut notes, last);
            last = note.after;
            notes.push(' ');
            if notes.len() > LINE || number + 1 == total {
                tell(format_args!("anywhere {cpu} from {first}: {}", notes.trim_end()));
                notes.clear();
                first = number + 1;
            }
        }
        // A hand that lost a word without ever looking again would say nothing.
        let lost = hand.runs().iter().filter(|run| self.has_lost(run)).count();
        tell(format_args!("anywhere {cpu} lost: {lost}"));
    }

    /// Does the next deed.
    fn follow(&self, hand: &mut Hand, tickets: &Tickets) -> Note {
        let deed = hand.draw();
        // Before the ticket: the pages are still this CPU's.
        let lost = match deed {
            Deed::Free(run, _) => self.has_lost(&run),
            Deed::Look(run) => self.has_lost(&Run { pages: 1, ..run }),
            Deed::Alloc(_) | Deed::Wild(..) => false,
        };
        let before = tickets.draw();
        let came = match deed {
            Deed::Alloc(pages) => self.take(pages),
            Deed::Free(run, later) => self.free(run, later),
            Deed::Look(_) => Came::Done,
            Deed::Wild(page, write) => {
                let beside = self.address(start_of(page) + WORD + 8);
                if write {
                    self.write(beside, !0);
                } else {
                    self.read(beside);
                }
                self.forget_reports();
                Came::Done
            }
        };
        let after = tickets.draw();
        let came = match (deed, came) {
            (Deed::Alloc(pages), Came::At(first)) if !self.mark(&hand.took(first, pages)) => {
                Came::Odd(Odd::Dirty)
            }
            (_, Came::Done) if lost => Came::Odd(Odd::Lost),
            (_, came) => came,
        };
        Note { before, after, came }
    }

    fn take(&self, pages: u32) -> Came {
        match self.arena.alloc(None, pages) {
            Ok(at) => {
                let offset = at.get().wrapping_sub(self.address(0).get());
                Came::At((offset >> PAGE_SHIFT) as u32)
            }
            Err(AllocError::NoRange) => Came::NoRange,
            Err(_) => Came::Odd(Odd::Refused),
        }
    }

    fn free(&self, run: Run, later: bool) -> Came {
        let at = self.address(start_of(run.first));
        let done = if later {
            self.arena.free_later(at, run.pages)
        } else {
            self.arena.free(at, run.pages)
        };
        done.map_or(Came::Odd(Odd::Refused), |()| Came::Done)
    }

    /// Writes the run's word into each of its pages; whether all were zero.
    fn mark(&self, run: &Run) -> bool {
        self.words(run).fold(true, |zero, at| {
            let zero = zero & (self.read(at) == 0);
            self.write(at, run.tag);
            zero
        })
    }

    fn has_lost(&self, run: &Run) -> bool {
        self.words(run).any(|at| self.read(at) != run.tag)
    }

    fn words(&self, run: &Run) -> impl Iterator<Item = arena::addr::VirtAddr> + use<'_> {
        (run.first..run.first + run.pages).map(|page| self.address(start_of(page) + WORD))
    }

    fn tell_books(&self) -> Outcome {
        let mut digest = Digest::default();
        for page in 0..PAGES {
            let is_page = self.slot(self.address(start_of(page))) == Slot::Page;
            digest.page(held_slot(is_page), 0, Slot::Empty);
        }
        let stats = self.arena.stats().map_err(Failure::of_debug("stats"))?;
        let (mapped, free) = (stats.mapped_pages, stats.free_pages);
        tell(format_args!("anywhere books: {mapped} {free} {digest}"));
        Ok(())
    }
}

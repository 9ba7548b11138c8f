//! What the CPU whose turn it is knows and may change: who waits for what, what happened, and what
//! the ghost says to it.

use alloc::boxed::Box;
use alloc::vec::Vec;

use arena::addr::{Frame, VirtAddr};
use arena::step::StepPoint;
use explore::MAX_CPUS;
use explore::ghost::{Broken, Ghost, Rule, View};
use explore::order::{Access, Order};
use explore::schedule::{Choice, Choices, Schedule};
use explore::strategy::{Decision, Strategy};

use super::timeline::{Entry, Timeline};
use super::weak::Weak;

/// Steps after which a schedule that has not ended never will: far more than any scenario takes.
const STEP_LIMIT: u32 = 4000;

/// Whether an actor can go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// It can.
    Ready,
    /// It waits for the lock at this address.
    Blocked(u64),
    /// The same, but not for ever: when nobody else can go on, its time is up.
    BlockedForATime(u64),
    /// It waits for something that another CPU's step may bring; the steps that it knows of, looks of
    /// others that wait as well left out: they bring nothing.
    Waiting(u32),
    /// It is through.
    Done,
}

/// What comes after a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// This CPU goes on, interrupted first or not.
    Run(Choice),
    /// All are through.
    AllDone,
}

/// See the module.
pub struct Core {
    pub strategy: Box<dyn Strategy + Send>,
    pub ghost: Ghost,
    pub timeline: Timeline,
    pub schedule: Schedule,
    /// Frames to give out, last in first out: the most hostile order for a page that is freed too
    /// early.
    pub pool: Vec<Frame>,
    order: Order,
    wants_state: bool,
    actors: usize,
    status: [Status; MAX_CPUS],
    pending: [(StepPoint, u64); MAX_CPUS],
    /// CPUs whose time is up and that have not been told.
    late: [bool; MAX_CPUS],
    current: Option<u8>,
    steps: u32,
    /// Steps that were not looks of a CPU that waits.
    progress: u32,
    /// Interrupts that may yet be raised.
    ticks: u32,
    /// Schedules that ran to their end and count.
    pub schedules: u64,
    /// The longest schedule so far, in steps.
    pub longest: u32,
    /// Allocations are the machine's, not the pool's.
    pub real_frames: bool,
    /// What is delayed, if this exploration delays.
    pub weak: Option<Weak>,
    /// Violations seen by the abort handler less those reported.
    pub unreported: i64,
}

impl Core {
    /// A core for `actors` CPUs.
    pub fn new(strategy: Box<dyn Strategy + Send>, ghost: Ghost, actors: usize) -> Self {
        Self {
            wants_state: strategy.wants_state(),
            strategy,
            ghost,
            timeline: Timeline::new(),
            schedule: Schedule::default(),
            pool: Vec::new(),
            order: Order::default(),
            actors,
            status: [Status::Done; MAX_CPUS],
            pending: [(StepPoint::Start, 0); MAX_CPUS],
            late: [false; MAX_CPUS],
            current: None,
            steps: 0,
            progress: 0,
            ticks: 0,
            schedules: 0,
            longest: 0,
            real_frames: false,
            weak: None,
            unreported: 0,
        }
    }

    /// Begins a schedule, in which up to `ticks` interrupts may be raised.
    pub fn begin(&mut self, ticks: u32) {
        self.order.clear();
        self.schedule.clear();
        self.timeline.clear();
        self.status[..self.actors].fill(Status::Ready);
        self.pending = [(StepPoint::Start, 0); MAX_CPUS];
        (self.current, self.steps, self.ticks, self.unreported) = (None, 0, ticks, 0);
        self.progress = 0;
        self.late = [false; MAX_CPUS];
    }

    /// `cpu` has come to a step.
    pub fn arrive(&mut self, cpu: usize, point: StepPoint, object: u64) {
        self.pending[cpu] = (point, object);
        self.status[cpu] = Status::Ready;
    }

    /// `cpu` cannot go on, or is through.
    pub fn stop(&mut self, cpu: usize, status: Status) {
        self.status[cpu] = match status {
            Status::Waiting(_) => Status::Waiting(self.progress),
            other => other,
        };
        self.pending[cpu] = (StepPoint::Flag, cpu as u64);
    }

    /// The lock at `address` is free: whoever waits for it may try again.
    pub fn unlocked(&mut self, address: u64) {
        for status in &mut self.status[..self.actors] {
            if matches!(*status, Status::Blocked(at) | Status::BlockedForATime(at) if at == address)
            {
                *status = Status::Ready;
            }
        }
    }

    /// `cpu`, if it waits for a lock, is to look again.
    pub fn wake(&mut self, cpu: usize) {
        if let Status::Blocked(_) | Status::BlockedForATime(_) = self.status[cpu] {
            self.status[cpu] = Status::Ready;
        }
    }

    /// Whether the time of `cpu` was up; told once.
    pub fn is_late(&mut self, cpu: usize) -> bool {
        core::mem::take(&mut self.late[cpu])
    }

    /// Nobody can go on, so time passes: the first wait that is not for ever ends.
    fn let_time_pass(&mut self) {
        let waits = |status: &Status| matches!(status, Status::BlockedForATime(_));
        if let Some(cpu) = self.status[..self.actors].iter().position(waits) {
            self.status[cpu] = Status::Ready;
            self.late[cpu] = true;
        }
    }

    /// Whether the step at `point` on `object` is one that others could notice.
    pub fn matters(&self, point: StepPoint, object: u64) -> bool {
        use StepPoint::{PteCas, PteLoad, PteStore, PteSwap};
        match point {
            PteLoad | PteCas | PteStore | PteSwap => self.ghost.page_of(object).is_some(),
            _ => true,
        }
    }

    /// Decides who makes the next step, and counts it as made.
    ///
    /// # Errors
    /// Nobody can, or it has gone on for too long.
    pub fn next(&mut self) -> Result<Next, Broken> {
        let cpu = self.current.unwrap_or(0);
        let broken = |rule| Broken { rule, page: None, frame: None, cpu };
        if self.choices().is_empty() {
            self.let_time_pass();
        }
        let choices = self.choices();
        if choices.is_empty() {
            let all_done = self.status[..self.actors].iter().all(|s| *s == Status::Done);
            self.longest = self.longest.max(self.steps);
            return if all_done { Ok(Next::AllDone) } else { Err(broken(Rule::Deadlock)) };
        }
        if self.steps >= STEP_LIMIT {
            return Err(broken(Rule::NoProgress));
        }
        let state = if self.wants_state { self.order.state() } else { 0 };
        let decision = Decision { current: self.current, choices, state };
        let choice = self.strategy.choose(&decision);
        self.schedule.push(choice);
        self.made(choice);
        Ok(Next::Run(choice))
    }

    fn choices(&self) -> Choices {
        let ready = |cpu: &usize| match self.status[*cpu] {
            Status::Ready => true,
            Status::Waiting(known) => self.progress > known,
            Status::Blocked(_) | Status::BlockedForATime(_) | Status::Done => false,
        };
        let cpus = (0..self.actors).filter(ready);
        let choices = cpus.fold(Choices::NONE, |all, cpu| all.with(Choice::Cpu(cpu as u8)));
        match self.current {
            Some(cpu) if self.ticks > 0 && choices.contains(Choice::Cpu(cpu)) => {
                choices.with(Choice::Tick(cpu))
            }
            _ => choices,
        }
    }

    fn made(&mut self, choice: Choice) {
        let cpu = usize::from(choice.cpu());
        let (point, object) = self.pending[cpu];
        self.steps += 1;
        if !matches!(self.status[cpu], Status::Waiting(_)) {
            self.progress += 1;
        }
        self.current = Some(cpu as u8);
        if let Choice::Tick(_) = choice {
            self.ticks -= 1;
            if self.wants_state {
                self.order.step(cpu, Access { kind: u32::MAX, object: cpu as u64, writes: true });
            }
            self.timeline.push(Entry::Tick { cpu: cpu as u8 });
        }
        self.timeline.push(Entry::Step { cpu: cpu as u8, point, object });
        if self.wants_state {
            self.in_order(cpu, point, object);
        }
    }

    fn in_order(&mut self, cpu: usize, point: StepPoint, object: u64) {
        let kind = point as u32;
        if point == StepPoint::Tlbi {
            // A batch flushes more pages than the one it names.
            for page in self.ghost.pages() {
                self.order.step(cpu, Access { kind, object: page.get(), writes: true });
            }
            return;
        }
        // A descriptor and its page are one object.
        let object = match self.ghost.page_of(object) {
            Some(page) => page.get(),
            None if is_of_a_page(point) => VirtAddr::new(object).page_base().get(),
            None => object,
        };
        self.order.step(cpu, Access { kind, object, writes: point.writes() });
    }

    /// Takes a frame into the pool.
    pub fn own(&mut self, frame: Frame) {
        self.ghost.own(frame);
        self.pool.push(frame);
    }

    /// Every frame that an access could reach: the pool's, given out or not, and scratch.
    pub fn frames(&self) -> impl Iterator<Item = Frame> {
        self.ghost.frames()
    }

    /// The frames of the pool, for the end.
    pub fn into_frames(self) -> impl Iterator<Item = Frame> {
        self.pool.into_iter()
    }

    /// The watched page number `n`, with what TLBs may hold of it.
    pub fn watched(&self, n: usize) -> Option<(VirtAddr, View)> {
        self.ghost.watched(n)
    }

    /// Who waits for what, for the report of a deadlock.
    pub fn waiting(&self) -> impl Iterator<Item = (usize, Status)> {
        let stuck = |(_, status): &(usize, Status)| *status != Status::Done;
        self.status[..self.actors].iter().copied().enumerate().filter(stuck)
    }
}

fn is_of_a_page(point: StepPoint) -> bool {
    matches!(point, StepPoint::Access | StepPoint::AbortEntry | StepPoint::AbortExit)
}

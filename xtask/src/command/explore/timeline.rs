//! A schedule that lost, as a person reads it: one column a CPU, one row a step, beside it what
//! became of the slots and what TLBs may hold.

use super::log::{field, number};

/// What happened in a schedule, in order.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Timeline {
    /// What happened.
    pub events: Vec<Event>,
    /// Watched pages: page, address of its descriptor.
    pub slots: Vec<(u64, u64)>,
    /// The frame that stands in for what is not there.
    pub scratch: Option<u64>,
    /// The tables above each page.
    pub walks: Vec<Walk>,
    /// Events that found no room in the guest.
    pub lost: u64,
}

/// The way to a page's descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Walk {
    /// The page.
    pub page: u64,
    /// Physical address of the root table.
    pub root: u64,
    /// Entries of levels 0 to 2.
    pub entries: [u64; 3],
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// On which CPU.
    pub cpu: usize,
    /// Nanoseconds of the guest's clock; 0 where it was not asked for.
    pub at: u64,
    /// What.
    pub what: What,
}

/// The kinds of events.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// A step, on an object.
    Step(String, u64),
    /// An interrupt.
    Tick,
    /// A descriptor was changed, or a compare-and-swap on it was lost.
    Pte {
        /// The page, its entry before and behind.
        page: u64,
        /// Before.
        old: u64,
        /// Behind.
        new: u64,
        /// The same as the protocol means them.
        was_is: (String, String),
        /// What TLBs may hold then.
        tlb: Option<String>,
        /// It took place.
        done: bool,
    },
    /// A TLBI of a page; 0 for all.
    Tlbi(u64),
    /// A DSB ISH, or else ISHST.
    Dsb(bool),
    /// What TLBs may hold of a page now.
    View(u64, String),
    /// A frame was given out, or taken back.
    Frame(u64, bool),
    /// The CPU waits for a lock.
    Wait(u64),
    /// A delayed store or TLBI took effect.
    Drain(u64),
}

impl Timeline {
    /// Reads the `lab:` lines of a log, without that word. Lines that mean nothing here are left.
    pub fn read<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut timeline = Self::default();
        for line in lines {
            timeline.take(line);
        }
        timeline
    }

    fn take(&mut self, line: &str) -> Option<()> {
        let (kind, rest) = line.split_once(' ')?;
        let number = |key| number(rest, key);
        let text = |key| field(rest, key).map(str::to_string);
        let what = match kind {
            "scratch" => {
                self.scratch = Some(number("frame")?);
                return None;
            }
            "slot" => {
                self.slots.push((number("page")?, number("object")?));
                return None;
            }
            "walk" => {
                let entries = [number("l0")?, number("l1")?, number("l2")?];
                self.walks.push(Walk { page: number("page")?, root: number("root")?, entries });
                return None;
            }
            "step" => What::Step(text("what")?, number("object")?),
            "tick" => What::Tick,
            "pte" | "lost" => What::Pte {
                page: number("page")?,
                old: number("old")?,
                new: number("new")?,
                was_is: (text("was")?, text("is")?),
                tlb: text("tlb"),
                done: kind == "pte",
            },
            "tlbi" => What::Tlbi(number("page")?),
            "dsb" => What::Dsb(text("kind")? == "ish"),
            "view" => What::View(number("page")?, text("tlb")?),
            "frame" => What::Frame(number("frame")?, rest.contains(" out")),
            "wait" => What::Wait(number("lock")?),
            "drain" => What::Drain(number("object")?),
            _ => {
                let lost = rest.strip_suffix("more entries found no room");
                self.lost += lost.and(kind.parse().ok()).unwrap_or(0);
                return None;
            }
        };
        let (cpu, at) = (number("cpu")? as usize, number("at").unwrap_or(0));
        self.events.push(Event { cpu, at, what });
        Some(())
    }

    /// CPUs that did something.
    pub fn cpus(&self) -> usize {
        self.events.iter().map(|event| event.cpu + 1).max().unwrap_or(0)
    }

    /// The page that the descriptor at `object` decides about.
    pub fn page_of(&self, object: u64) -> Option<u64> {
        self.slots.iter().find(|(_, slot)| *slot == object).map(|(page, _)| *page)
    }
}

/// The physical address that a descriptor holds.
pub fn output_of(entry: u64) -> u64 {
    entry & 0x0000_ffff_ffff_f000
}

/// Short names for pages and frames, by which people tell them apart.
pub struct Names<'a> {
    timeline: &'a Timeline,
    frames: Vec<u64>,
    locks: Vec<u64>,
}

impl<'a> Names<'a> {
    /// The names of all that a timeline speaks of, in order.
    pub fn of(timeline: &'a Timeline) -> Self {
        let mut names = Self { timeline, frames: Vec::new(), locks: Vec::new() };
        for event in &timeline.events {
            match &event.what {
                What::Frame(frame, _) => names.meet(*frame),
                What::Pte { old, new, .. } => {
                    [old, new].into_iter().filter(|e| **e & 1 == 1).for_each(|entry| {
                        names.meet(output_of(*entry));
                    });
                }
                What::Step(what, object)
                    if matches!(what.as_str(), "lock" | "unlock")
                        && !names.locks.contains(object) =>
                {
                    names.locks.push(*object);
                }
                _ => {}
            }
        }
        names
    }

    fn meet(&mut self, frame: u64) {
        if self.timeline.scratch != Some(frame) && !self.frames.contains(&frame) {
            self.frames.push(frame);
        }
    }

    /// A frame's name.
    pub fn frame(&self, frame: u64) -> String {
        if self.timeline.scratch == Some(frame) {
            return "scratch".into();
        }
        let at = self.frames.iter().position(|known| *known == frame);
        at.map_or(format!("{frame:#x}"), |at| format!("F{at}"))
    }

    /// The name of the page at an address.
    pub fn page(&self, page: u64) -> String {
        let base = page & !0xfff;
        let at = self.timeline.slots.iter().position(|(known, _)| *known == base);
        at.map_or(format!("{page:#x}"), |at| format!("P{at}"))
    }

    /// A lock's name.
    pub fn lock(&self, lock: u64) -> String {
        let at = self.locks.iter().position(|known| *known == lock);
        at.map_or(format!("{lock:#x}"), |at| format!("L{at}"))
    }

    /// An entry: the frame that it maps, or what it means.
    pub fn entry(&self, entry: u64, means: &str) -> String {
        if entry & 1 == 1 { self.frame(output_of(entry)) } else { means.to_string() }
    }

    /// What TLBs may hold, `clean`, `valid(0x..)` or `stale(0x..)`.
    pub fn view(&self, view: &str) -> String {
        let inner = view.strip_suffix(')').and_then(|view| view.split_once("(0x"));
        let inner = inner.and_then(|(kind, hex)| Some((kind, u64::from_str_radix(hex, 16).ok()?)));
        match inner {
            Some(("stale", frame)) => format!("stale {}", self.frame(frame)),
            Some((_, frame)) => self.frame(frame),
            None => view.to_string(),
        }
    }

    /// A step's name with that of its object.
    pub fn step(&self, what: &str, object: u64) -> String {
        let object = match what {
            "lock" | "unlock" => self.lock(object),
            "frame-zero" | "frame-free" => self.frame(object),
            _ => match self.timeline.page_of(object) {
                Some(page) => self.page(page),
                None => Some(self.page(object)).filter(|n| n.starts_with('P')).unwrap_or_default(),
            },
        };
        format!("{what} {object}").trim_end().to_string()
    }

    /// What the names stand for.
    fn legend(&self) -> String {
        let mut all = Vec::new();
        for (index, (page, slot)) in self.timeline.slots.iter().enumerate() {
            all.push(format!("P{index} = page {page:#x}, its slot {slot:#x}"));
        }
        if let Some(scratch) = self.timeline.scratch {
            all.push(format!("scratch = frame {scratch:#x}"));
        }
        let named = |letter: char, what: &'static str, numbers: &[u64]| {
            let numbers = numbers.iter().enumerate();
            numbers.map(move |(at, n)| format!("{letter}{at} = {what} {n:#x}")).collect::<Vec<_>>()
        };
        all.extend(named('F', "frame", &self.frames));
        all.extend(named('L', "lock", &self.locks));
        all.iter().map(|line| format!("  {line}\n")).collect()
    }
}

/// A row: who does what, and what becomes of it.
struct Row {
    cpu: usize,
    step: String,
    slot: Vec<String>,
    tlb: Vec<String>,
}

/// Rows at the beginning and at the end that are shown: a schedule that never ends has thousands.
const SHOWN: (usize, usize) = (100, 60);

/// The whole as text; of a long one the beginning and the end.
pub fn render(timeline: &Timeline) -> String {
    let names = Names::of(timeline);
    let rows = rows(timeline, &names);
    let cpus = timeline.cpus();
    let width =
        |texts: &mut dyn Iterator<Item = usize>, least: usize| texts.fold(least, usize::max);
    let widths: Vec<usize> = (0..cpus)
        .map(|cpu| {
            let mut of_cpu = rows.iter().filter(|row| row.cpu == cpu).map(|row| row.step.len());
            width(&mut of_cpu, 4)
        })
        .collect();
    let slots: Vec<String> = rows.iter().map(|row| row.slot.join(", ")).collect();
    let slot_width = width(&mut slots.iter().map(|slot| slot.chars().count()), 4);
    let heads: Vec<String> = widths
        .iter()
        .enumerate()
        .map(|(cpu, width)| format!("{:<width$}", format!("cpu{cpu}")))
        .collect();
    let mut text = format!("step  {}  {:<slot_width$}  TLBs\n", heads.join("  "), "slot");
    let hidden = SHOWN.0..rows.len().saturating_sub(SHOWN.1);
    for (number, (row, slot)) in rows.iter().zip(&slots).enumerate() {
        if hidden.contains(&number) {
            if number == hidden.start {
                text += &format!(" ...  {} steps more\n", hidden.len());
            }
            continue;
        }
        let number = number + 1;
        let cells = widths.iter().enumerate().map(|(cpu, width)| {
            let cell = if cpu == row.cpu { row.step.as_str() } else { "" };
            format!("{cell:<width$}")
        });
        let cells = cells.collect::<Vec<_>>().join("  ");
        let line = format!("{number:>4}  {cells}  {slot:<slot_width$}  {}", row.tlb.join(", "));
        text += &format!("{}\n", line.trim_end());
    }
    if timeline.lost > 0 {
        text += &format!("{} more entries found no room in the guest\n", timeline.lost);
    }
    text + &names.legend()
}

fn rows(timeline: &Timeline, names: &Names<'_>) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for Event { cpu, what, .. } in &timeline.events {
        let begins = matches!(what, What::Step(..) | What::Tick | What::Wait(_));
        if begins || rows.last().is_none_or(|row| row.cpu != *cpu) {
            let step = match what {
                What::Step(what, object) => names.step(what, *object),
                What::Tick => "INTERRUPT".into(),
                What::Wait(lock) => format!("waits for {}", names.lock(*lock)),
                _ => String::new(),
            };
            rows.push(Row { cpu: *cpu, step, slot: Vec::new(), tlb: Vec::new() });
        }
        if let Some(row) = rows.last_mut() {
            row.note(what, names);
        }
    }
    rows
}

impl Row {
    fn note(&mut self, what: &What, names: &Names<'_>) {
        match what {
            What::Step(..) | What::Tick | What::Wait(_) => {}
            What::Pte { page, old, new, was_is: (was, is), tlb, done } => {
                let (page, was) = (names.page(*page), names.entry(*old, was));
                self.slot.push(match done {
                    true => format!("{page}: {was} -> {}", names.entry(*new, is)),
                    false => format!("{page}: lost, found {was}"),
                });
                self.tlb.extend(tlb.iter().map(|view| format!("{page}: {}", names.view(view))));
            }
            What::Tlbi(0) => self.tlb.push("TLBI all".into()),
            What::Tlbi(page) => self.tlb.push(format!("TLBI {}", names.page(*page))),
            What::Dsb(full) => self.tlb.push(if *full { "DSB ISH" } else { "DSB ISHST" }.into()),
            What::View(page, view) => {
                self.tlb.push(format!("{}: {}", names.page(*page), names.view(view)));
            }
            What::Frame(frame, true) => self.slot.push(format!("gets {}", names.frame(*frame))),
            What::Frame(frame, false) => self.slot.push(format!("frees {}", names.frame(*frame))),
            What::Drain(object) => self.tlb.push(format!("drains {}", names.step("", *object))),
        }
    }
}

#[cfg(test)]
pub mod tests;

//! A schedule as the public break-before-make checker casemate reads it: one record a line.
//!
//! Its vocabulary has tables, entries, barriers, TLBIs, registers and locks, not frames, accesses or
//! interrupts, which are left out. It takes entries of watched pages and the tables above them for
//! the whole of the tree. Registers and TLBIs are those of EL1; casemate 3 knows EL2 only, for which
//! [`Level::El2`] renames them. The abort handler installs without the lock of the tree, so the
//! checker wants `--racy`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::timeline::{Event, Timeline, What};

/// Under which names registers and TLBIs go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// As they were executed.
    El1,
    /// As casemate knows them.
    El2,
}

/// Tables of 512 entries.
const TABLE: u64 = 4096;
/// Address bits of a translation by a 48-bit half.
const ADDRESS: u64 = 0x0000_ffff_ffff_ffff;

struct Writer {
    level: Level,
    text: String,
    number: usize,
}

/// The whole as text. The order of records is that of events.
pub fn casemate(timeline: &Timeline, level: Level) -> String {
    let mut writer = Writer { level, text: String::new(), number: 0 };
    writer.begin(timeline);
    for (number, event) in timeline.events.iter().enumerate() {
        writer.event(timeline, number, event);
    }
    if timeline.lost > 0 {
        // No record: the checker would take what is missing for what was not done.
        let _ = writeln!(writer.text, "# {} events found no room", timeline.lost);
    }
    writer.text
}

impl Writer {
    /// A record: kind, fields, and where in our own source it is from.
    fn put(&mut self, cpu: usize, kind: &str, fields: &str) {
        let number = self.number;
        self.number += 1;
        let record = format!("({kind} (id {number}) (tid {cpu}) {fields} (src \"lab:{number}\"))");
        let _ = writeln!(self.text, "{record}");
    }

    fn register(&mut self, name: &str, value: u64) {
        let el = if self.level == Level::El1 { "el1" } else { "el2" };
        self.put(0, "sysreg-write", &format!("(sysreg {name}_{el}) (value {value:#x})"));
    }

    fn write(&mut self, cpu: usize, order: &str, address: u64, value: u64) {
        let fields = format!("(mem-order {order}) (address {address:#x}) (value {value:#x})");
        self.put(cpu, "mem-write", &fields);
    }

    /// The tree as it is when the schedule begins: tables empty, filled, then put to use.
    fn begin(&mut self, timeline: &Timeline) {
        let Some(first) = timeline.walks.first() else { return };
        // The kernel's half is TTBR1's; casemate's one root at EL2 is TTBR0's.
        let root = if self.level == Level::El1 { "ttbr1" } else { "ttbr0" };
        for (name, value) in [("tcr", 0x10), ("mair", 0), ("sctlr", 0)] {
            self.register(name, value);
        }
        let (tables, entries) = tables(timeline);
        for table in &tables {
            self.put(0, "mem-init", &format!("(address {table:#x}) (size {TABLE:#x})"));
        }
        let lock = lock_of(timeline) & ADDRESS;
        let lock = format!("(kind set_root_lock) (location {:#x}) (value {:#x})", first.root, lock);
        self.put(0, "hint", &lock);
        for table in tables.iter().filter(|table| **table != first.root) {
            let owner =
                format!("(kind set_owner_root) (location {table:#x}) (value {:#x})", first.root);
            self.put(0, "hint", &owner);
        }
        entries.iter().for_each(|(address, value)| self.write(0, "release", *address, *value));
        self.put(0, "barrier", "dsb (kind ish)");
        self.register(root, first.root);
        self.register("sctlr", 1);
    }

    fn event(&mut self, timeline: &Timeline, number: usize, event: &Event) {
        let cpu = event.cpu;
        match &event.what {
            What::Pte { page, old, new, done, .. } => {
                let slot = timeline.slots.iter().find(|(known, _)| known == page);
                let Some(slot) = slot.map(|(_, slot)| slot & ADDRESS) else { return };
                if *done {
                    self.write(cpu, order_of(timeline, number), slot, *new);
                } else {
                    self.put(cpu, "mem-read", &format!("(address {slot:#x}) (value {old:#x})"));
                }
            }
            What::Tlbi(page) => self.tlbi(cpu, *page),
            What::Dsb(full) => {
                let kind = if *full { "ish" } else { "ishst" };
                self.put(cpu, "barrier", &format!("dsb (kind {kind})"));
            }
            What::Step(what, lock) if what == "unlock" => {
                self.put(cpu, "unlock", &format!("(address {:#x})", lock & ADDRESS));
            }
            What::Step(..) => {
                if let Some(lock) = acquired(timeline, number) {
                    self.put(cpu, "lock", &format!("(address {:#x})", lock & ADDRESS));
                }
            }
            _ => {}
        }
    }

    fn tlbi(&mut self, cpu: usize, page: u64) {
        let (all, one) = match self.level {
            Level::El1 => ("vmalle1is", "vaale1is"),
            Level::El2 => ("alle2is", "vale2is"),
        };
        match page {
            0 => self.put(cpu, "tlbi", all),
            page => {
                let operand = (page & ADDRESS) >> 12;
                self.put(cpu, "tlbi", &format!("{one} (value {operand:#x})"));
            }
        }
    }
}

/// The tables on the way to every page, root first, and their entries by address.
fn tables(timeline: &Timeline) -> (Vec<u64>, BTreeMap<u64, u64>) {
    let (mut tables, mut entries) = (Vec::new(), BTreeMap::new());
    for walk in &timeline.walks {
        let mut table = walk.root;
        for (level, entry) in walk.entries.iter().enumerate() {
            let index = walk.page >> (39 - 9 * level) & 0x1ff;
            entries.insert(table + index * 8, *entry);
            if !tables.contains(&table) {
                tables.push(table);
            }
            table = entry & 0x0000_ffff_ffff_f000;
        }
        if !tables.contains(&table) {
            tables.push(table);
        }
    }
    (tables, entries)
}

/// A compare-and-swap or an exchange is a release; only a plain store is plain.
fn order_of(timeline: &Timeline, number: usize) -> &'static str {
    let cpu = timeline.events[number].cpu;
    let mut before = timeline.events[..number].iter().rev().filter(|event| event.cpu == cpu);
    let is_plain = before.find_map(|event| match &event.what {
        What::Step(what, _) => Some(what == "pte-store"),
        _ => None,
    });
    if is_plain == Some(true) { "plain" } else { "release" }
}

/// The lock that the step takes: one that it does not wait for right behind, or the one that it has
/// waited for.
fn acquired(timeline: &Timeline, number: usize) -> Option<u64> {
    let (before, behind) = timeline.events.split_at(number);
    let (step, behind) = behind.split_first()?;
    let of_cpu = |event: &&Event| event.cpu == step.cpu;
    let wanted = match (&step.what, before.iter().rev().find(of_cpu).map(|event| &event.what)) {
        (What::Step(what, lock), _) if what == "lock" => *lock,
        (_, Some(What::Wait(lock))) => *lock,
        _ => return None,
    };
    let waits = behind.iter().find(of_cpu).is_some_and(|next| matches!(next.what, What::Wait(_)));
    (!waits).then_some(wanted)
}

/// The first lock that is taken: the tree's, as far as there is one.
fn lock_of(timeline: &Timeline) -> u64 {
    let numbers = 0..timeline.events.len();
    numbers.filter_map(|number| acquired(timeline, number)).next().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::timeline::tests::timeline;
    use super::*;

    fn records(level: Level) -> Vec<String> {
        casemate(&timeline(), level).lines().map(str::to_string).collect()
    }

    #[test]
    fn the_tree_is_made_and_put_to_use_before_anything_happens_to_it() {
        let records = records(Level::El1);
        let at = |what: &str| records.iter().position(|record| record.contains(what)).unwrap();
        assert!(at("sctlr_el1) (value 0x0)") < at("mem-init"));
        // 0xffff800100003000 has index 0x100 in the root.
        assert!(at("mem-init") < at("(address 0x40090800) (value 0x41328003)"));
        assert!(at("(address 0x40090800)") < at("ttbr1_el1) (value 0x40090000)"));
        assert!(at("ttbr1_el1") < at("sctlr_el1) (value 0x1)"));
        assert!(at("sctlr_el1) (value 0x1)") < at("(address 0x4132a018) (value 0x6000004132c703)"));
    }

    #[test]
    fn writes_maintenance_and_locks_are_records_of_their_cpu_in_order() {
        let all = records(Level::El1);
        let begin = all.iter().position(|record| record.contains("(value 0x1)")).unwrap();
        let expected = [
            "(lock (tid 0) (address 0x41000000))",
            "(mem-write (tid 1) (mem-order release) (address 0x4132a018) (value 0x6000004132c703))",
            "(barrier (tid 1) dsb (kind ishst))",
            "(mem-read (tid 0) (address 0x4132a018) (value 0x6000004132c703))",
            "(tlbi (tid 0) vaale1is (value 0x800100003))",
            "(barrier (tid 0) dsb (kind ish))",
            "# 5 events found no room",
        ];
        let bare = |record: &String| {
            let start = record.find(" (id").unwrap_or(record.len());
            let behind = record.find("(tid").unwrap_or(record.len());
            let end = record.find(" (src").unwrap_or(record.len());
            match behind < end {
                true => format!("{} {})", &record[..start], &record[behind..end]),
                false => record.clone(),
            }
        };
        let bare: Vec<_> = all[begin + 1..].iter().map(bare).collect();
        assert_eq!(bare, expected);
    }

    #[test]
    fn a_plain_store_is_told_from_a_compare_and_swap_and_el2_from_el1() {
        let lines = super::super::timeline::tests::LINES.join("\n").replace("pte-cas", "pte-store");
        let text = casemate(&Timeline::read(lines.lines()), Level::El2);
        assert!(text.contains("(mem-order plain) (address 0x4132a018)"), "{text}");
        assert!(text.contains("ttbr0_el2") && text.contains("tlbi") && !text.contains("el1"));
        assert!(text.contains("vale2is") && !text.contains("e1is"), "{text}");
        assert!(text.lines().all(|line| line.len() < 256 && !line.starts_with('!')));
    }
}

//! Every barrier, every maintenance of TLBs and instruction caches, and every ordering of the kernel has a
//! reason: a row in `kernel/litmus/ORDERING.md` that says what fails without it. And every row has its
//! place in the source.

mod page;
mod source;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

use self::page::Row;
use self::source::Place;
use crate::command::litmus::expect::{self, Expected};

/// The page.
const PAGE: &str = "kernel/litmus/ORDERING.md";

/// Places without a row, rows without a place, rows whose reason is none, and kinds of reasons that the
/// page does not explain.
///
/// # Errors
/// A file cannot be read.
pub fn breaches() -> Result<Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has a parent")?;
    let places = source::places(root)?;
    let page = std::fs::read_to_string(root.join(PAGE)).context(PAGE)?;
    let mut found = compare(&places, &page::rows(&page), &expect::all()?);
    let unexplained = page::unexplained(&page).into_iter();
    found.extend(unexplained.map(|kind| format!("{PAGE}: it does not explain {kind}")));
    Ok(found)
}

fn compare(places: &BTreeMap<Place, usize>, rows: &[Row], tests: &[Expected]) -> Vec<String> {
    let mut found = Vec::new();
    for (place, count) in places {
        let (file, function, what) = place;
        let of_place: Vec<_> = rows.iter().filter(|row| row.place == *place).collect();
        match *of_place {
            [] => found.push(format!("{file}: {what} in {function} has no reason in {PAGE}")),
            [row] if row.times != *count => found.push(format!(
                "{file}: {what} in {function} is there {count} times, {PAGE} says {}",
                row.times
            )),
            [_] => {}
            _ => found.push(format!("{PAGE}: {file} {function} has more than one row for {what}")),
        }
    }
    for Row { place, why, .. } in rows {
        let (file, function, what) = place;
        if !places.contains_key(place) {
            found.push(format!(
                "{PAGE}: {file} {function} has no {what}: a reason without a barrier"
            ));
        }
        let bad = page::bad_reason(what, why, tests);
        found.extend(bad.map(|bad| format!("{PAGE}: {file} {function} {what}: {bad}")));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "fn publish<H: Hw>(hw: &H) {\n    // hw.isb() is a comment\n    hw.dsb_ishst();\n    \
        hw.isb();\n}\nfn take() { x.swap(0, Ordering::AcqRel); }\nmod tests {\n hw.isb();\n";
    const TIMER: &str = "fn stop_tick() {\n    CNTV_CTL_EL0.set(0);\n    barrier::isb();\n}\n";
    const HEAD: &str = "boot_enable_mmu:\n    tlbi    vmalle1\n    dsb     nsh\n";

    const PAGE: &str = "| file | function | what | times | fails without it |\n| --- | --- | --- | --- | --- |\n\
        | slot.rs | publish | dsb_ishst | 1 | `L1` |\n| slot.rs | publish | isb | 1 | `L3` |\n\
        | slot.rs | take | AcqRel | 1 | MP: the next owner reads old words |\n\
        | kernel/src/timer.rs | stop_tick | isb | 1 | SYS: a tick comes late |\n\
        | boot/src/head.S | boot_enable_mmu | tlbi vmalle1 | 1 | TLB: a reset leaves anything there |\n\
        | boot/src/head.S | boot_enable_mmu | dsb nsh | 1 | TLB: it is not over |\n";

    fn told(page: &str) -> Vec<String> {
        let mut places = BTreeMap::new();
        for (file, text) in
            [("slot.rs", SOURCE), ("kernel/src/timer.rs", TIMER), ("boot/src/head.S", HEAD)]
        {
            for place in source::in_file(file, text) {
                *places.entry(place).or_insert(0) += 1;
            }
        }
        compare(&places, &page::rows(page), &expect::all().unwrap())
    }

    fn first(page: &str) -> String {
        told(page).into_iter().next().unwrap_or_default()
    }

    #[test]
    fn barriers_and_reasons_belong_together() {
        assert_eq!(told(PAGE), [""; 0]);
        let twice = first(&PAGE.replace("publish | isb | 1", "publish | isb | 2"));
        assert!(twice.contains("is there 1 times"), "{twice}");
        let again = first(&format!("{PAGE}| slot.rs | publish | isb | 1 | `L3` |\n"));
        assert!(again.contains("more than one row for isb"), "{again}");
    }

    #[test]
    fn a_barrier_without_a_reason_is_an_error() {
        for (row, whose) in [
            ("slot.rs | publish | isb", "slot.rs: isb in publish"),
            ("kernel/src/timer.rs | stop_tick", "kernel/src/timer.rs: isb in stop_tick"),
            ("head.S | boot_enable_mmu | dsb nsh", "boot/src/head.S: dsb nsh in boot_enable_mmu"),
        ] {
            let without: Vec<_> = PAGE.lines().filter(|line| !line.contains(row)).collect();
            let bad = first(&without.join("\n"));
            assert!(bad.starts_with(&format!("{whose} has no reason")), "{bad}");
        }
    }

    #[test]
    fn a_reason_without_a_barrier_is_an_error() {
        for row in [
            "slot.rs | flush | isb | 1 | `L6`",
            "kernel/src/timer.rs | start_tick | isb | 1 | SYS: a tick comes late",
            "boot/src/head.S | boot_enable_mmu | isb | 1 | SYS: the MMU is not on",
        ] {
            let bad = first(&format!("{PAGE}| {row} |\n"));
            assert!(bad.contains("a reason without a barrier"), "{bad}");
        }
    }

    #[test]
    fn a_reason_names_what_fails() {
        for (good, reason, bad) in [
            ("`L3`", "`L7`", "shows nothing that fails"),
            ("`L3`", "`X9`", "there is no litmus test X9"),
            ("`L3`", "it is better so", "no kind of reason is named"),
            ("SYS: a tick", "SLOW: a tick", "no kind of reason is named"),
            ("SYS: a tick", "EVENT: a tick", "EVENT is no reason for this"),
            ("SYS: a tick", "MP: a tick", "MP is a reason for an ordering"),
            ("MP: the next", "SYS: the next", "SYS is no reason for this"),
        ] {
            let told = first(&PAGE.replace(good, reason));
            assert!(told.contains(bad), "{reason}: {told}");
        }
    }

    #[test]
    fn kinds_of_reasons_are_explained() {
        let page = std::fs::read_to_string(expect::folder().unwrap().join("ORDERING.md")).unwrap();
        assert_eq!(page::unexplained(&page), [""; 0]);
        assert_eq!(page::unexplained(&page.replace("\n| SYS |", "\n")), ["SYS"]);
    }

    #[test]
    fn every_barrier_of_the_kernel_has_its_reason() {
        assert_eq!(breaches().unwrap(), [""; 0]);
    }
}

//! Every barrier, every TLB maintenance and every ordering of the protocols has a reason: a row in
//! `kernel/litmus/ORDERING.md` that names what fails without it. And every row has its place in the source.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command::litmus::expect::{self, Expected, Flag, Observed};

/// The page.
const PAGE: &str = "kernel/litmus/ORDERING.md";
/// The sources that it speaks for.
const SOURCES: &str = "kernel/arena/src";
/// What needs a reason, as the source writes it.
const CALLS: [&str; 5] =
    [".dsb_ishst()", ".dsb_ish()", ".isb()", ".tlbi_vaale1is(", ".tlbi_vmalle1is("];
const ORDERINGS: [&str; 4] =
    ["Ordering::Acquire", "Ordering::Release", "Ordering::AcqRel", "Ordering::SeqCst"];
/// Shapes of the language's own memory model, for what a litmus test of page tables does not say.
const SHAPES: [&str; 5] = ["MP", "LB", "S", "SB", "CoRR"];

/// A place in the source: file, function, what stands there.
type Place = (String, String, String);

/// Places without a row, rows without a place, and rows whose reason is none.
///
/// # Errors
/// A file cannot be read.
pub fn breaches() -> Result<Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has a parent")?;
    let mut places = BTreeMap::new();
    let sources = root.join(SOURCES);
    for file in rust_files(&sources)? {
        let text = std::fs::read_to_string(&file)?;
        let name = file.strip_prefix(&sources)?.display().to_string();
        for place in in_source(&name, &text) {
            *places.entry(place).or_insert(0) += 1;
        }
    }
    let page = std::fs::read_to_string(root.join(PAGE)).context(PAGE)?;
    Ok(compare(&places, &rows(&page), &expect::all()?))
}

fn compare(
    places: &BTreeMap<Place, usize>,
    rows: &[(Place, usize, String)],
    tests: &[Expected],
) -> Vec<String> {
    let mut found = Vec::new();
    for ((file, function, what), count) in places {
        let row = rows.iter().find(|row| (&row.0.0, &row.0.1, &row.0.2) == (file, function, what));
        match row {
            None => found
                .push(format!("{SOURCES}/{file}: {what} in {function} has no reason in {PAGE}")),
            Some((_, told, _)) if told != count => found.push(format!(
                "{SOURCES}/{file}: {what} in {function} is there {count} times, {PAGE} says {told}"
            )),
            Some(_) => {}
        }
    }
    for (place, _, why) in rows {
        let (file, function, what) = place;
        if !places.contains_key(place) {
            found.push(format!(
                "{PAGE}: {file} {function} has no {what}: a reason without a barrier"
            ));
        }
        found.extend(
            bad_reason(why, tests).map(|bad| format!("{PAGE}: {file} {function} {what}: {bad}")),
        );
    }
    found
}

/// A reason names litmus tests in backquotes, all of which must show something bad, or begins with a shape.
fn bad_reason(why: &str, tests: &[Expected]) -> Option<String> {
    let mut named = 0;
    for name in why.split('`').skip(1).step_by(2) {
        // By the part before the first hyphen, as comments in the source name them.
        let test = tests.iter().find(|test| test.name.split('-').next() == Some(name));
        let Some(test) = test else { return Some(format!("there is no litmus test {name}")) };
        if test.verdict.observed == Observed::Never && test.verdict.flag == Flag::None {
            return Some(format!("{name} shows nothing that fails: {}", test.why));
        }
        named += 1;
    }
    let shape = why.split([':', ' ']).next().unwrap_or_default();
    (named == 0 && !SHAPES.contains(&shape)).then(|| "no litmus test and no shape is named".into())
}

/// The rows of the page: `| file | function | what | times | fails without it |`.
fn rows(page: &str) -> Vec<(Place, usize, String)> {
    let cells = page.lines().filter_map(|line| {
        let line = line.strip_prefix("| ")?.strip_suffix(" |")?;
        let cells: Vec<_> = line.splitn(5, " | ").map(str::to_string).collect();
        let [file, function, what, times, why] = <[String; 5]>::try_from(cells).ok()?;
        Some(((file, function, what), times.parse().ok()?, why))
    });
    cells.collect()
}

/// What needs a reason in one file, tests aside.
fn in_source(file: &str, text: &str) -> Vec<Place> {
    let mut function = "-".to_string();
    let mut found = Vec::new();
    for line in text.lines() {
        let code = line.trim_start();
        if code.starts_with("mod tests {") {
            break;
        }
        if code.starts_with("//") {
            continue;
        }
        if let Some((_, rest)) = code.split_once("fn ")
            && let Some(name) = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()
            && rest[name.len()..].starts_with(['(', '<'])
        {
            function = name.to_string();
        }
        for call in CALLS {
            let name = call.trim_matches(['.', '(', ')']);
            found.extend(code.matches(call).map(|_| name.to_string()));
        }
        for ordering in ORDERINGS {
            let name = ordering.trim_start_matches("Ordering::");
            found.extend(code.matches(ordering).map(|_| name.to_string()));
        }
        // What was found on this line still lacks its function.
        found.iter_mut().for_each(|what: &mut String| {
            if !what.contains('\t') {
                *what = format!("{function}\t{what}");
            }
        });
    }
    let place = |found: String| {
        let (function, what) = found.split_once('\t')?;
        Some((file.to_string(), function.to_string(), what.to_string()))
    };
    found.into_iter().filter_map(place).collect()
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "test" {
                files.extend(rust_files(&path)?);
            }
        } else if name.ends_with(".rs")
            && !["test.rs", "tests.rs", "model.rs"].contains(&name.as_str())
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "fn publish<H: Hw>(hw: &H) {\n    // hw.isb() is a comment\n    hw.dsb_ishst();\n    \
        hw.isb();\n}\nfn take() { x.swap(0, Ordering::AcqRel); }\nmod tests {\n hw.isb();\n";

    fn places() -> BTreeMap<Place, usize> {
        let mut places = BTreeMap::new();
        for place in in_source("slot.rs", SOURCE) {
            *places.entry(place).or_insert(0) += 1;
        }
        places
    }

    const PAGE: &str = "| file | function | what | times | fails without it |\n| --- | --- | --- | --- | --- |\n\
        | slot.rs | publish | dsb_ishst | 1 | `L1` |\n| slot.rs | publish | isb | 1 | `L3` |\n\
        | slot.rs | take | AcqRel | 1 | MP: the next owner reads old words |\n";

    fn told(page: &str) -> Vec<String> {
        compare(&places(), &rows(page), &expect::all().unwrap())
    }

    #[test]
    fn barriers_and_reasons_belong_together() {
        assert_eq!(told(PAGE), [""; 0]);
        let without = PAGE.replace("| slot.rs | publish | isb | 1 | `L3` |\n", "");
        assert!(told(&without)[0].contains("isb in publish has no reason"), "{:?}", told(&without));
        let more = format!("{PAGE}| slot.rs | flush | isb | 1 | `L6` |\n");
        assert!(told(&more)[0].contains("a reason without a barrier"), "{:?}", told(&more));
        let twice = PAGE.replace("isb | 1", "isb | 2");
        assert!(told(&twice)[0].contains("is there 1 times"), "{:?}", told(&twice));
    }

    #[test]
    fn a_reason_names_what_fails() {
        for (reason, bad) in [
            ("`L7`", "shows nothing that fails"),
            ("`X9`", "there is no litmus test X9"),
            ("it is better so", "no litmus test and no shape is named"),
        ] {
            let page = PAGE.replace("`L3`", reason);
            assert!(told(&page)[0].contains(bad), "{:?}", told(&page));
        }
    }

    #[test]
    fn every_barrier_of_the_protocols_has_its_reason() {
        assert_eq!(breaches().unwrap(), [""; 0]);
    }
}

//! What the kernel image says it can run, read from its ELF without booting it.

use std::path::Path;

use anyhow::{Context, Result, bail};
use ktap::item::Item;
use object::{Object, ObjectSection, ObjectSegment};

use crate::machine::nearest;

/// Name of the section that holds the records.
const SECTION: &str = ".faultline.items";

/// Reads the list of items of the kernel at `elf`, in the order of their names.
///
/// # Errors
/// The file is no kernel of ours, or is truncated.
pub fn read(elf: &Path) -> Result<Vec<Item>> {
    let data = std::fs::read(elf).with_context(|| format!("{} cannot be read", elf.display()))?;
    let mut items = decode(&data).with_context(|| format!("{} lists no tests", elf.display()))?;
    items.sort_by(|a, b| (&a.suite, &a.name).cmp(&(&b.suite, &b.name)));
    Ok(items)
}

/// The items that `names` select: a name selects itself and every `NAME.case`.
///
/// # Errors
/// A name that selects nothing, with the nearest that would.
pub fn select<'a>(items: &'a [Item], names: &[String]) -> Result<Vec<&'a Item>> {
    let mut selected = Vec::new();
    for name in names {
        let prefix = format!("{name}.");
        let mut of_name = items
            .iter()
            .filter(|item| item.name == *name || item.name.starts_with(&prefix))
            .peekable();
        if of_name.peek().is_none() {
            let known = items.iter().map(|item| item.name.as_str());
            let hint = nearest(name, known)
                .map_or(String::new(), |name| format!("; did you mean {name}?"));
            bail!(
                "no scenario or test is called {name}{hint} (`cargo xtask qemu --list` lists them)"
            );
        }
        for item in of_name {
            // `edge edge.low` names one of them twice, and means it once.
            if !selected.contains(&item) {
                selected.push(item);
            }
        }
    }
    Ok(selected)
}

fn decode(data: &[u8]) -> Result<Vec<Item>> {
    let file = object::File::parse(data)?;
    let section = file.section_by_name(SECTION).context("it has no section for them")?;
    let records = section.data()?;
    let read = |address: u64, length: usize| -> Option<&[u8]> {
        file.segments().find_map(|segment| {
            let offset = usize::try_from(address.checked_sub(segment.address())?).ok()?;
            segment.data().ok()?.get(offset..offset.checked_add(length)?)
        })
    };
    Ok(ktap::item::decode(records, read)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ktap::item::Expect;

    fn item(name: &str) -> Item {
        Item {
            name: name.into(),
            suite: "scenario".into(),
            about: String::new(),
            expect: Expect::Pass,
            variants: Vec::new(),
            min_cpus: 1,
            timeout_ms: 0,
            explored: false,
        }
    }

    #[test]
    fn a_name_selects_its_cases_and_no_other_prefix() {
        let items = ["edge", "edge.low", "edges"].map(item);
        let names = |wanted: &str| {
            select(&items, &[wanted.to_string()])
                .map(|items| items.iter().map(|item| item.name.clone()).collect::<Vec<_>>())
        };
        assert_eq!(names("edge").unwrap(), ["edge", "edge.low"]);
        assert_eq!(names("edge.low").unwrap(), ["edge.low"]);
        let twice = select(&items, &["edge.low", "edge", "edge.low"].map(String::from)).unwrap();
        let twice: Vec<_> = twice.iter().map(|item| item.name.as_str()).collect();
        assert_eq!(twice, ["edge.low", "edge"]);
        let error = names("egde").unwrap_err().to_string();
        assert!(error.contains("egde") && error.contains("did you mean edge"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_kernel_is_refused() {
        assert!(decode(b"hello").is_err());
    }
}

//! What needs a reason, as the sources write it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

/// What the page speaks for.
const SOURCES: [&str; 3] = ["kernel/arena/src", "kernel/src", "boot/src"];
/// The page says files of this folder by their names in it, all others by their paths.
const BARE: &str = "kernel/arena/src";

/// Files and folders without a reason, and why.
const LEFT_OUT: [(&str, &str); 14] = [
    ("kernel/src/test", "tests rely on what they test"),
    ("kernel/src/bench", "counts, and publishes nothing"),
    (
        "kernel/src/lab/engine",
        "only with the feature `lab`: takes turns for the actors of a scenario",
    ),
    ("kernel/src/lab/explore.rs", "only with the feature `lab`"),
    ("kernel/src/lab/race.rs", "only with the feature `lab`"),
    ("kernel/src/lab/scenario", "only with the feature `lab`"),
    ("kernel/src/lab/variant", "only with the feature `lab`: broken on purpose"),
    ("kernel/src/mem/machine/lab.rs", "only with the feature `lab`: plays the machine's delays"),
    ("kernel/src/arch/barrier.rs", "gives instructions their names"),
    ("kernel/src/arch/tlb.rs", "gives instructions their names"),
    ("kernel/src/arch/atomic.rs", "gives instructions the ordering that the caller asks for"),
    ("kernel/src/mem/machine.rs", "gives the instructions to the protocols"),
    ("kernel/src/mem/machine/lse.rs", "gives the instructions to the protocols"),
    ("kernel/src/task/user.S", "programs of tasks"),
];

/// Orderings of the language that need a reason.
pub const ORDERINGS: [&str; 4] = ["Acquire", "Release", "AcqRel", "SeqCst"];

/// A place in the source: file, function (or label, or macro), what stands there.
pub type Place = (String, String, String);

/// All places, and how often what stands there stands there.
///
/// # Errors
/// A file cannot be read, or one that is left out is not there.
pub fn places(root: &Path) -> Result<BTreeMap<Place, usize>> {
    for (path, _) in LEFT_OUT {
        ensure!(root.join(path).exists(), "{path} is left out and is not there");
    }
    let mut places = BTreeMap::new();
    for source in SOURCES {
        for file in files(root, &root.join(source))? {
            let text = std::fs::read_to_string(&file)?;
            let path = file.strip_prefix(root)?;
            let name = path.strip_prefix(BARE).unwrap_or(path).display().to_string();
            for place in in_file(&name, &text) {
                *places.entry(place).or_insert(0) += 1;
            }
        }
    }
    Ok(places)
}

/// The sources in a folder and below, tests aside.
fn files(root: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if LEFT_OUT.iter().any(|(left_out, _)| path == root.join(left_out)) {
            continue;
        }
        if path.is_dir() {
            if name != "test" {
                found.extend(files(root, &path)?);
            }
        } else if name.ends_with(".S")
            || name.ends_with(".rs") && !["test.rs", "tests.rs", "model.rs"].contains(&&*name)
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// What needs a reason in one file.
pub fn in_file(file: &str, text: &str) -> Vec<Place> {
    let found = if file.ends_with(".S") { in_assembly(text) } else { in_rust(text) };
    found.into_iter().map(|(function, what)| (file.to_string(), function, what)).collect()
}

/// Functions and what stands in them, tests aside.
fn in_rust(text: &str) -> Vec<(String, String)> {
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
            && let Some(name) = rest.split(|c: char| !is_word(c)).next()
            && rest[name.len()..].starts_with(['(', '<'])
        {
            function = name.to_string();
        }
        let all =
            calls(code).into_iter().chain(orderings(code)).chain(inline(code)).chain(import(code));
        found.extend(all.map(|what| (function.clone(), what)));
    }
    found
}

/// Calls of a barrier or of TLB maintenance, by whatever path.
fn calls(code: &str) -> Vec<String> {
    let called = code.match_indices('(').filter_map(|(at, _)| {
        let before = &code[..at];
        let (path, name) = before.split_at(before.trim_end_matches(is_word).len());
        if path.ends_with("tlb::") {
            return Some(format!("tlbi_{name}"));
        }
        let is_one = ["dsb_", "dmb_", "tlbi_"].iter().any(|start| name.starts_with(start))
            || ["isb", "publish_event"].contains(&name);
        (is_one && !path.ends_with("fn ")).then(|| name.to_string())
    });
    called.collect()
}

fn orderings(code: &str) -> Vec<String> {
    let named = code.split("Ordering::").skip(1);
    let named = named.map(|rest| rest.split(|c: char| !is_word(c)).next().unwrap_or_default());
    named.filter(|name| ORDERINGS.contains(name)).map(str::to_string).collect()
}

/// Instructions in inline assembly, of which each is a literal of its own.
fn inline(code: &str) -> Vec<String> {
    if !code.contains("asm!") && !code.starts_with('"') {
        return Vec::new();
    }
    code.split('"').skip(1).step_by(2).filter_map(instruction).collect()
}

/// An import behind which a use would not be seen: it has no reason to be there.
fn import(code: &str) -> Option<String> {
    let imported = code.strip_prefix("pub ").unwrap_or(code).strip_prefix("use ")?;
    let hides = ["barrier::", "tlb::", "Ordering::"].iter().any(|path| imported.contains(path));
    hides.then(|| "import".into())
}

/// Labels and macros, and what stands behind them.
fn in_assembly(text: &str) -> Vec<(String, String)> {
    let mut function = "-".to_string();
    let mut found = Vec::new();
    for line in text.lines() {
        let mut code = line.split("//").next().unwrap_or_default().trim();
        if let Some(name) = code.strip_prefix(".macro ") {
            function = name.split([' ', ',']).next().unwrap_or_default().to_string();
            continue;
        }
        while let Some((label, rest)) = code.split_once(':')
            && label.chars().all(|c| is_word(c) || c == '.')
        {
            // Numbers and .L are places in a function.
            if !label.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
                function = label.to_string();
            }
            code = rest.trim();
        }
        found.extend(code.split(';').filter_map(instruction).map(|what| (function.clone(), what)));
    }
    found
}

/// A barrier, or maintenance of TLBs or caches, without its register.
fn instruction(text: &str) -> Option<String> {
    let mut words = text.split([' ', '\t', ',']).filter(|word| !word.is_empty());
    match (words.next()?, words.next()) {
        ("isb", _) => Some("isb".into()),
        // Zeroing is a store.
        ("dc", Some("zva")) => None,
        (name @ ("dsb" | "dmb" | "tlbi" | "ic" | "dc"), Some(kind)) => {
            Some(format!("{name} {kind}"))
        }
        _ => None,
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(file: &str, text: &str) -> Vec<String> {
        let places = in_file(file, text).into_iter();
        places.map(|(_, function, what)| format!("{function}: {what}")).collect()
    }

    #[test]
    fn a_use_is_seen_by_whatever_path() {
        for (line, what) in [
            ("hw.dsb_ishst();", "dsb_ishst"),
            ("barrier::isb();", "isb"),
            ("crate::arch::barrier::dmb_ish();", "dmb_ish"),
            ("isb();", "isb"),
            ("barrier::publish_event();", "publish_event"),
            ("Some(page) => tlb::vaale1is(page),", "tlbi_vaale1is"),
            ("x.swap(0, Ordering::AcqRel);", "AcqRel"),
            ("ASM(\"isb\", \"mrs {}, par_el1\", out(reg) par)", "isb"),
            ("ASM(\"ic ialluis\")", "ic ialluis"),
            ("\"dsb ish\",", "dsb ish"),
            ("ASM(\"dc cvau, {}\", in(reg) line)", "dc cvau"),
        ] {
            // Assembly is not written here, say the house rules.
            let text = format!("fn f() {{\n    {line}\n}}\n").replace("ASM", "asm!");
            assert_eq!(found("x.rs", &text), [format!("f: {what}")], "{line}");
        }
        assert_eq!(found("x.rs", "use crate::arch::barrier::isb;\n"), ["-: import"]);
    }

    #[test]
    fn what_is_no_use_is_not_seen() {
        for line in [
            "// barrier::isb() is a comment",
            "fn isb(&self) {",
            "barrier::wfi();",
            "x.load(Ordering::Relaxed);",
            "use core::sync::atomic::{AtomicU64, Ordering};",
            "ASM(\"dc zva, {at}\")",
            "f.write_str(\"tlbi all\")",
            "mod tests { hw.isb(); }",
        ] {
            assert_eq!(found("x.rs", &line.replace("ASM", "asm!")), [""; 0], "{line}");
        }
    }

    #[test]
    fn assembly_is_read_by_labels_and_macros() {
        let text = "// isb\nboot_entry:\n    isb                 // dsb nsh\n1:  tlbi    vmalle1\n    \
            dsb     nsh; isb\n    .macro flush what\n    tlbi    vaae1is, x0\n    .endm\n";
        assert_eq!(
            found("head.S", text),
            [
                "boot_entry: isb",
                "boot_entry: tlbi vmalle1",
                "boot_entry: dsb nsh",
                "boot_entry: isb",
                "flush: tlbi vaae1is"
            ]
        );
    }
}

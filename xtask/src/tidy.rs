//! House rules that a compiler does not know, as a check over the tracked files.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// Lines of a source file above which it should be two.
const LINES: usize = 500;

/// A rule that is broken at a place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Breach {
    file: PathBuf,
    line: usize,
    rule: &'static str,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.rule)
    }
}

/// Every breach in the files that git tracks.
///
/// # Errors
/// git does not answer, or a file cannot be read.
pub fn breaches() -> Result<Vec<Breach>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has a parent")?;
    let output = Command::new("git")
        .args(["ls-files", "-z", "--", "*.rs", "*.S", "*.py", "*.md", "*.toml", "*.ld"])
        .current_dir(root)
        .output()
        .context("git cannot be started")?;
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut all = Vec::new();
    for name in names.split('\0').filter(|name| !name.is_empty()) {
        let path = root.join(name);
        // Deleted and not yet committed.
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        all.extend(check(Path::new(name), &text));
    }
    Ok(all)
}

fn check(file: &Path, text: &str) -> Vec<Breach> {
    let breach = |line, rule| Breach { file: file.into(), line, rule };
    let mut found = Vec::new();
    let is_rust = file.extension().is_some_and(|ending| ending == "rs");
    if is_rust && text.lines().count() > LINES {
        found.push(breach(LINES + 1, "more than 500 lines: one idea a module"));
    }
    if is_rust && !text.starts_with("//!") && !is_test_module(file) {
        found.push(breach(1, "no `//!` head that tells the file's story"));
    }
    for (number, line) in (1..).zip(text.lines()) {
        if FOLDERS.iter().any(|folder| line.contains(folder)) {
            found.push(breach(number, "a path of somebody's machine"));
        }
        if MARKS.iter().any(|mark| line.contains(mark)) {
            found.push(breach(number, "unfinished work"));
        }
        if is_rust && line.contains("asm!(") && !may_hold_assembly(file) {
            found.push(breach(number, "asm! outside arch/ and the places that fault on purpose"));
        }
        if is_rust && is_sleep(line) && !line.contains("is_sleep") {
            found.push(breach(number, "a sleep where an event can be waited for"));
        }
    }
    found
}

/// Spelt in two parts, so that this file does not break its own rules.
const FOLDERS: &[&str] = &[concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/")];
const MARKS: &[&str] = &[
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("HA", "CK"),
];

fn is_sleep(line: &str) -> bool {
    line.contains(concat!("thread::", "sleep"))
}

fn is_test_module(file: &Path) -> bool {
    file.file_stem().is_some_and(|stem| stem == "test" || stem == "tests")
}

/// `arch` and `boot` are the home of assembly; kfuncs and tests of exceptions execute the one
/// instruction that is to fault.
fn may_hold_assembly(file: &Path) -> bool {
    let file = file.to_string_lossy();
    [
        "kernel/src/arch/",
        "boot/",
        "kernel/src/prog/kfunc.rs",
        "kernel/src/task/user.rs",
        "kernel/src/test/exception.rs",
    ]
    .iter()
    .any(|home| file.starts_with(home))
        || file.ends_with("tidy.rs")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(file: &str, text: &str) -> Vec<&'static str> {
        check(Path::new(file), text).into_iter().map(|breach| breach.rule).collect()
    }

    #[test]
    fn a_clean_file_has_no_breach() {
        assert_eq!(rules("kernel/src/x.rs", "//! Head.\nfn f() {}\n"), [""; 0]);
    }

    #[test]
    fn each_rule_is_noticed() {
        let path = format!("//! Head.\n// {}x\n", FOLDERS[0]);
        let mark = format!("//! Head.\n// {} this\n", MARKS[2]);
        let long = format!("//! Head.\n{}", "\n".repeat(LINES));
        let sleep = format!("//! Head.\n{}(x);\n", concat!("thread::", "sleep"));
        for text in [&path, &mark, &long, &sleep] {
            assert_eq!(rules("kernel/src/x.rs", text).len(), 1, "{text:.40}");
        }
        assert_eq!(rules("kernel/src/x.rs", "fn f() {}\n").len(), 1);
        assert_eq!(rules("kernel/src/mem/x.rs", "//! Head.\nasm!(\"nop\")\n").len(), 1);
        assert_eq!(rules("kernel/src/arch/x.rs", "//! Head.\nasm!(\"nop\")\n").len(), 0);
    }

    #[test]
    fn this_tree_is_tidy() {
        let breaches = breaches().unwrap();
        assert!(breaches.is_empty(), "{breaches:#?}");
    }
}

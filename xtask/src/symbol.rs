//! Addresses of the kernel as functions, files and lines, from the very ELF that ran.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use addr2line::Loader;

/// The debug information of one kernel.
pub struct Symbols {
    elf: PathBuf,
    loader: OnceCell<Option<Loader>>,
}

impl Symbols {
    /// Of the kernel at `elf`, loaded when first asked: most runs never need it. Without any,
    /// addresses stay addresses.
    pub fn of(elf: &Path) -> Self {
        Self { elf: elf.into(), loader: OnceCell::new() }
    }

    /// If `line` ends in a code address of a report (`bt 0x...`, or holds `elr=0x...`), where that
    /// is: innermost first, one string for each inlined frame.
    pub fn of_line(&self, line: &str) -> Vec<String> {
        match code_address(line) {
            // A return address names the instruction behind the call: look at the call.
            Some((address, true)) => self.of_address(address.wrapping_sub(1)),
            Some((address, false)) => self.of_address(address),
            None => Vec::new(),
        }
    }

    /// Where a code address is: innermost first, one string for each inlined frame. None without
    /// debug information.
    pub fn of_address(&self, address: u64) -> Vec<String> {
        let loader = self.loader.get_or_init(|| Loader::new(&self.elf).ok());
        let Some(loader) = loader else { return Vec::new() };
        let Ok(mut frames) = loader.find_frames(address) else { return Vec::new() };
        let mut all = Vec::new();
        while let Ok(Some(frame)) = frames.next() {
            let name = frame
                .function
                .and_then(|function| function.demangle().ok().map(|name| name.into_owned()))
                .unwrap_or_else(|| "?".into());
            let place = frame.location.and_then(|location| {
                Some(format!(" ({}:{})", short(location.file?), location.line?))
            });
            // Inlined iterator plumbing of core hides the frames that a reader looks for.
            if !place.as_deref().is_some_and(|place| place.starts_with(" (library/")) {
                all.push(format!("{name}{}", place.unwrap_or_default()));
            }
        }
        all
    }
}

/// The code address in a line, and whether it is a return address. The first `bt` line of an oops
/// is the faulting instruction itself; one byte less still lies in the same function.
fn code_address(line: &str) -> Option<(u64, bool)> {
    let hex = |text: &str| {
        let digits = text.strip_prefix("0x")?;
        let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
        u64::from_str_radix(&digits[..end], 16).ok()
    };
    if let Some((_, rest)) = line.split_once("bt ") {
        return hex(rest).map(|address| (address, true));
    }
    let (_, rest) = line.split_once("elr=")?;
    hex(rest).map(|address| (address, false))
}

/// A path without the machine's own folders in front, and without the registry that a crate is
/// from.
fn short(path: &str) -> &str {
    if let Some((_, crates)) = path.split_once("/registry/src/") {
        return crates.split_once('/').map_or(crates, |(_, rest)| rest);
    }
    if let Some(at) = path.find("/library/") {
        return &path[at + 1..];
    }
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    let root = root.strip_suffix("xtask/").unwrap_or(root);
    path.strip_prefix(root).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_both_kinds_of_line() {
        assert_eq!(
            code_address("# oops: bt 0xffff000040201234"),
            Some((0xffff_0000_4020_1234, true))
        );
        assert_eq!(code_address("# oops: far=0x8 elr=0x1234 spsr=0"), Some((0x1234, false)));
        assert_eq!(code_address("# oops: x0=0x1234"), None);
        assert_eq!(code_address("ok 1 about 5 things"), None);
    }

    #[test]
    fn paths_are_told_without_what_is_of_this_machine() {
        let of_crate = "/a/registry/src/index-1/spin-1.2/src/lib.rs";
        assert_eq!(short(of_crate), "spin-1.2/src/lib.rs");
        assert_eq!(short("/a/lib/rustlib/src/rust/library/core/src/a.rs"), "library/core/src/a.rs");
        let here = concat!(env!("CARGO_MANIFEST_DIR"), "/src/symbol.rs");
        assert_eq!(short(here), "xtask/src/symbol.rs");
        assert_eq!(short("kernel/src/main.rs"), "kernel/src/main.rs");
    }

    #[test]
    fn an_elf_without_debug_information_gives_no_frames() {
        let symbols = Symbols::of(Path::new("/nowhere"));
        assert!(symbols.of_line("bt 0x1234").is_empty());
    }
}

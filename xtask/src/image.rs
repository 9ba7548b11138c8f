//! Building the kernel, and the forms in which QEMU takes it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Endianness, elf};

use crate::toolchain::Toolchain;

/// How the kernel is compiled.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Build {
    /// Optimised.
    Release,
    /// Unoptimised, with overflow checks.
    Debug,
}

/// Builds the kernel and returns the path of its ELF.
///
/// # Errors
/// cargo's failure; its own messages are on stderr.
pub fn build(toolchain: &Toolchain, build: Build) -> Result<PathBuf> {
    let mut command = toolchain.cargo("build");
    if build == Build::Release {
        command.arg("--release");
    }
    finish(toolchain, command)
}

/// Builds an optimised kernel without the lab from the sources in `root`, an absolute path, and returns
/// the path of its ELF.
///
/// # Errors
/// As [`build`].
pub fn build_bare(toolchain: &Toolchain, root: &Path) -> Result<PathBuf> {
    let mut command = toolchain.cargo("build");
    command.args(["--release", "--no-default-features"]).current_dir(root);
    finish(toolchain, command)
}

/// Builds the kernel whose instructions are counted, and returns the path of its ELF: without the lab, by
/// the cargo profile `measured`.
///
/// # Errors
/// As [`build`].
pub fn build_measured(toolchain: &Toolchain) -> Result<PathBuf> {
    let mut command = toolchain.cargo_for_measured("build");
    command.args(["--profile", "measured", "--no-default-features"]);
    finish(toolchain, command)
}

fn finish(toolchain: &Toolchain, mut command: Command) -> Result<PathBuf> {
    command.args(["--message-format=json-render-diagnostics", "--quiet"]);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} could not be started", toolchain.cargo.display()))?;
    let stdout = child.stdout.take().context("cargo has no output")?;
    let mut elf = None;
    for line in BufReader::new(stdout).lines() {
        elf = executable(&line?).or(elf);
    }
    if !child.wait()?.success() {
        bail!("the kernel does not build (with {toolchain})");
    }
    elf.context("cargo built no kernel executable")
}

/// The flat Image beside an ELF: its loaded segments by physical address, as `objcopy -O binary`
/// makes it. Made anew each time: it is a copy of a few hundred KiB.
///
/// # Errors
/// The ELF is truncated or none.
pub fn flat(elf: &Path) -> Result<PathBuf> {
    let data = std::fs::read(elf).with_context(|| format!("{} cannot be read", elf.display()))?;
    let image = flatten(&data).with_context(|| format!("{} is no kernel ELF", elf.display()))?;
    let path = elf.with_extension("img");
    std::fs::write(&path, image)
        .with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(path)
}

fn flatten(data: &[u8]) -> Result<Vec<u8>> {
    let file = ElfFile64::<Endianness>::parse(data)?;
    let endian = file.endian();
    let segments: Vec<_> = file
        .elf_program_headers()
        .iter()
        .filter(|header| header.p_type(endian) == elf::PT_LOAD && header.p_filesz(endian) > 0)
        .collect();
    let base = segments
        .iter()
        .map(|header| header.p_paddr(endian))
        .min()
        .context("it has no segment to load")?;
    let mut image = Vec::new();
    for header in segments {
        let bytes = header.data(endian, data).ok().context("a segment is cut off")?;
        let start = usize::try_from(header.p_paddr(endian) - base)?;
        image.resize(image.len().max(start + bytes.len()), 0);
        image[start..start + bytes.len()].copy_from_slice(bytes);
    }
    Ok(image)
}

/// The kernel's ELF, if a message of cargo's names it.
fn executable(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let is_kernel =
        message["reason"] == "compiler-artifact" && message["target"]["name"] == "kernel";
    is_kernel.then(|| message["executable"].as_str().map(PathBuf::from)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_kernel_s_artifact_names_the_elf() {
        let kernel =
            r#"{"reason":"compiler-artifact","target":{"name":"kernel"},"executable":"/k"}"#;
        let other = r#"{"reason":"compiler-artifact","target":{"name":"spin"},"executable":null}"#;
        assert_eq!(executable(kernel), Some("/k".into()));
        assert_eq!(executable(other), None);
        let tool = kernel.replace(r#""name":"kernel""#, r#""name":"tool""#);
        assert_eq!(executable(&tool), None);
        assert_eq!(executable("no json"), None);
    }

    #[test]
    fn a_truncated_elf_is_refused_and_not_flattened() {
        assert!(flatten(b"\x7fELF").is_err());
        assert!(flatten(&[]).is_err());
    }

    /// An ELF of loaded segments: physical address, bytes.
    fn elf(segments: &[(u64, &[u8])]) -> Vec<u8> {
        let (header, entry) = (64, 56);
        let mut data = b"\x7fELF\x02\x01\x01".to_vec();
        data.resize(header, 0);
        data[16] = 2;
        data[18] = 183;
        data[20] = 1;
        data[32] = header as u8;
        data[52] = header as u8;
        data[54] = entry as u8;
        data[56] = segments.len() as u8;
        let mut at = header + entry * segments.len();
        for (address, bytes) in segments {
            let length = bytes.len() as u64;
            let flags = 1 | 5 << 32;
            for word in [flags, at as u64, *address, *address, length, length + 16, 1] {
                data.extend(word.to_le_bytes());
            }
            at += bytes.len();
        }
        segments.iter().for_each(|(_, bytes)| data.extend(*bytes));
        data
    }

    #[test]
    fn segments_lie_at_their_distance_whatever_their_order() {
        let (low, high): (&[u8], &[u8]) = (&[1, 2], &[3]);
        for segments in [[(0x1000, low), (0x1004, high)], [(0x1004, high), (0x1000, low)]] {
            assert_eq!(flatten(&elf(&segments)).unwrap(), [1, 2, 0, 0, 3]);
        }
    }

    #[test]
    fn a_segment_without_bytes_takes_no_room() {
        let image = flatten(&elf(&[(0x10, &[]), (0x1000, &[1])]));
        assert_eq!(image.unwrap(), [1]);
        assert!(flatten(&elf(&[(0x10, &[])])).is_err());
    }
}

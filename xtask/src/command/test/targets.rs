//! The fuzz targets are in a workspace of their own, which no other build looks at: do they still compile?

use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::record::{Record, Status};
use crate::report::put;

/// The test.
pub const NAME: &str = "fuzz-targets";

/// What cargo says where it may not, or cannot, reach a registry.
const UNREACHABLE: &[&str] =
    &["failed to download", "download of config.json failed", "you're using offline mode"];

/// Checks them, without the fuzzer's runtime.
///
/// # Errors
/// cargo cannot be started.
pub fn record() -> Result<Record> {
    put("host: cargo check of the fuzz targets\n");
    let output = Command::new("cargo")
        .args([
            "check",
            "--quiet",
            "--bins",
            "--no-default-features",
            "--target-dir",
            "target/fuzz",
        ])
        .args(["--manifest-path", "kernel/fuzz/Cargo.toml"])
        .stdin(Stdio::null())
        .output()
        .context("cargo cannot be started")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let status = verdict(output.status.success(), &said);
    match &status {
        Status::Skipped(why) => put(&format!("{NAME}: skipped: {why}\n")),
        status if status.is_failure() => put(&said),
        _ => {}
    }
    Ok(Record::new("host", "fuzz", NAME, status))
}

fn verdict(succeeded: bool, said: &str) -> Status {
    match said.lines().find(|line| UNREACHABLE.iter().any(|sign| line.contains(sign))) {
        _ if succeeded => Status::Passed,
        Some(_) => Status::Skipped("what they need cannot be fetched from the registry".into()),
        None => Status::Failed("they do not compile; see the output above".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_registry_out_of_reach_is_an_excuse() {
        assert_eq!(verdict(true, "warning: failed to download once"), Status::Passed);
        for said in UNREACHABLE {
            assert!(matches!(verdict(false, said), Status::Skipped(_)), "{said}");
        }
        for said in [
            "error[E0425]: cannot find function `hold`",
            "error: failed to get `outside` as a dependency of package `fuzz`",
            "",
        ] {
            assert!(verdict(false, said).is_failure(), "{said}");
        }
    }
}

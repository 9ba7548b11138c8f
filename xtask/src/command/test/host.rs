//! The host half: `cargo test` of the crates that build anywhere, and the protocols under model checkers.

use std::process::Command;

use anyhow::Result;

use crate::command::proof;
use crate::libtest;
use crate::record::Record;
use crate::report::put;

/// Runs the host tests, each a record: all, or those called `names` if there are any; `long` for as long
/// as the model checkers should run now and then.
///
/// # Errors
/// cargo cannot be started.
pub fn run(names: &[String], long: bool) -> Result<Vec<Record>> {
    let (proofs, plain): (Vec<_>, Vec<_>) =
        names.iter().map(String::as_str).partition(|name| proof::is_one(name));
    let mut records = Vec::new();
    if names.is_empty() || !plain.is_empty() {
        put("host: cargo test\n");
        let mut command = Command::new("cargo");
        // Not `xtask/tests/guest.rs`: it would run the guest half a second time.
        command.args(["test", "--lib", "--bins", "--quiet", "--no-fail-fast", "--"]);
        command.args(if plain.is_empty() { None } else { Some("--exact") }).args(plain);
        records.extend(libtest::run(command)?.records);
    }
    if names.is_empty() || !proofs.is_empty() {
        records.extend(proof::records(&proof::Wanted::Exactly(&proofs), long)?);
    }
    Ok(records)
}

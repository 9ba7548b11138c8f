//! `cargo xtask lint`: format, clippy on host and target, documentation, house rules, reasons for orderings. All of them
//! run; all of them must be clean.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::cli::Lint as Options;
use crate::exit::Exit;
use crate::install;
use crate::ordering;
use crate::report::put;
use crate::tidy;
use crate::toolchain::{self, DEBIAN_CLIPPY, Kind, Toolchain, output};

/// Runs the command.
///
/// # Errors
/// A tool is missing.
pub fn run(options: &Options) -> Result<Exit> {
    let toolchain = toolchain::choose(&options.setup)?;
    if toolchain.kind == Kind::Debian && output("/usr/bin/clippy-driver", &["--version"]).is_none()
    {
        install::packages(&options.setup, &[DEBIAN_CLIPPY], "lint the kernel")?;
    }
    let mut clean = true;
    for (what, mut command) in [
        ("format", cargo(&["fmt", "--all", "--check"])),
        ("clippy, host", cargo(&["clippy", "--quiet", "--all-targets", "--", "-D", "warnings"])),
        ("clippy, target", target_clippy(&toolchain)),
        ("documentation", documentation()),
    ] {
        put(&format!("lint: {what}\n"));
        let status = command
            .stdin(Stdio::null())
            .status()
            .with_context(|| format!("{} cannot be started", command.get_program().display()))?;
        clean &= status.success();
    }
    put("lint: house rules\n");
    for breach in tidy::breaches()? {
        put(&format!("{breach}\n"));
        clean = false;
    }
    put("lint: orderings\n");
    for breach in ordering::breaches()? {
        put(&format!("{breach}\n"));
        clean = false;
    }
    put(if clean { "lint: clean\n" } else { "lint: not clean\n" });
    Ok(if clean { Exit::Passed } else { Exit::Failed })
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments);
    command
}

fn target_clippy(toolchain: &Toolchain) -> Command {
    let mut command = toolchain.clippy();
    // The flags of `build`, or core would be built anew; warnings are denied by clippy's own.
    command.args(["--quiet", "--release", "--", "-D", "warnings"]);
    command
}

fn documentation() -> Command {
    let mut command = cargo(&["doc", "--quiet", "--no-deps", "--document-private-items"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    command
}

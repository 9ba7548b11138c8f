//! `cargo xtask doctor`: what is there, what is missing, what would be done. Changes nothing.

use std::path::Path;

use anyhow::Result;

use crate::cli::Doctor as Options;
use crate::command::gdb::GDB;
use crate::exit::Exit;
use crate::install;
use crate::machine::Qemu;
use crate::report::put;
use crate::toolchain::{DEBIAN_PACKAGES, Findings, TARGET, output};

/// Runs the command; exit code 2 if something needed is missing.
///
/// # Errors
/// None: what cannot be found is a finding.
pub fn run(options: &Options) -> Result<Exit> {
    let findings = Findings::look();
    let usable = findings.usable(options.setup.toolchain);
    let text = |found: &Option<String>| found.clone().unwrap_or_else(|| "not found".into());
    let yes = |there: bool| if there { "yes" } else { "no" };
    line("rustc (active)", &text(&findings.rustc));
    line(&format!("  has {TARGET}"), yes(findings.has_target));
    line("  has rust-src", yes(findings.has_src));
    line("rustup", &text(&findings.rustup));
    line("rustc (Debian)", &text(&findings.debian_rustc));
    line("  has rust-web-src", yes(findings.debian_src));
    let lld = findings.lld.as_ref().map(|path| path.display().to_string());
    line("linker for it", &text(&lld));
    let path = options.setup.qemu.first().cloned().unwrap_or_else(|| "qemu-system-aarch64".into());
    let qemu = Qemu::ask(&path);
    line("QEMU", &qemu.as_ref().map_or_else(|error| error.to_string(), ToString::to_string));
    let gdb = output(GDB, &["--version"]);
    line("gdb", &text(&gdb));
    line(
        "setpriv",
        if Path::new("/usr/bin/setpriv").exists() {
            "yes"
        } else {
            "no: SIGKILL of this tool would leave QEMU behind"
        },
    );
    line("apt", yes(install::has_apt()));
    put("\n");
    match &usable {
        Some(toolchain) => line("the kernel builds with", &toolchain.to_string()),
        None if findings.rustup.is_some() => {
            line("would be tried", &format!("`rustup target add {TARGET}`"));
            line("and else", &format!("`apt-get install {}`", DEBIAN_PACKAGES.join(" ")));
        }
        None => line("would be tried", &format!("`apt-get install {}`", DEBIAN_PACKAGES.join(" "))),
    }
    if qemu.is_err() {
        line("would be tried", "`apt-get install qemu-system-arm`");
    }
    if gdb.is_none() {
        line("for `cargo xtask gdb`", "`apt-get install gdb-multiarch`");
    }
    let ready = usable.is_some() && qemu.is_ok();
    put(if ready { "\nready\n" } else { "\nnot ready: the first command will do the above\n" });
    Ok(if ready { Exit::Passed } else { Exit::Usage })
}

fn line(what: &str, found: &str) {
    put(&format!("{what:<40} {found}\n"));
}

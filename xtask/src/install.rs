//! Installing system packages: announced by name, only where it may be done without asking or the
//! person says yes.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cli::Setup;
use crate::toolchain::output;

/// How this process can become root.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Root {
    Already,
    Sudo,
    No,
}

/// Whether this machine has apt.
pub fn has_apt() -> bool {
    Path::new("/usr/bin/apt-get").exists()
}

/// Installs Debian packages, `purpose` says what for.
///
/// # Errors
/// The exact command, if it may not or cannot be run here.
pub fn packages(setup: &Setup, packages: &[&str], purpose: &str) -> Result<()> {
    let list = packages.join(" ");
    if !has_apt() {
        bail!("{list} would be needed to {purpose}, and this machine has no apt");
    }
    let root = root();
    let command = match root {
        Root::Already => format!("apt-get install --yes --no-install-recommends {list}"),
        _ => format!("sudo apt-get install --yes --no-install-recommends {list}"),
    };
    let refusal = format!("to {purpose}, run `{command}`");
    if setup.no_install {
        bail!("{refusal} (--no-install forbids doing it here)");
    }
    if root == Root::No {
        bail!("{refusal}");
    }
    if std::io::stdin().is_terminal() && !agrees(&command)? {
        bail!("{refusal}");
    }
    eprintln!("setup: installing {list} from Debian, to {purpose}");
    apt(root, &["update", "--quiet"])
        .and_then(|()| {
            let mut arguments = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
            arguments.extend(packages);
            apt(root, &arguments)
        })
        .with_context(|| refusal)
}

fn agrees(command: &str) -> Result<bool> {
    eprint!("setup: run `{command}`? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn root() -> Root {
    if output("id", &["-u"]).as_deref() == Some("0") {
        Root::Already
    } else if output("sudo", &["-n", "id", "-u"]).as_deref() == Some("0") {
        Root::Sudo
    } else {
        Root::No
    }
}

fn apt(root: Root, arguments: &[&str]) -> Result<()> {
    let mut command = match root {
        Root::Sudo => {
            let mut command = Command::new("sudo");
            command.args(["-n", "apt-get"]);
            command
        }
        _ => Command::new("apt-get"),
    };
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    let output = command.stdin(Stdio::null()).output().context("apt-get could not be started")?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let first = text.lines().find(|line| line.starts_with("E: ")).unwrap_or("no message");
        bail!("apt-get {} failed: {first}", arguments[0]);
    }
    Ok(())
}

//! herd7: the one that was named, the one on the path, or Debian's in a private folder.
//!
//! Debian has herdtools7 in sid only, built for sid's C library. So the packages are unpacked in a folder
//! under `target`, with an apt state of their own, and herd7 is started by the loader that came with it:
//! nothing on the system changes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::expect::{Expected, Verdict, folder};
use crate::install;
use crate::toolchain::output;

/// Where Debian's is unpacked, below the folder of the build.
const PRIVATE: &str = "target/herd7";
/// Debian's archive, and what signs it.
const SOURCE: &str = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian sid main";
const PACKAGES: [&str; 3] = ["herdtools7", "libc6", "libgmp10"];

/// Whether there is one.
pub enum Availability {
    /// This one.
    There(Herd),
    /// None is to be had, and why.
    NotHere(String),
}

/// A herd7 that runs.
pub struct Herd {
    /// Program and first arguments.
    command: Vec<PathBuf>,
    /// What it says it is.
    pub version: String,
}

impl Herd {
    /// Looks for one, and fetches Debian's if there is none and `no_install` does not forbid it.
    ///
    /// # Errors
    /// `named` does not run.
    pub fn find(named: Option<&Path>, no_install: bool) -> Result<Availability> {
        if let Some(path) = named {
            let herd = Self::of(vec![path.into()]);
            let herd = herd.with_context(|| format!("{} is no herd7 that runs", path.display()))?;
            return Ok(Availability::There(herd));
        }
        if let Some(herd) = Self::of(vec!["herd7".into()]).or_else(Self::private) {
            return Ok(Availability::There(herd));
        }
        if no_install {
            return Ok(Availability::NotHere("herd7 is not here (--no-install)".into()));
        }
        Ok(match fetch() {
            Err(error) => Availability::NotHere(format!("herd7 cannot be had: {error:#}")),
            Ok(()) => Self::private().map_or_else(
                || Availability::NotHere("the herd7 of Debian sid does not run here".into()),
                Availability::There,
            ),
        })
    }

    fn of(command: Vec<PathBuf>) -> Option<Self> {
        let said = Command::new(&command[0])
            .args(&command[1..])
            .arg("-version")
            .stdin(Stdio::null())
            .output()
            .ok()?;
        let version = String::from_utf8_lossy(&said.stdout).trim().to_string();
        (said.status.success() && !version.is_empty()).then_some(Self { command, version })
    }

    fn private() -> Option<Self> {
        let usr = std::path::absolute(PRIVATE).ok()?.join("root/usr");
        let machine = std::fs::read_dir(usr.join("lib")).ok()?.filter_map(Result::ok);
        let libraries = machine.map(|entry| entry.path()).find(|path| loader(path).is_some())?;
        Self::of(vec![
            loader(&libraries)?,
            "--library-path".into(),
            libraries,
            usr.join("bin/herd7"),
            "-set-libdir".into(),
            usr.join("share/herdtools7/herd"),
        ])
    }

    /// What comes of `test`.
    ///
    /// # Errors
    /// herd7 does not say.
    pub fn judge(&self, test: &Expected) -> Result<Verdict> {
        let folder = folder()?;
        let file = folder.join(format!("{}.litmus", test.name));
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("{} cannot be read", file.display()))?;
        let variant = if is_handled(&text) { "vmsa" } else { "vmsa,fatal" };
        let said = Command::new(&self.command[0])
            .args(&self.command[1..])
            .args(["-variant", variant, "-model", "bbm-strict.cat", "-I"])
            .arg(&folder)
            .arg(&file)
            .stdin(Stdio::null())
            .output()
            .context("herd7 cannot be started")?;
        let text = String::from_utf8_lossy(&said.stdout);
        Verdict::of_output(&text).with_context(|| {
            let error = String::from_utf8_lossy(&said.stderr);
            let last = error.lines().last().unwrap_or("it said nothing").to_string();
            format!("{}: herd7 gave no verdict: {last}", test.name)
        })
    }
}

/// The loader among a folder's libraries.
fn loader(libraries: &Path) -> Option<PathBuf> {
    let mut files = std::fs::read_dir(libraries).ok()?.filter_map(Result::ok);
    let found = files.find(|file| file.file_name().to_string_lossy().starts_with("ld-linux-"))?;
    Some(found.path())
}

/// Whether a fault of the test ends in a handler of its own, instead of ending the thread.
fn is_handled(test: &str) -> bool {
    let mut variants = test.lines().filter_map(|line| line.trim().strip_prefix("Variant="));
    variants.any(|variant| variant.split(',').any(|word| word == "handled"))
}

fn fetch() -> Result<()> {
    if !install::has_apt() || output("dpkg", &["--version"]).is_none() {
        bail!("this machine has no apt");
    }
    let folder = std::path::absolute(PRIVATE)?;
    for sub in ["state/lists/partial", "cache/archives/partial", "packages", "root"] {
        std::fs::create_dir_all(folder.join(sub))?;
    }
    std::fs::write(folder.join("sources.list"), SOURCE)?;
    std::fs::write(folder.join("state/status"), "")?;
    eprintln!("setup: fetching {} of Debian sid into {PRIVATE}", PACKAGES.join(", "));
    apt(&folder, &["update", "--quiet"])?;
    let mut download = vec!["download", "--quiet"];
    download.extend(PACKAGES);
    apt(&folder, &download)?;
    for entry in std::fs::read_dir(folder.join("packages"))? {
        let mut unpack = Command::new("dpkg");
        unpack.arg("-x").arg(entry?.path()).arg(folder.join("root"));
        run(unpack)?;
    }
    Ok(())
}

/// apt with a state of its own in `folder`; packages land in `folder/packages`.
fn apt(folder: &Path, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    let own = |key: &str, value: &str| format!("{key}={}", folder.join(value).display());
    for option in [
        own("Dir::Etc::sourcelist", "sources.list"),
        "Dir::Etc::sourceparts=-".into(),
        own("Dir::State", "state"),
        own("Dir::State::status", "state/status"),
        own("Dir::Cache", "cache"),
        "Acquire::Languages=none".into(),
        // Lists and packages belong to whoever runs this.
        "APT::Sandbox::User=".into(),
    ] {
        command.args(["-o", &option]);
    }
    command.args(arguments).current_dir(folder.join("packages"));
    run(command)
}

fn run(mut command: Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let said = command.stdin(Stdio::null()).output().with_context(|| program.clone())?;
    if !said.status.success() {
        let error = String::from_utf8_lossy(&said.stderr);
        let first = error.lines().find(|line| line.starts_with("E:")).unwrap_or("it failed");
        bail!("{program}: {first}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_with_a_handler_is_known_by_its_header() {
        assert!(is_handled("AArch64 H\nVariant=handled,ets2\n{\n}\n"));
        assert!(!is_handled("AArch64 P\nVariant=ets2\n(* handled *)\n{\n}\n"));
    }

    #[test]
    fn a_named_herd7_that_does_not_run_is_an_error() {
        let error = Herd::find(Some(Path::new("/nowhere/herd7")), true).err().unwrap();
        assert_eq!(error.to_string(), "/nowhere/herd7 is no herd7 that runs");
    }
}

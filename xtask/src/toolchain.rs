//! Which cargo, rustc and linker build the kernel.
//!
//! In this order: (1) the active rustc has the bare-metal target; (2) rustup can add it; (3) the
//! active toolchain has rust-src; (4) Debian's rustc-web with rust-web-src. The first that works
//! is taken and said.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cli::{Setup, ToolchainChoice};
use crate::install;

/// The kernel's target: no floating point, strict alignment, static.
pub const TARGET: &str = "aarch64-unknown-none-softfloat";

/// Debian's packages for way (4).
pub const DEBIAN_PACKAGES: &[&str] = &["rustc-web", "cargo-web", "rust-web-src"];
/// Debian's linter of the same version.
pub const DEBIAN_CLIPPY: &str = "rust-web-clippy";

/// Backtraces walk frame records, and the image runs where it is linked.
const FLAGS: &str = "-C force-frame-pointers=yes -C relocation-model=static";
/// The same with records as C compilers have them on arm64: none in a function that calls no other.
const MEASURED_FLAGS: &str =
    "-C force-frame-pointers=non-leaf -Z unstable-options -C relocation-model=static";

const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_CARGO_CLIPPY: &str = "/usr/bin/cargo-clippy";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_SRC: &str = "/usr/lib/rustlib/src/rust/library/core/src/lib.rs";

/// What builds the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Toolchain {
    /// How it was found.
    pub kind: Kind,
    /// The cargo to call.
    pub cargo: PathBuf,
    /// The rustc that it must use; `None` leaves cargo its own.
    pub rustc: Option<PathBuf>,
    /// The linker.
    pub linker: Linker,
}

/// The four ways.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The target's core is installed.
    Installed,
    /// core is built from the active toolchain's rust-src.
    RustSrc,
    /// core is built from Debian's rust-web-src.
    Debian,
}

/// What links the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Linker {
    /// rustc finds its own rust-lld.
    Own,
    /// This one.
    At(PathBuf),
}

/// What is on this machine.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Findings {
    /// `rustc --version` of the active toolchain.
    pub rustc: Option<String>,
    /// The active toolchain has the target's core.
    pub has_target: bool,
    /// rustup is there, so the target may be had.
    pub rustup: Option<String>,
    /// The active toolchain has rust-src.
    pub has_src: bool,
    /// `/usr/bin/rustc --version`, if it is Debian's.
    pub debian_rustc: Option<String>,
    /// Debian's rust-src is there.
    pub debian_src: bool,
    /// A rust-lld or lld for toolchains that bring none.
    pub lld: Option<PathBuf>,
}

impl Findings {
    /// Looks; changes nothing.
    pub fn look() -> Self {
        let sysroot = output("rustc", &["--print", "sysroot"]).map(PathBuf::from);
        let library = |rest: &str| sysroot.as_ref().is_some_and(|root| root.join(rest).exists());
        Self {
            rustc: output("rustc", &["--version"]),
            has_target: library(&format!("lib/rustlib/{TARGET}/lib")),
            rustup: output("rustup", &["--version"]),
            has_src: library("lib/rustlib/src/rust/library/core/src/lib.rs"),
            debian_rustc: debian_rustc(),
            debian_src: Path::new(DEBIAN_SRC).exists(),
            lld: find_lld(sysroot.as_deref()),
        }
    }

    /// The toolchain that can build now, among those that `choice` allows.
    pub fn usable(&self, choice: Option<ToolchainChoice>) -> Option<Toolchain> {
        let allows = |wanted| choice.is_none_or(|choice| choice == wanted);
        if allows(ToolchainChoice::Rustup) && self.rustc.is_some() && self.has_target {
            return Some(Toolchain {
                kind: Kind::Installed,
                cargo: "cargo".into(),
                rustc: None,
                linker: Linker::Own,
            });
        }
        if allows(ToolchainChoice::RustSrc) && self.rustc.is_some() && self.has_src {
            return Some(Toolchain {
                kind: Kind::RustSrc,
                cargo: "cargo".into(),
                rustc: None,
                linker: Linker::Own,
            });
        }
        if allows(ToolchainChoice::Debian)
            && self.debian_rustc.is_some()
            && self.debian_src
            && let Some(lld) = &self.lld
        {
            return Some(Toolchain {
                kind: Kind::Debian,
                cargo: DEBIAN_CARGO.into(),
                rustc: Some(DEBIAN_RUSTC.into()),
                linker: Linker::At(lld.clone()),
            });
        }
        None
    }
}

/// Finds a toolchain, and makes one if it may.
///
/// # Errors
/// A sentence with the command that would help.
pub fn choose(setup: &Setup) -> Result<Toolchain> {
    let findings = Findings::look();
    let wanted = setup.toolchain;
    let first_choice = matches!(wanted, None | Some(ToolchainChoice::Rustup));
    if findings.has_target || !first_choice {
        if let Some(toolchain) = findings.usable(wanted) {
            return Ok(toolchain);
        }
    } else if findings.rustup.is_some() && !setup.no_install && add_target() {
        return Findings::look().usable(wanted).context("rustup added the target, but in vain");
    }
    if let Some(toolchain) = findings.usable(wanted) {
        return Ok(toolchain);
    }
    if wanted.is_none_or(|choice| choice == ToolchainChoice::Debian) {
        install::packages(setup, DEBIAN_PACKAGES, "build the kernel")?;
        if let Some(toolchain) = Findings::look().usable(wanted) {
            return Ok(toolchain);
        }
    }
    bail!(
        "no toolchain can build for {TARGET}. With rustup: `rustup target add {TARGET}`. \
         On Debian: `apt-get install {}` (and rustup's rust-lld or the package lld)",
        DEBIAN_PACKAGES.join(" ")
    )
}

impl Toolchain {
    /// A cargo command for the kernel, with the one set of flags that all commands share: a
    /// change of flags rebuilds core. What cargo put into this process's environment is taken out,
    /// or the outer toolchain would leak in.
    pub fn cargo(&self, subcommand: &str) -> Command {
        self.with_flags(Command::new(&self.cargo), subcommand)
    }

    /// As [`cargo`](Self::cargo), for the image whose instructions are counted beside those of Linux: its
    /// leaf functions have no frame record either. Other images keep theirs, so that no backtrace lacks
    /// a caller.
    pub fn cargo_for_measured(&self, subcommand: &str) -> Command {
        let mut command = self.cargo(subcommand);
        // Before all other sources of flags: those of `.cargo/config.toml` ask for all records.
        command.env("RUSTFLAGS", MEASURED_FLAGS).env("RUSTC_BOOTSTRAP", "1");
        command
    }

    /// A clippy command for the kernel. Debian's is called by its own path: cargo looks for
    /// subcommands in its home first, where rustup's is.
    pub fn clippy(&self) -> Command {
        if self.kind != Kind::Debian {
            return self.cargo("clippy");
        }
        let mut command = self.with_flags(Command::new(DEBIAN_CARGO_CLIPPY), "clippy");
        command.env("CARGO", &self.cargo);
        command
    }

    fn with_flags(&self, mut command: Command, subcommand: &str) -> Command {
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if leaks(&name) || (self.rustc.is_some() && name == "RUSTUP_TOOLCHAIN") {
                command.env_remove(&*name);
            }
        }
        command.arg(subcommand).args(["--package", "kernel", "--target", TARGET]);
        command.args(["--target-dir", "target/kernel"]);
        command.env("CARGO_TARGET_AARCH64_UNKNOWN_NONE_SOFTFLOAT_RUSTFLAGS", FLAGS);
        if self.kind != Kind::Installed {
            command.arg("-Zbuild-std=core,alloc").env("RUSTC_BOOTSTRAP", "1");
        }
        if let Some(rustc) = &self.rustc {
            command.env("RUSTC", rustc);
        }
        if let Linker::At(linker) = &self.linker {
            command.env("CARGO_TARGET_AARCH64_UNKNOWN_NONE_SOFTFLOAT_LINKER", linker);
        }
        command
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Installed => "the active rustc, which has the target",
            Kind::RustSrc => "the active rustc and its rust-src, building core",
            Kind::Debian => "Debian's rustc-web and rust-web-src, building core",
        })
    }
}

/// Whether a variable, set by the cargo that runs this tool or for host builds, would change how
/// the kernel is built. How cargo reaches its registries is the person's to say.
fn leaks(name: &str) -> bool {
    const KEPT: [&str; 7] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTRIES_",
        "CARGO_REGISTRY_",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
    ];
    match name {
        "CARGO" | "RUSTC" | "RUSTFLAGS" | "RUSTC_WRAPPER" => true,
        _ => name.starts_with("CARGO_") && !KEPT.iter().any(|kept| name.starts_with(kept)),
    }
}

/// First line of what a command prints; `None` if it is not there or fails.
pub fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    output.status.success().then(|| text.lines().next().unwrap_or_default().to_string())
}

fn add_target() -> bool {
    eprintln!("setup: `rustup target add {TARGET}` (core for the kernel's target)");
    let status = Command::new("rustup")
        .args(["target", "add", TARGET])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    let added = status.is_ok_and(|status| status.success());
    if !added {
        eprintln!("setup: rustup could not; trying the next way");
    }
    added
}

fn debian_rustc() -> Option<String> {
    let source = Path::new(DEBIAN_SRC).exists() || Path::new("/etc/debian_version").exists();
    source.then(|| output(DEBIAN_RUSTC, &["--version"])).flatten()
}

fn find_lld(sysroot: Option<&Path>) -> Option<PathBuf> {
    let host = output("rustc", &["--version", "--verbose"]).and(host_triple());
    let own = sysroot
        .zip(host)
        .map(|(root, host)| root.join("lib/rustlib").join(host).join("bin/rust-lld"));
    let system = ["/usr/bin/rust-lld", "/usr/bin/ld.lld"].into_iter().map(PathBuf::from);
    own.into_iter().chain(system).find(|path| path.exists())
}

fn host_triple() -> Option<String> {
    let output = Command::new("rustc").arg("-vV").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Findings {
        Findings {
            rustc: Some("rustc 1".into()),
            has_target: true,
            rustup: Some("rustup 1".into()),
            has_src: true,
            debian_rustc: Some("rustc 1".into()),
            debian_src: true,
            lld: Some("/lld".into()),
        }
    }

    #[test]
    fn the_first_way_that_works_is_taken() {
        let kind = |findings: &Findings| findings.usable(None).map(|toolchain| toolchain.kind);
        assert_eq!(kind(&all()), Some(Kind::Installed));
        let no_target = Findings { has_target: false, ..all() };
        assert_eq!(kind(&no_target), Some(Kind::RustSrc));
        let debian = Findings { has_src: false, ..no_target };
        assert_eq!(kind(&debian), Some(Kind::Debian));
        assert_eq!(kind(&Findings { debian_src: false, ..debian }), None);
    }

    #[test]
    fn the_outer_build_does_not_leak_in_but_the_network_s_settings_stay() {
        for name in ["CARGO", "CARGO_MANIFEST_DIR", "CARGO_TARGET_DIR", "CARGO_ENCODED_RUSTFLAGS"] {
            assert!(leaks(name), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_HTTP_PROXY", "PATH", "RUSTUP_HOME"] {
            assert!(!leaks(name), "{name}");
        }
    }

    #[test]
    fn debian_without_a_linker_is_not_usable() {
        let findings = Findings { has_target: false, has_src: false, lld: None, ..all() };
        assert_eq!(findings.usable(None), None);
    }

    #[test]
    fn a_choice_rules_the_others_out() {
        let kind = all().usable(Some(ToolchainChoice::Debian)).map(|toolchain| toolchain.kind);
        assert_eq!(kind, Some(Kind::Debian));
        let none = Findings { debian_rustc: None, ..all() };
        assert_eq!(none.usable(Some(ToolchainChoice::Debian)), None);
    }

    fn cargo_of(findings: &Findings) -> (Vec<String>, Vec<(String, Option<String>)>) {
        let command = findings.usable(None).unwrap().cargo("build");
        let text = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
        let environment =
            command.get_envs().map(|(name, value)| (text(name), value.map(text))).collect();
        (command.get_args().map(text).collect(), environment)
    }

    #[test]
    fn the_outer_cargo_does_not_leak_in() {
        let (arguments, environment) = cargo_of(&all());
        // Set for every test by the cargo that runs it.
        assert!(environment.contains(&("CARGO".into(), None)));
        assert!(environment.contains(&("CARGO_MANIFEST_DIR".into(), None)));
        assert!(!arguments.iter().any(|argument| argument.starts_with("-Z")));
        let flags = environment.iter().find_map(|(name, value)| {
            name.ends_with("_SOFTFLOAT_RUSTFLAGS").then(|| value.clone().unwrap_or_default())
        });
        let flags = flags.unwrap();
        assert!(flags.contains("force-frame-pointers=yes"), "{flags}");
        assert!(flags.contains("relocation-model=static"), "{flags}");
    }

    #[test]
    fn only_the_measured_image_goes_without_records_of_leaves() {
        let command = all().usable(None).unwrap().cargo_for_measured("build");
        let flags: Vec<_> = command
            .get_envs()
            .filter(|(name, _)| *name == "RUSTFLAGS")
            .map(|(_, value)| value.unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(flags, [MEASURED_FLAGS]);
        assert!(FLAGS.contains("frame-pointers=yes") && MEASURED_FLAGS.contains("non-leaf"));
    }

    #[test]
    fn a_toolchain_without_the_target_builds_core_and_alloc() {
        let (arguments, environment) = cargo_of(&Findings { has_target: false, ..all() });
        assert!(arguments.contains(&"-Zbuild-std=core,alloc".to_string()));
        assert!(environment.contains(&("RUSTC_BOOTSTRAP".into(), Some("1".into()))));
    }
}

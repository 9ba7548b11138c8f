//! Virtual machines: from a description to a QEMU command line.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

pub use link::nearest;

use crate::cli::{ImageKind, Matrix, Setup, Virt};
use crate::image::Build;
use crate::install;

const DEFAULT_QEMU: &str = "qemu-system-aarch64";
const DEBIAN_QEMU: &str = "qemu-system-arm";
/// Oldest QEMU on which the guest's assumptions were measured.
const OLDEST: (u32, u32) = (7, 2);

/// One machine of the matrix.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Machine {
    /// CPU model.
    pub cpu: String,
    /// GIC version, 2 or 3.
    pub gic: u8,
    /// CPUs.
    pub smp: u8,
    /// Memory, as QEMU takes it.
    pub mem: String,
    /// Entry at EL2.
    pub el2: bool,
    /// Form of the kernel.
    pub image: ImageKind,
    /// Build of the kernel.
    pub build: Build,
    /// All CPUs in one thread of QEMU's, which is faster where one CPU runs at a time.
    pub single: bool,
    /// The QEMU, where the matrix has several.
    pub qemu: Option<Qemu>,
}

/// A QEMU that was found and asked for its version.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Qemu {
    /// The program.
    pub path: PathBuf,
    /// Its version.
    pub version: (u32, u32),
    /// By what it is told from others in a matrix.
    pub name: String,
}

impl Machine {
    /// The machine that the command line describes.
    pub fn from_options(virt: &Virt) -> Self {
        Self {
            cpu: virt.cpu.clone(),
            gic: virt.gic,
            smp: virt.smp,
            mem: virt.mem.clone(),
            el2: virt.el2,
            image: virt.image,
            build: if virt.debug { Build::Debug } else { Build::Release },
            single: false,
            qemu: None,
        }
    }

    /// The machines of a matrix, under each of `qemus`.
    pub fn under_each(matrix: Matrix, qemus: &[Qemu]) -> Vec<Self> {
        let of = |qemu: &Qemu| {
            let qemu = (qemus.len() > 1).then(|| qemu.clone());
            Self::matrix(matrix)
                .into_iter()
                .map(move |machine| Self { qemu: qemu.clone(), ..machine })
        };
        qemus.iter().flat_map(of).collect()
    }

    /// The machines of a matrix.
    pub fn matrix(matrix: Matrix) -> Vec<Self> {
        let quick = vec![Self::new("cortex-a72", 2, 2), Self::new("max", 3, 4)];
        if matrix == Matrix::Quick {
            return quick;
        }
        let more = [
            Self::new("cortex-a53", 2, 1),
            Self::new("cortex-a53", 3, 8),
            Self::new("cortex-a72", 2, 8),
            Self::new("neoverse-n1", 3, 1),
            Self::new("neoverse-n1", 2, 4),
            Self { el2: true, ..Self::new("cortex-a72", 3, 2) },
            Self { el2: true, image: ImageKind::Flat, ..Self::new("max", 3, 2) },
            Self { image: ImageKind::Flat, ..Self::new("cortex-a53", 2, 2) },
            Self { build: Build::Debug, ..Self::new("cortex-a72", 2, 2) },
            Self { build: Build::Debug, ..Self::new("max", 3, 4) },
            Self { mem: "32M".into(), ..Self::new("cortex-a72", 2, 2) },
        ];
        quick.into_iter().chain(more).collect()
    }

    /// QEMU's arguments: the machine, the kernel, its command line, and what the person added.
    pub fn arguments(&self, kernel: &Path, append: &str, extra: &[String]) -> Vec<OsString> {
        let el2 = if self.el2 { ",virtualization=on" } else { "" };
        let mut arguments: Vec<OsString> = [
            // Without the default devices: the package set lacks the network card's boot ROM.
            "-nodefaults",
            "-no-reboot",
            "-display",
            "none",
            "-serial",
            "stdio",
            "-machine",
            &format!("virt,gic-version={}{el2}", self.gic),
            "-cpu",
            &self.cpu,
            "-smp",
            &self.smp.to_string(),
            "-m",
            &self.mem,
            "-accel",
            if self.single { "tcg,thread=single" } else { "tcg" },
            "-semihosting-config",
            "enable=on,target=native",
            "-append",
            append,
            "-kernel",
        ]
        .map(OsString::from)
        .into();
        arguments.push(kernel.into());
        arguments.extend(extra.iter().map(OsString::from));
        arguments
    }

    /// The options by which the command line describes this machine, each with a space before it.
    pub fn flags(&self) -> String {
        let default = Self::new("cortex-a72", 2, 2);
        let mut flags = String::new();
        for (differs, flag) in [
            (self.cpu != default.cpu, format!(" --cpu {}", self.cpu)),
            (self.gic != default.gic, format!(" --gic {}", self.gic)),
            (self.smp != default.smp, format!(" --smp {}", self.smp)),
            (self.mem != default.mem, format!(" --mem {}", self.mem)),
            (self.el2, " --el2".into()),
            (self.image == ImageKind::Flat, " --image flat".into()),
            (self.build == Build::Debug, " --debug".into()),
        ] {
            if differs {
                flags += &flag;
            }
        }
        if let Some(qemu) = &self.qemu {
            flags += &format!(" --qemu {}", qemu.path.display());
        }
        flags
    }

    /// The machine of this CPU model, GIC version and number of CPUs, else as is default.
    pub fn new(cpu: &str, gic: u8, smp: u8) -> Self {
        Self {
            cpu: cpu.into(),
            gic,
            smp,
            mem: "128M".into(),
            el2: false,
            image: ImageKind::Elf,
            build: Build::Release,
            single: false,
            qemu: None,
        }
    }
}

impl fmt::Display for Machine {
    /// The name by which reports and filters know the machine.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-gic{}-smp{}", self.cpu, self.gic, self.smp)?;
        for (differs, name) in [
            (self.mem != "128M", self.mem.as_str()),
            (self.el2, "el2"),
            (self.image == ImageKind::Flat, "flat"),
            (self.build == Build::Debug, "debug"),
            (self.single, "single"),
        ] {
            if differs {
                write!(f, "-{name}")?;
            }
        }
        self.qemu.iter().try_for_each(|qemu| write!(f, "-{}", qemu.name))
    }
}

impl Qemu {
    /// Finds QEMU, installs it if it may, and checks its version.
    ///
    /// # Errors
    /// A sentence with what would help.
    pub fn find(setup: &Setup) -> Result<Self> {
        let path = match &setup.qemu[..] {
            [] => DEFAULT_QEMU.into(),
            [path] => path.clone(),
            _ => bail!("several --qemu are for `cargo xtask test` only; give one"),
        };
        let qemu = match Self::ask(&path) {
            Ok(qemu) => qemu,
            Err(error) if !setup.qemu.is_empty() => return Err(error),
            Err(_) => {
                install::packages(setup, &[DEBIAN_QEMU], "run the guest")?;
                Self::ask(&path)?
            }
        };
        qemu.check_age()?;
        Ok(qemu)
    }

    /// The QEMUs of a matrix: those that were named; else the one that is found first, and for the
    /// full matrix every further one that is installed.
    ///
    /// # Errors
    /// As [`find`](Self::find), for any that was named.
    pub fn find_all(setup: &Setup, matrix: Matrix) -> Result<Vec<Self>> {
        let mut all = match &setup.qemu[..] {
            [] | [_] => vec![Self::find(setup)?],
            paths => paths.iter().map(|path| Self::ask(path)).collect::<Result<_>>()?,
        };
        if setup.qemu.is_empty() && matrix == Matrix::Full {
            all.extend(installed().iter().skip(1).filter_map(|path| Self::ask(path).ok()));
            all.retain(|qemu| qemu.version >= OLDEST);
        }
        all.iter().try_for_each(Self::check_age)?;
        tell_apart(&mut all);
        Ok(all)
    }

    fn check_age(&self) -> Result<()> {
        let old = self.version < OLDEST;
        ensure!(!old, "{self} is older than {}.{}", OLDEST.0, OLDEST.1);
        Ok(())
    }

    /// Asks a QEMU for its version.
    ///
    /// # Errors
    /// It cannot be started, or what it prints is no version of QEMU's.
    pub fn ask(path: &Path) -> Result<Self> {
        let text = ask(path, "--version")?;
        let version = parse_version(&text)
            .with_context(|| format!("{} --version does not look like QEMU's", path.display()))?;
        let name = format!("qemu{}.{}", version.0, version.1);
        Ok(Self { path: path.into(), version, name })
    }

    /// Checks that QEMU knows the CPU model.
    ///
    /// # Errors
    /// The nearest model that it knows.
    pub fn check_cpu(&self, cpu: &str) -> Result<()> {
        let text = ask(&self.path, "-cpu")?;
        let models: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.ends_with(':') && !line.contains(' '))
            .collect();
        // Properties may follow the model.
        let model = cpu.split(',').next().unwrap_or(cpu);
        if models.is_empty() || models.contains(&model) {
            return Ok(());
        }
        let hint = nearest(model, models.iter().copied())
            .map_or(String::new(), |model| format!("; did you mean {model}?"));
        bail!("{self} knows no CPU called {model}{hint}")
    }
}

impl fmt::Display for Qemu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QEMU {}.{} ({})", self.version.0, self.version.1, self.path.display())
    }
}

/// Every QEMU on the search path, first found first, each file once.
fn installed() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut seen = Vec::new();
    std::env::split_paths(&path)
        .map(|folder| folder.join(DEFAULT_QEMU))
        .filter(|file| {
            let real = file.canonicalize().ok().filter(|real| !seen.contains(real));
            seen.extend(real.clone());
            real.is_some()
        })
        .collect()
}

/// Numbers QEMUs of one version: a name is a machine's in every report.
fn tell_apart(qemus: &mut [Qemu]) {
    let names: Vec<_> = qemus.iter().map(|qemu| qemu.name.clone()).collect();
    for (at, qemu) in qemus.iter_mut().enumerate() {
        let before = names[..at].iter().filter(|name| **name == qemu.name).count();
        if before > 0 {
            qemu.name += &format!(".{}", before + 1);
        }
    }
}

fn ask(path: &Path, what: &str) -> Result<String> {
    let mut command = Command::new(path);
    command.arg(what);
    if what == "-cpu" {
        command.args(["help", "-machine", "virt"]);
    }
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} cannot be started", path.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let rest = text.strip_prefix("QEMU emulator version ")?;
    let mut numbers = rest.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_names_every_property_of_the_machine() {
        let machine = Machine { el2: true, mem: "32M".into(), ..Machine::new("max", 3, 4) };
        let arguments = machine.arguments(Path::new("/k"), "run=x", &["-s".into()]);
        let text = arguments.iter().map(|a| a.to_string_lossy()).collect::<Vec<_>>().join(" ");
        for part in [
            "virt,gic-version=3,virtualization=on",
            "-cpu max",
            "-smp 4",
            "-m 32M",
            "-append run=x",
            "-kernel /k -s",
            "-nodefaults",
            "-no-reboot",
            "-semihosting-config enable=on,target=native",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }

    #[test]
    fn flags_name_only_what_differs_from_the_default() {
        assert_eq!(Machine::new("cortex-a72", 2, 2).flags(), "");
        let machine = Machine { el2: true, build: Build::Debug, ..Machine::new("max", 3, 4) };
        assert_eq!(machine.flags(), " --cpu max --gic 3 --smp 4 --el2 --debug");
    }

    #[test]
    fn machines_of_the_full_matrix_have_names_of_their_own() {
        let mut names: Vec<_> =
            Machine::matrix(Matrix::Full).iter().map(ToString::to_string).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn versions_are_read_with_and_without_a_distribution_s_suffix() {
        assert_eq!(parse_version("QEMU emulator version 7.2.22 (Debian 1:7.2)"), Some((7, 2)));
        assert_eq!(parse_version("QEMU emulator version 11.1.3\n"), Some((11, 1)));
        assert_eq!(parse_version("hello"), None);
    }

    #[test]
    fn each_qemu_of_several_has_machines_of_its_own() {
        let qemu = |path: &str, version: (u32, u32)| Qemu {
            path: path.into(),
            version,
            name: format!("qemu{}.{}", version.0, version.1),
        };
        let mut all = [qemu("/a", (7, 2)), qemu("/b", (10, 0)), qemu("/c", (7, 2))];
        tell_apart(&mut all);
        let machines = Machine::under_each(Matrix::Quick, &all);
        let names: Vec<_> = machines.iter().map(ToString::to_string).collect();
        let base = "cortex-a72-gic2-smp2";
        assert_eq!(names[0], format!("{base}-qemu7.2"));
        assert_eq!(names[2], format!("{base}-qemu10.0"));
        assert_eq!(names[4], format!("{base}-qemu7.2.2"));
        assert_eq!(machines[2].flags(), " --qemu /b");
        assert_eq!(Machine::under_each(Matrix::Quick, &all[..1])[0].to_string(), base);
    }

    #[test]
    fn a_misspelt_name_finds_the_nearest() {
        let known = ["aa-fault", "leaf-kfunc"];
        assert_eq!(nearest("aa-falt", known.into_iter()), Some("aa-fault"));
        assert_eq!(nearest("zzz", known.into_iter()), None);
        assert_eq!(nearest("fun-deal", known.into_iter()), None);
    }
}

//! The whole command line in one place. Doc comments are the help.

use std::io;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Results of `cargo xtask explore`, below the project's root.
pub const DEFAULT_RESULTS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../target/faultline/explore.jsonl");

/// Boots the Faultline kernel on QEMU, plays races of the catalogue, tests, debugs.
#[derive(Parser, Debug)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = false)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Play scenarios in a guest and tell their story (default: aa-fault)
    Qemu(Qemu),
    /// Run races under every schedule, or many; say which loses, and how
    Explore(Explore),
    /// Run the host tests, then every guest test and scenario
    Test(Test),
    /// Break the harness on purpose in every way that could make it green, and see it notice
    Selftest(Selftest),
    /// Count what operations cost, and measure how fast the lab explores
    Bench(Bench),
    /// Ask Arm's formal model what the architecture allows: the litmus tests, under herd7
    Litmus(Litmus),
    /// Run the protocols under model checkers: loom (every execution) and shuttle (random ones)
    Proof(Proof),
    /// Debug a scenario or test: guest halted, gdb-multiarch attached
    Gdb(Gdb),
    /// Say what is there, what is missing, what would be done; change nothing
    Doctor(Doctor),
    /// Format, clippy on host and target, documentation, house rules
    Lint(Lint),
}

/// Where the kernel's toolchain comes from, and whether to fetch what is missing.
#[derive(Args, Clone, Debug)]
pub struct Setup {
    /// Never install anything; say what is missing and how to get it
    #[arg(long)]
    pub no_install: bool,
    /// Take this toolchain for the kernel instead of the first that works
    #[arg(long, value_enum)]
    pub toolchain: Option<ToolchainChoice>,
    /// The QEMU to use; `test` takes several, and tests every machine under each
    #[arg(long, value_name = "PATH", value_parser = program)]
    pub qemu: Vec<PathBuf>,
}

/// The ways to build for the bare-metal target.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub enum ToolchainChoice {
    /// The active rustc has the target, or rustup adds it
    Rustup,
    /// The active toolchain's rust-src, core built on the way
    RustSrc,
    /// Debian's rustc-web and rust-web-src, core built on the way
    Debian,
}

/// The virtual machine.
#[derive(Args, Clone, Debug)]
pub struct Virt {
    /// CPUs, 1 to 8
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub smp: u8,
    /// CPU model, as QEMU names it
    #[arg(long, value_name = "MODEL", default_value = "cortex-a72")]
    pub cpu: String,
    /// Version of the interrupt controller
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=3))]
    pub gic: u8,
    /// Memory, as QEMU takes it (32M and more)
    #[arg(long, value_name = "SIZE", default_value = "128M")]
    pub mem: String,
    /// Enter the kernel at EL2 (virtualization=on)
    #[arg(long)]
    pub el2: bool,
    /// Start the kernel as an ELF or as a flat arm64 Image
    #[arg(long, value_enum, default_value_t = ImageKind::Elf)]
    pub image: ImageKind,
    /// Build the kernel optimised (the default)
    #[arg(long, overrides_with = "debug")]
    pub release: bool,
    /// Build the kernel unoptimised, with overflow checks
    #[arg(long, overrides_with = "release")]
    pub debug: bool,
}

/// How QEMU is given the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Debug)]
pub enum ImageKind {
    /// The ELF, entered as bare metal
    Elf,
    /// The flat Image, by the Linux boot protocol
    Flat,
}

/// `cargo xtask qemu`
#[derive(Args, Debug)]
pub struct Qemu {
    /// Scenarios or tests to play; NAME also selects NAME.*
    pub scenarios: Vec<String>,
    /// Protocol variant, as --list shows them
    #[arg(long, default_value = "default")]
    pub variant: String,
    /// Seconds of silence after which the guest is taken for hung (default: as long as 60 boots
    /// take on the machine as it is then)
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: Option<u64>,
    /// List scenarios with their variants and exit
    #[arg(long)]
    pub list: bool,
    /// Start the guest halted with gdb attached (as `cargo xtask gdb`)
    #[arg(long)]
    pub gdb: bool,
    /// A program of one's own.
    #[command(flatten)]
    pub prog: Prog,
    /// The machine.
    #[command(flatten)]
    pub virt: Virt,
    /// The toolchain.
    #[command(flatten)]
    pub setup: Setup,
    /// Further arguments for QEMU, after --
    #[arg(last = true, value_name = "QEMU ARGS")]
    pub qemu_args: Vec<String>,
}

/// A program of one's own, for `cargo xtask qemu`.
#[derive(Args, Clone, Default, Debug)]
pub struct Prog {
    /// Run this eBPF object (`clang -target bpf -mcpu=v4 -O2 -g`) in place of a scenario
    #[arg(long, value_name = "FILE", conflicts_with_all = ["scenarios", "list", "gdb"])]
    pub prog: Option<PathBuf>,
    /// Tracepoint to attach it to: mm_page_alloc, mm_page_free, sched_tick (default: its section's)
    #[arg(long, value_name = "TRACEPOINT", requires = "prog")]
    pub attach: Option<String>,
    /// Pages of its arena (default: max_entries of its map)
    #[arg(long, value_name = "N", requires = "prog", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub arena_pages: Option<u32>,
    /// Instructions that a run may execute (default: 1000000)
    #[arg(long, value_name = "N", requires = "prog", value_parser = clap::value_parser!(u64).range(1..=bpf::image::MAX_BUDGET))]
    pub budget: Option<u64>,
}

/// The CPU model of explorations: one that manages dirty state, or `dirty-lost` could not be run.
pub const EXPLORED_CPU: &str = "neoverse-n1";

/// `cargo xtask explore`
#[derive(Args, Clone, Debug)]
pub struct Explore {
    /// Races to explore; NAME also selects NAME.* (default: all)
    pub scenarios: Vec<String>,
    /// Explore under this protocol variant only (default: `default` and all that the race names)
    #[arg(long, value_name = "V")]
    pub variant: Option<String>,
    /// Which schedules are run
    #[arg(long, value_enum, default_value_t = Mode::Dfs)]
    pub mode: Mode,
    /// Preemptions that a schedule of dfs may have; changes of priority of one of pct
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub bound: u32,
    /// Schedules of random and pct (default: 10000), or repetitions of --schedule (default: 1)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Run this one schedule, as a token says it (a6b8a)
    #[arg(long, value_name = "TOKEN", conflicts_with_all = ["mode", "shard", "time"])]
    pub schedule: Option<String>,
    /// Seed of random and pct
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Run part I (from 0) of N; the parts together are the whole
    #[arg(long, value_name = "I/N", default_value = "0/1", value_parser = shard)]
    pub shard: String,
    /// Stop the exploration of each race under each variant after this many seconds, unfinished
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..))]
    pub time: Option<u64>,
    /// States remembered, by which dfs knows equivalent schedules; 0: run all
    #[arg(long, value_name = "N", default_value_t = 1 << 16)]
    pub states: u64,
    /// CPUs of the machine, 1 to 8 (default: as many as the race has actors)
    #[arg(long, alias = "cpus", value_parser = clap::value_parser!(u8).range(1..=8))]
    pub smp: Option<u8>,
    /// CPU model, as QEMU names it
    #[arg(long, value_name = "MODEL", default_value = EXPLORED_CPU)]
    pub cpu: String,
    /// Version of the interrupt controller
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=3))]
    pub gic: u8,
    /// Run each CPU of the guest in a thread of its own (slower: one runs at a time)
    #[arg(long)]
    pub mttcg: bool,
    /// Where results are kept, one line of JSON for each part that is through
    #[arg(long, value_name = "FILE", value_parser = file, default_value = DEFAULT_RESULTS)]
    pub json: PathBuf,
    /// Run what the results have already, too
    #[arg(long)]
    pub fresh: bool,
    /// Run nothing; print one table of these results
    #[arg(long, value_name = "FILE", num_args = 1.., value_parser = file, conflicts_with = "scenarios")]
    pub merge: Vec<PathBuf>,
    /// Write what happened in the schedule, or in the first that lost, to this file
    #[arg(long, value_name = "FILE", value_parser = file)]
    pub trace: Option<PathBuf>,
    /// For whom: the Perfetto UI, or the break-before-make checker casemate
    #[arg(long, value_enum, default_value_t = TraceFormat::Perfetto, requires = "trace")]
    pub trace_format: TraceFormat,
    /// The toolchain.
    #[command(flatten)]
    pub setup: Setup,
}

/// Which schedules an exploration runs.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub enum Mode {
    /// All within the bound, depth first
    Dfs,
    /// Uniformly random ones
    Random,
    /// Random ones by priorities
    Pct,
}

/// The forms of a trace.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub enum TraceFormat {
    /// Chrome's JSON, as ui.perfetto.dev reads it
    Perfetto,
    /// casemate's records, registers and TLBIs under their names at EL1
    Casemate,
    /// The same under the names at EL2, which casemate 3 knows
    CasemateEl2,
}

/// `cargo xtask test`
#[derive(Args, Clone, Debug)]
pub struct Test {
    /// Run only tests whose name (machine/suite/test) contains this; the host tests are left out
    pub filter: Option<String>,
    /// Take the filter for a whole test name, or a whole machine/suite/test
    #[arg(long, requires = "filter")]
    pub exact: bool,
    /// Run only this suite
    #[arg(long, value_name = "NAME")]
    pub suite: Option<String>,
    /// Run only on this machine
    #[arg(long, value_name = "NAME")]
    pub machine: Option<String>,
    /// Run only tests of this kind
    #[arg(long, value_parser = ["guest", "harness", "litmus", "gdb", "scenario", "variant", "oops", "deadlock", "smp"])]
    pub label: Option<String>,
    /// Run what failed in the last run
    #[arg(long)]
    pub failed: bool,
    /// Run everything this many times
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: Option<u32>,
    /// Repeat until something fails (at most --repeat times, if that is given)
    #[arg(long)]
    pub until_fail: bool,
    /// Shuffle the guest's tests by this number, and draw the random ones from it; round n of a
    /// repetition takes the number plus n - 1
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Run the random tests for as long as they should be run now and then, not at every change
    #[arg(long)]
    pub long: bool,
    /// Tell how long each boot took to its first line, its verdict and its exit
    #[arg(long)]
    pub timings: bool,
    /// List the tests and exit
    #[arg(long)]
    pub list: bool,
    /// Have Perl's prove and Linux's kunit.py judge every log too; a disagreement is a failure
    #[arg(long)]
    pub judges: bool,
    /// Which machines
    #[arg(long, value_enum, default_value_t = Matrix::Quick)]
    pub matrix: Matrix,
    /// Seconds of silence after which a test is taken for hung (default: as long as 60 boots take
    /// on the machine as it is then)
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: Option<u64>,
    /// The toolchain.
    #[command(flatten)]
    pub setup: Setup,
}

/// `cargo xtask bench`
#[derive(Args, Debug)]
pub struct Bench {
    /// Only benchmarks whose name contains this
    pub filter: Option<String>,
    /// Also write the figures here, as JSON
    #[arg(long, value_name = "FILE", value_parser = file)]
    pub json: Option<PathBuf>,
    /// Compare with the figures in this file, which --json wrote; exit 1 if a count is worse
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// By how much a count may be worse than the baseline's
    #[arg(long, value_name = "PERCENT", default_value_t = 2, requires = "baseline")]
    pub percent: u64,
    /// Also draw cost against size here, as SVG
    #[arg(long, value_name = "FILE.svg", value_parser = file)]
    pub plot: Option<PathBuf>,
    /// The toolchain.
    #[command(flatten)]
    pub setup: Setup,
}

/// `cargo xtask litmus`
#[derive(Args, Debug)]
pub struct Litmus {
    /// Only tests whose name contains this
    pub filter: Option<String>,
    /// The herd7 to use, instead of the one on the path or Debian's
    #[arg(long, value_name = "PATH", value_parser = program)]
    pub herd7: Option<PathBuf>,
    /// Never fetch anything; without a herd7 the tests are skipped
    #[arg(long)]
    pub no_install: bool,
}

/// `cargo xtask proof`
#[derive(Args, Debug)]
pub struct Proof {
    /// Only proofs whose name contains this
    pub filter: Option<String>,
    /// As far as they should be followed now and then: 5 preemptions, 100,000 random schedules each
    #[arg(long)]
    pub long: bool,
}

/// `cargo xtask selftest`
#[derive(Args, Debug)]
pub struct Selftest {
    /// Only the breaks whose name contains this
    pub filter: Option<String>,
    /// The toolchain.
    #[command(flatten)]
    pub setup: Setup,
}

/// Sets of machines.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub enum Matrix {
    /// cortex-a72 with GICv2 and 2 CPUs; max with GICv3 and 4 CPUs
    Quick,
    /// Also cortex-a53, neoverse-n1, 1 and 8 CPUs, EL2 entry, flat Image, debug build
    Full,
}

/// `cargo xtask gdb`
#[derive(Args, Debug)]
pub struct Gdb {
    /// Scenario or test to debug, stopped at every abort
    #[arg(default_value = "aa-fault")]
    pub scenario: String,
    /// Run this test (NAME or NAME@VARIANT) to where it fails: claim, oops, deadlock or panic
    #[arg(long, value_name = "NAME", conflicts_with = "batch")]
    pub test: Option<String>,
    /// Print a .vscode/launch.json that does the same, and exit
    #[arg(long)]
    pub vscode: bool,
    /// Protocol variant
    #[arg(long, default_value = "default")]
    pub variant: String,
    /// Interleave the CPUs of a race by this token
    #[arg(long, value_name = "TOKEN")]
    pub schedule: Option<String>,
    /// Run this gdb script instead of a session, and exit with gdb's code
    #[arg(long, value_name = "FILE", value_parser = file)]
    pub batch: Option<PathBuf>,
    /// The machine.
    #[command(flatten)]
    pub virt: Virt,
    /// The toolchain.
    #[command(flatten)]
    pub setup: Setup,
}

/// `cargo xtask doctor`
#[derive(Args, Debug)]
pub struct Doctor {
    /// The toolchain.
    #[command(flatten)]
    pub setup: Setup,
}

/// `cargo xtask lint`
#[derive(Args, Debug)]
pub struct Lint {
    /// The toolchain.
    #[command(flatten)]
    pub setup: Setup,
}

/// `I/N` with I below N.
fn shard(text: &str) -> Result<String, String> {
    let parts = text.split_once('/').and_then(|(index, of)| {
        Some((index.parse::<u32>().ok()?, of.parse::<u32>().ok()?)).filter(|(i, of)| i < of)
    });
    let (index, of) = parts.ok_or("a part is I/N with I from 0 to N - 1, as in 0/4")?;
    Ok(format!("{index}/{of}"))
}

/// A file as named from the folder in which the command was given, which is left afterwards.
fn file(text: &str) -> io::Result<PathBuf> {
    std::path::absolute(text)
}

/// A program: a name to be looked for, or a file.
fn program(text: &str) -> io::Result<PathBuf> {
    if text.contains('/') { file(text) } else { Ok(text.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_from_where_the_command_is_given_programs_by_name() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(file("a.gdb").unwrap(), here.join("a.gdb"));
        assert_eq!(program("./qemu").unwrap(), here.join("qemu"));
        assert_eq!(program("qemu-system-aarch64").unwrap(), PathBuf::from("qemu-system-aarch64"));
    }
}

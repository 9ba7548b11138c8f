//! Faultline's host tool. `cargo xtask help` lists the commands.
//!
//! Every stage is a function from a value to a value; QEMU, the file system and the terminal are
//! touched at the edges: [`guest`], [`toolchain`], [`install`], [`report`].
#![forbid(unsafe_code)]

mod calibrate;
mod cli;
mod command;
mod exit;
mod guest;
mod hang;
mod image;
mod install;
mod interrupt;
mod items;
mod judge;
mod libtest;
mod machine;
mod ordering;
mod prog;
mod qmp;
mod record;
mod report;
mod run;
mod session;
mod symbol;
mod tidy;
mod toolchain;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use clap::error::ErrorKind;

use cli::{Cli, Command};
use exit::Exit;

/// No command at all: the whole help is the answer.
const NO_COMMAND: ErrorKind = ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && error.kind() != NO_COMMAND => {
            // What is wrong and the tip, on one line; the rest is usage that nobody asked for.
            let text = error.to_string();
            let tip = text.lines().find_map(|line| line.trim().strip_prefix("tip: "));
            let what = text.lines().next().unwrap_or("error: wrong usage");
            eprintln!("{what}{}", tip.map_or(String::new(), |tip| format!(" ({tip})")));
            return Exit::Usage.into();
        }
        Err(error) => {
            // Help, for which clap knows the stream.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Passed }.into();
        }
    };
    interrupt::install();
    match go_to_root().and_then(|()| dispatch(&cli.command)) {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            Exit::Usage.into()
        }
    }
}

/// To the workspace's root, whatever folder cargo was called in: `target/` is there.
fn go_to_root() -> anyhow::Result<()> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    std::env::set_current_dir(root).with_context(|| format!("{root} cannot be entered"))
}

fn dispatch(command: &Command) -> anyhow::Result<Exit> {
    match command {
        Command::Qemu(options) => command::qemu::run(options),
        Command::Explore(options) => command::explore::run(options),
        Command::Test(options) => command::test::run(options),
        Command::Bench(options) => command::bench::run(options),
        Command::Litmus(options) => command::litmus::run(options),
        Command::Proof(options) => command::proof::run(options),
        Command::Selftest(options) => command::selftest::run(options),
        Command::Gdb(options) => command::gdb::run(options),
        Command::Doctor(options) => command::doctor::run(options),
        Command::Lint(options) => command::lint::run(options),
    }
}

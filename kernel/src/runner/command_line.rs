//! The kernel command line: `key=value` words from the device tree's `bootargs`.

use core::fmt;

use super::item::Item;
use crate::lab::{self, variant};

/// What the command line asks for.
#[derive(Clone, Copy, Debug)]
pub struct CommandLine {
    /// Comma-separated item names.
    pub run: &'static str,
    /// Protocol variant.
    pub variant: &'static str,
    /// Whether scenarios tell their story.
    pub story: bool,
    /// Whether the run ends by semihosting.
    pub semihosting: bool,
    /// How races are explored.
    pub lab: lab::options::Options,
    /// Faults to inject, for the harness's own tests.
    pub inject: &'static str,
}

/// Why a command line was refused.
#[derive(Clone, Copy, Debug)]
pub enum Error {
    /// A word without `=`, or a key that means nothing here.
    Unknown(&'static str),
    /// A value that the key cannot have.
    Value(&'static str),
    /// No item of this name.
    Item(&'static str),
    /// No variant of this name.
    Variant(&'static str),
}

impl CommandLine {
    const DEFAULT: Self = Self {
        run: "aa-fault",
        variant: "default",
        story: false,
        semihosting: false,
        lab: lab::options::Options::DEFAULT,
        inject: "",
    };

    /// Parses and checks every word.
    ///
    /// # Errors
    /// The first word that is wrong, and what was understood besides it.
    pub fn parse(text: &'static str) -> (Self, Result<(), Error>) {
        let mut line = Self::DEFAULT;
        let mut outcome = Ok(());
        for word in text.split_ascii_whitespace() {
            outcome = outcome.and(line.take(word));
        }
        (line, outcome.and_then(|()| line.check()))
    }

    /// The items to run, in the order named.
    pub fn items(&self) -> impl Iterator<Item = Option<&'static Item>> + Clone + use<> {
        let run: &'static str = self.run;
        run.split(',').map(Item::find)
    }

    fn take(&mut self, word: &'static str) -> Result<(), Error> {
        let (key, value) = word.split_once('=').ok_or(Error::Unknown(word))?;
        let bad = || Error::Value(word);
        match key {
            "run" => self.run = value,
            "variant" => self.variant = value,
            "story" => self.story = flag(value).ok_or_else(bad)?,
            "inject" if super::inject::is_known(value) => self.inject = value,
            "inject" => return Err(bad()),
            "exit" => match value {
                "semihosting" => self.semihosting = true,
                "psci" => self.semihosting = false,
                _ => return Err(bad()),
            },
            _ => match self.lab.take(key, value) {
                Some(true) => {}
                Some(false) => return Err(bad()),
                None => return Err(Error::Unknown(word)),
            },
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        if let Some(name) = self.run.split(',').find(|name| Item::find(name).is_none()) {
            return Err(Error::Item(name));
        }
        if variant::find(self.variant).is_none() {
            return Err(Error::Variant(self.variant));
        }
        Ok(())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(word) => write!(f, "{word:?} is no known key=value"),
            Self::Value(word) => write!(f, "{word:?} has a value that the key cannot have"),
            Self::Item(name) => write!(f, "no test or scenario is called {name:?}"),
            Self::Variant(name) => write!(f, "no protocol variant is called {name:?}"),
        }
    }
}

fn flag(value: &str) -> Option<bool> {
    match value {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

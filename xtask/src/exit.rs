//! What a command comes to, as an exit code.

use std::fmt;
use std::process::ExitCode;

/// The exit codes of every command that runs a guest. When several apply, the highest of 5, 4, 3
/// and 1 is the run's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Exit {
    /// All passed.
    Passed = 0,
    /// A test failed.
    Failed = 1,
    /// Wrong usage, or the environment lacks something.
    Usage = 2,
    /// The guest crashed: oops or panic.
    Crashed = 3,
    /// The guest hung: a deadline passed.
    Hung = 4,
    /// No verdict: nothing matched or ran, or the log cannot be believed.
    NoVerdict = 5,
}

impl Exit {
    /// The exit that a process ended with; `None` for a code of nobody's.
    pub fn from_code(code: i32) -> Option<Self> {
        let all =
            [Self::Passed, Self::Failed, Self::Usage, Self::Crashed, Self::Hung, Self::NoVerdict];
        all.into_iter().find(|exit| *exit as i32 == code)
    }

    /// The verdict of two parts of one run.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        self.max(other)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Usage => "could not be run",
            Self::Crashed => "crashed",
            Self::Hung => "hung",
            Self::NoVerdict => "gave no verdict",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worse_of_two_parts_is_the_run_s() {
        assert_eq!(Exit::Passed.and(Exit::Failed), Exit::Failed);
        assert_eq!(Exit::NoVerdict.and(Exit::Hung), Exit::NoVerdict);
        assert_eq!(Exit::Passed.and(Exit::Passed), Exit::Passed);
    }
}

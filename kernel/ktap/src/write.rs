//! The writer: one method a line, each handed on as a whole.

use core::fmt::{self, Arguments, Display, Write};

/// The first line of a log and of every subtest.
pub const HEADER: &str = "KTAP version 1";

/// Indentation of what belongs to a subtest.
pub const INDENT: &str = "    ";

/// Where lines go. A line is complete and holds no newline.
pub trait Lines {
    /// Emits one line.
    fn line(&mut self, line: Arguments<'_>);
}

/// What a test came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict<'a> {
    /// `ok`
    Ok,
    /// `not ok`
    NotOk,
    /// `ok` with `# SKIP` and the reason.
    Skip(&'a str),
}

impl<F: FnMut(Arguments<'_>)> Lines for F {
    fn line(&mut self, line: Arguments<'_>) {
        self(line);
    }
}

/// The header and the plan of a log of `suites` suites: its first two lines.
pub fn open(out: &mut impl Lines, suites: usize) {
    out.line(format_args!("{HEADER}"));
    out.line(format_args!("1..{suites}"));
}

/// The beginning of a suite of `tests` tests.
pub fn begin_suite(out: &mut impl Lines, name: &str, tests: usize) {
    out.line(format_args!("{INDENT}{HEADER}"));
    out.line(format_args!("{INDENT}# Subtest: {}", Name(name)));
    out.line(format_args!("{INDENT}1..{tests}"));
}

/// The result of the test numbered `number`, from 1, of a suite.
pub fn result(out: &mut impl Lines, number: usize, name: &str, verdict: Verdict<'_>) {
    let name = Name(name);
    match verdict {
        Verdict::Ok => out.line(format_args!("{INDENT}ok {number} {name}")),
        Verdict::NotOk => out.line(format_args!("{INDENT}not ok {number} {name}")),
        Verdict::Skip(why) => {
            out.line(format_args!("{INDENT}ok {number} {name} # SKIP {}", Name(why)));
        }
    }
}

/// The result of the suite numbered `number`, from 1.
pub fn suite_result(out: &mut impl Lines, number: usize, name: &str, ok: bool) {
    let verdict = if ok { "ok" } else { "not ok" };
    out.line(format_args!("{verdict} {number} {}", Name(name)));
}

/// A diagnostic inside a suite. One line: control characters become spaces.
pub fn diagnostic(out: &mut impl Lines, text: Arguments<'_>) {
    out.line(format_args!("{INDENT}# {}", Plain(text)));
}

/// A diagnostic of the whole log.
pub fn remark(out: &mut impl Lines, text: Arguments<'_>) {
    out.line(format_args!("# {}", Plain(text)));
}

/// A name as KTAP can carry it: `#` would begin a directive, a control character a new line.
struct Name<'a>(&'a str);

/// Text on one line.
struct Plain<'a>(Arguments<'a>);

/// Replaces what must not come through.
struct Filter<'a, 'f> {
    out: &'a mut fmt::Formatter<'f>,
    hash: bool,
}

impl Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Filter { out: f, hash: true }.write_str(self.0)
    }
}

impl Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Filter { out: f, hash: false }.write_fmt(self.0)
    }
}

impl Write for Filter<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| {
            let replaced = match c {
                '#' if self.hash => '_',
                c if c.is_control() => ' ',
                c => c,
            };
            self.out.write_char(replaced)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::vec::Vec;

    fn lines(write: impl FnOnce(&mut dyn FnMut(Arguments<'_>))) -> Vec<String> {
        let mut all = Vec::new();
        write(&mut |line: Arguments<'_>| all.push(std::format!("{line}")));
        all
    }

    #[test]
    fn a_suite_is_written_as_the_dialect_says() {
        let all = lines(|mut out| {
            open(&mut out, 1);
            begin_suite(&mut out, "scenario", 2);
            diagnostic(&mut out, format_args!("| a story"));
            result(&mut out, 1, "aa-fault", Verdict::Ok);
            result(&mut out, 2, "two-faulters", Verdict::Skip("needs more CPUs"));
            suite_result(&mut out, 1, "scenario", true);
        });
        assert_eq!(
            all,
            [
                "KTAP version 1",
                "1..1",
                "    KTAP version 1",
                "    # Subtest: scenario",
                "    1..2",
                "    # | a story",
                "    ok 1 aa-fault",
                "    ok 2 two-faulters # SKIP needs more CPUs",
                "ok 1 scenario",
            ]
        );
    }

    #[test]
    fn no_name_or_text_can_break_a_line_or_begin_a_directive() {
        let all = lines(|mut out| {
            result(&mut out, 1, "a # SKIP b\nok 2", Verdict::NotOk);
            result(&mut out, 2, "c", Verdict::Skip("needs\nok 3 # more"));
            diagnostic(&mut out, format_args!("one\r\n{}", "ok 1 two # kept"));
            remark(&mut out, format_args!("three\n{}", 4));
        });
        assert_eq!(
            all,
            [
                "    not ok 1 a _ SKIP b ok 2",
                "    ok 2 c # SKIP needs ok 3 _ more",
                "    # one  ok 1 two # kept",
                "# three 4",
            ]
        );
    }
}

//! What can be run: the record by which the image lists a test or scenario, the context it runs
//! in, and how it says that a claim does not hold.

use alloc::format;
use alloc::string::String;
use core::fmt;

use super::report;
use crate::lab;

/// A record in the image's list of items. The host reads the list from the ELF without booting, so
/// the layout is fixed: see `ktap::item`.
#[repr(C)]
pub struct Item {
    name: Str,
    suite: Str,
    about: Str,
    expect: Str,
    variants: *const Variant,
    variant_count: usize,
    min_cpus: u64,
    timeout_ms: u64,
    run: fn(&Ctx) -> Outcome,
    explored: u64,
}

/// A protocol variant that an item can be run under, and what must come of it.
#[repr(C)]
pub struct Variant {
    name: Str,
    about: Str,
    expect: Str,
}

/// A `&'static str` with a layout that the host knows.
#[repr(C)]
struct Str {
    start: *const u8,
    length: usize,
}

// SAFETY: all pointers are made from `&'static` references, which may be shared.
unsafe impl Sync for Item {}
// SAFETY: as above.
unsafe impl Sync for Variant {}

/// What a run of an item came to.
pub type Outcome = Result<(), Failure>;

/// Why an item did not pass.
pub enum Failure {
    /// A claim does not hold; the text says which, with the values seen.
    Claim(String),
    /// The item cannot be run on this machine.
    Skip(&'static str),
}

/// What an item knows of the run.
pub struct Ctx {
    /// Name of the protocol variant.
    pub(super) variant: &'static str,
    /// Whether to tell the story.
    pub(super) story: bool,
    /// How races are explored.
    pub(super) lab: lab::options::Options,
}

/// Everything that an `item!` says, as written.
pub struct Declaration {
    /// See [`Item`].
    pub name: &'static str,
    /// The topic, or `scenario`.
    pub suite: &'static str,
    /// One sentence.
    pub about: &'static str,
    /// Empty, or how the run must end (`oops: ...`, `deadlock: ...`).
    pub expect: &'static str,
    /// Variants that must be caught.
    pub variants: &'static [Variant],
    /// CPUs without which it is skipped.
    pub min_cpus: u64,
    /// Whether it is a race, which `cargo xtask explore` runs under many schedules.
    pub explored: bool,
    /// The function.
    pub run: fn(&Ctx) -> Outcome,
}

const _: () = {
    assert!(size_of::<Item>() == ktap::item::RECORD_BYTES);
    assert!(size_of::<Variant>() == ktap::item::VARIANT_BYTES);
};

impl Declaration {
    /// What a declaration says if it does not.
    pub const DEFAULT: Self = Self {
        name: "",
        suite: "",
        about: "",
        expect: "",
        variants: &[],
        min_cpus: 1,
        explored: false,
        run: |_| Ok(()),
    };
}

impl Item {
    /// The record of a declaration.
    pub const fn new(declaration: Declaration) -> Self {
        Self {
            name: Str::new(declaration.name),
            suite: Str::new(declaration.suite),
            about: Str::new(declaration.about),
            expect: Str::new(declaration.expect),
            variants: declaration.variants.as_ptr(),
            variant_count: declaration.variants.len(),
            min_cpus: declaration.min_cpus,
            timeout_ms: 0,
            run: declaration.run,
            explored: declaration.explored as u64,
        }
    }

    /// Every item of the image, in link order.
    pub fn all() -> &'static [Self] {
        // SAFETY: bounds that linker.ld defines; only their addresses are used.
        unsafe extern "C" {
            static __items_start: u8;
            static __items_end: u8;
        }
        let start = (&raw const __items_start).cast::<Self>();
        let end = (&raw const __items_end).cast::<Self>();
        // SAFETY: linker.ld bounds the section with these symbols, and `item!` puts nothing into
        // it but statics of type `Item`, whose size is a multiple of their alignment.
        unsafe { core::slice::from_raw_parts(start, end.offset_from(start) as usize) }
    }

    /// The item called `name`.
    pub fn find(name: &str) -> Option<&'static Self> {
        Self::all().iter().find(|item| item.name() == name)
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name.as_str()
    }

    /// Its suite.
    pub fn suite(&self) -> &'static str {
        self.suite.as_str()
    }

    /// CPUs that it needs.
    pub fn min_cpus(&self) -> u64 {
        self.min_cpus
    }

    /// Whether it says that it is explored.
    pub fn is_explored(&self) -> bool {
        self.explored != 0
    }

    /// Runs it.
    pub fn run(&self, ctx: &Ctx) -> Outcome {
        (self.run)(ctx)
    }
}

/// A variant that an item must catch: `expect` says how.
pub const fn variant(name: &'static str, about: &'static str, expect: &'static str) -> Variant {
    Variant { name: Str::new(name), about: Str::new(about), expect: Str::new(expect) }
}

impl Str {
    const fn new(text: &'static str) -> Self {
        Self { start: text.as_ptr(), length: text.len() }
    }

    fn as_str(&self) -> &'static str {
        // SAFETY: `new` took both from one `&'static str`.
        unsafe {
            core::str::from_utf8_unchecked(core::slice::from_raw_parts(self.start, self.length))
        }
    }
}

impl Ctx {
    /// The name of the run's protocol variant.
    pub fn variant(&self) -> &'static str {
        self.variant
    }

    /// How races are explored.
    pub fn lab(&self) -> &lab::options::Options {
        &self.lab
    }

    /// The same without a story, for the parts of an item that repeat.
    pub fn without_story(&self) -> Self {
        Self { story: false, ..*self }
    }

    /// Tells a line of the story, if the run wants one.
    pub fn story(&self, line: fmt::Arguments<'_>) {
        if self.story {
            report::diagnostic(format_args!("| {line}"));
        }
    }

    /// Notes a figure in the log.
    pub fn note(&self, line: fmt::Arguments<'_>) {
        report::diagnostic(line);
    }
}

impl Failure {
    /// A claim that does not hold. Every failure is made here: the symbol is part of the interface
    /// to debuggers, and a breakpoint on it stops in the frame of the claim.
    #[cold]
    #[inline(never)]
    #[unsafe(export_name = "claim_failed")]
    pub fn new(text: String) -> Self {
        Self::Claim(text)
    }

    /// For `map_err`: an operation that had to succeed and did not.
    pub fn of<E: fmt::Display>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::new(format!("{what}: {error}"))
    }

    /// [`Failure::of`] for errors that are only `Debug`.
    pub fn of_debug<E: fmt::Debug>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::new(format!("{what}: {error:?}"))
    }
}

/// Declares an item: fields of [`Declaration`], any order, those left out at their default.
macro_rules! item {
    ($($field:ident: $value:expr),* $(,)?) => {
        const _: () = {
            #[used]
            #[unsafe(link_section = ".faultline.items")]
            static ITEM: $crate::runner::item::Item = {
                #[allow(clippy::needless_update, reason = "some items set every field")]
                $crate::runner::item::Item::new($crate::runner::item::Declaration {
                    $($field: $value,)*
                    ..$crate::runner::item::Declaration::DEFAULT
                })
            };
        };
    };
}

/// Returns a failure from an item unless a condition holds; the text says what was seen instead.
macro_rules! claim {
    ($holds:expr, $($text:tt)+) => {
        if !$holds {
            return Err($crate::runner::Failure::new(alloc::format!($($text)+)));
        }
    };
}

/// Leaves an item that this machine cannot run.
macro_rules! skip {
    ($why:expr) => {
        return Err($crate::runner::Failure::Skip($why))
    };
}

pub(crate) use {claim, item, skip};

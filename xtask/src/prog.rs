//! Programs that a person brings: read and linked here, and handed to the guest.

use std::path::Path;

use anyhow::{Context, Result};
use link::{Linked, Options};

use crate::cli::Prog;

/// Links the program of `options`.
///
/// # Errors
/// What is wrong with the object, or why the program would be refused, in one line.
pub fn link(options: &Prog) -> Result<Linked> {
    let path = options.prog.as_deref().context("no object file was named")?;
    let bytes =
        std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let Prog { attach, arena_pages, budget, .. } = options.clone();
    let options = Options { attach, arena_pages, budget };
    link::link(&bytes, &options).with_context(|| format!("{}", path.display()))
}

/// Where the guest is handed the image.
pub fn qemu_arguments(file: &Path) -> [String; 2] {
    ["-fw_cfg".into(), format!("name=opt/org.faultline/prog,file={}", file.display())]
}

//! What the readers of outside input promise of any bytes, one function a reader. Each returns if the
//! promise is kept and panics if it is broken.
//!
//! | function | bytes | from |
//! | --- | --- | --- |
//! | [`image::holds`] | a program image | fw_cfg |
//! | [`log::holds`] | a KTAP log | a guest's serial line |
//! | [`object::holds`] | an object of `clang -target bpf` | a file that a person brings |
//! | [`token::holds`] | a schedule's token | a command line |
//! | [`tree::holds`] | a device tree | QEMU |
//!
//! Three callers share them, so that none can drift from the others: the property tests beside each
//! function, the fuzz targets of `kernel/fuzz`, and a replay of the seeds in `seed/`, with which the
//! fuzzer begins and to which whatever it finds is added.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod image;
pub mod log;
pub mod object;
pub mod token;
pub mod tree;

#[cfg(test)]
mod damage;

/// Cases of a property. Miri is hundreds of times slower.
#[cfg(test)]
const CASES: u32 = if cfg!(miri) { 2 } else { 1000 };

/// Sees that an error is one that a person can be told: words, on one line, and not too many.
fn is_a_sentence(error: &dyn std::fmt::Display) {
    let text = error.to_string();
    let words = text.split(' ').filter(|word| !word.is_empty()).count();
    assert!(words >= 2 && text.len() <= 2000, "no sentence: {text:?}");
    assert!(!text.contains(['\n', '\r']), "more than a line: {text:?}");
}

/// Every seed of a reader keeps the promise: `seed/<reader>/*`.
#[cfg(test)]
fn replay(reader: &str, holds: fn(&[u8])) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("seed").join(reader);
    let mut seeds = 0;
    for file in std::fs::read_dir(&folder).expect("the folder of its seeds") {
        let path = file.expect("a seed").path();
        eprintln!("{}", path.display());
        holds(&std::fs::read(&path).expect("a seed that can be read"));
        seeds += 1;
    }
    assert!(seeds > 0, "no seed in {}", folder.display());
}

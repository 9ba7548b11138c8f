//! Puts the text of every litmus test that EXPECT names into the crate: a test that is added is there.

use std::fmt::Write as _;
use std::path::Path;

fn main() {
    let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo names the folder");
    let folder = Path::new(&folder);
    let verdicts = folder.join("EXPECT");
    println!("cargo:rerun-if-changed={}", verdicts.display());
    let verdicts = std::fs::read_to_string(verdicts).expect("EXPECT can be read");
    let mut code = String::from("[\n");
    for name in verdicts.lines().filter_map(|line| line.split('\t').next()) {
        let file = folder.join(format!("{name}.litmus"));
        println!("cargo:rerun-if-changed={}", file.display());
        writeln!(code, "({name:?}, include_str!({file:?})),").expect("a string takes it");
    }
    code.push(']');
    let out = std::env::var("OUT_DIR").expect("cargo names a place for it");
    std::fs::write(Path::new(&out).join("texts.rs"), code).expect("the place can be written to");
}

//! A device tree: see `outside::tree`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| outside::tree::holds(bytes));

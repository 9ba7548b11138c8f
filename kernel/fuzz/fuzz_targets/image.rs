//! A program's image: see `outside::image`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| outside::image::holds(bytes));

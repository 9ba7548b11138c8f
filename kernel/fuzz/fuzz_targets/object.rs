//! The object file of a program: see `outside::object`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| outside::object::holds(bytes));

//! The token of a schedule: see `outside::token`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| outside::token::holds(bytes));

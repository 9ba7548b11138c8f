//! A guest's log: see `outside::log`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| outside::log::holds(bytes));

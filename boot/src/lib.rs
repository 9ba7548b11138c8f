//! From reset to Rust.
#![no_std]

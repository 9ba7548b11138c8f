//! KTAP 1.
#![no_std]
#![forbid(unsafe_code)]

//! Programs: what runs under a tracepoint, with which arena, and how it ends.

pub mod kfunc;
pub mod program;
pub mod running;
pub mod tracepoint;
pub mod violation;

//! Programs: what runs under a tracepoint, with which arena, and how it ends.

pub mod blame;
pub mod bring;
pub mod bytecode;
pub mod dispatch;
pub mod kfunc;
pub mod load;
pub mod policy;
pub mod printk;
pub mod program;
pub mod running;
pub mod tracepoint;
pub mod violation;

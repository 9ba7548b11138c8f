//! Guest tests, by topic: what can only be seen on a machine.

mod arena;
mod debug;
mod exception;
mod frame;
mod fuzz;
mod lifecycle;
mod litmus;
mod lock;
mod map;
mod mix;
mod parity;
mod policy;
mod program;
mod resilient;
mod slot;
mod smp;
mod task;
pub mod walk;

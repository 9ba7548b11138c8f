//! Memory: frames, heap, the kernel's map, locks, and the machine that the arena protocols run on.

pub mod arena;
pub mod divide;
pub mod events;
pub mod fallible;
pub mod frame;
pub mod heap;
pub mod held;
pub mod kmap;
pub mod lock;
pub mod machine;
pub mod resilient;
pub mod worker;

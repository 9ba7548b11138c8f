//! The lab's broken variants of the protocol: the very files that the kernel's images are built with.
//!
//! Not here: those that need a kernel around them (user windows, kfuncs, unwinding), and `load-store-bury`,
//! which loses what only hardware writes: the lab's `dirty-lost` and the litmus test `D1` show it.

macro_rules! variants {
    ($($file:literal $module:ident $name:ident)*) => {
        $(
            #[path = $file]
            mod $module;
            pub use $module::$name;
        )*
    };
}

#[path = "../../src/lab/variant/clearing.rs"]
mod clearing;

variants! {
    "../../src/lab/variant/blind_scratch.rs" blind_scratch BlindScratch
    "../../src/lab/variant/busy.rs" busy Busy
    "../../src/lab/variant/drops_deferred.rs" drops_deferred DropsDeferred
    "../../src/lab/variant/flush_first.rs" flush_first FlushFirst
    "../../src/lab/variant/frees_scratch.rs" frees_scratch FreesScratch
    "../../src/lab/variant/frees_twice.rs" frees_twice FreesTwice
    "../../src/lab/variant/irqs_on.rs" irqs_on IrqsOn
    "../../src/lab/variant/leaks.rs" leaks Leaks
    "../../src/lab/variant/linux_7_2_order.rs" linux_7_2_order Linux72Order
    "../../src/lab/variant/load_store_clear.rs" load_store_clear LoadStoreClear
    "../../src/lab/variant/local_tlbi.rs" local_tlbi LocalTlbi
    "../../src/lab/variant/loss_is_error.rs" loss_is_error LossIsError
    "../../src/lab/variant/miscounts.rs" miscounts Miscounts
    "../../src/lab/variant/no_dsb.rs" no_dsb NoDsb
    "../../src/lab/variant/no_tlbi.rs" no_tlbi NoTlbi
    "../../src/lab/variant/no_tlbi_free.rs" no_tlbi_free NoTlbiFree
    "../../src/lab/variant/plain_spin.rs" plain_spin PlainSpin
    "../../src/lab/variant/plain_store.rs" plain_store PlainStore
    "../../src/lab/variant/trylock_retry.rs" trylock_retry TrylockRetry
}

// A checker of sequentially consistent executions cannot see this one.
#[cfg(loom)]
variants! {
    "../../src/lab/variant/relaxed_install.rs" relaxed_install RelaxedInstall
}

/// What the variants ask of the lab's engine.
pub mod engine {
    use crate::board;
    use crate::checker::thread;

    /// Lets another CPU run.
    pub fn pause() {
        assert!(board::held().is_none(), "A-A: a CPU spins for the lock that it holds");
        thread::yield_now();
    }
}

//! What Linux 7.2's own tests of arenas, streams and resilient locks assert (tools/testing/selftests/bpf),
//! claimed of this kernel: by programs in bytecode where theirs are, most of them in the manner of those,
//! which check themselves.
//!
//! | Linux | here |
//! | --- | --- |
//! | `verifier_arena`: `basic_alloc1` | `pages-are-given-until-the-arena-is-full-and-again-after-a-free` |
//! | `basic_alloc2` | `pages-beside-an-allocation-read-zero-and-take-no-store` |
//! | `basic_alloc3` | `all-pages-come-in-one-piece-or-not-at-all` |
//! | the same, not sleepable | `kernel-functions-under-the-arena-s-lock-fail-or-wait`; scenarios `aa-fault`, `deferred-free` |
//! | `basic_reserve1`, `basic_reserve2` | `a-reserved-page-is-given-to-nobody` |
//! | `reserve_twice` | `what-is-reserved-or-mapped-cannot-be-reserved` |
//! | `reserve_invalid_region` | `a-range-that-is-not-the-arena-s-cannot-be-reserved` |
//! | arguments of the kernel functions | `an-allocation-s-arguments-are-looked-at` |
//! | arithmetic on arena pointers: with numbers, with each other, with other pointers | host tests of `bpf::check`: `arithmetic_on_arena_pointers_is_free`, `kinds_are_followed` |
//! | an arena pointer as argument and as result of a function | host test `what_clang_emits_for_an_arena_program_is_let_in`; `cargo xtask qemu --prog` with `list.bpf.c` |
//! | `iter_maps1` to `3` | left out: there are no map iterators |
//! | sleepable forms | left out: no program sleeps here, all run where the tracepoint fires |
//! | `private_stack` | left out: each run of the interpreter has stacks of its own |
//! | `verifier_arena_large`: `big_alloc1` | `both-ends-of-4-gib-can-be-had-and-nothing-beyond` |
//! | `big_alloc2` | `holes-are-filled-from-the-lowest-up` |
//! | `big_alloc3` | `thousands-of-pages-come-and-go-by-one-call-each` |
//! | `access_reserved` | `a-reserved-page-is-not-mapped` |
//! | `request_partially_reserved` | `a-request-that-is-reserved-in-part-fails-as-a-whole` |
//! | `free_reserved` | `reserved-and-mapped-pages-are-freed-alike` |
//! | an arena that is filled to its last page | `all-pages-come-in-one-piece-or-not-at-all`; of 4 GiB, left out: the machine has not so much, see `a-reservation-of-256-mib-comes-back-by-one-free`, `a-request-for-too-much-keeps-no-memory` |
//! | `verifier_arena_globals1` | `globals-at-the-arena-s-start-are-allocated-pages` |
//! | `verifier_arena_globals2` | `globals-at-the-arena-s-end-are-allocated-pages` |
//! | `arena_atomics`: every operation, load-acquire, store-release | `a-program-s-atomics-do-what-they-say` |
//! | `arena_atomics`: `uaf` | the same, on pages that are not mapped |
//! | `arena_list` | `a-list-in-the-arena-is-walked-by-program-and-kernel` |
//! | `arena_htab`, `arena_htab_asm` | `a-hash-table-in-the-arena-finds-what-was-put-in` |
//! | `arena_strsearch` | `a-text-in-the-arena-is-searched-byte-by-byte` |
//! | `arena_spin_lock` | `a-lock-in-the-arena-keeps-cpus-apart` |
//! | `arena_direct_value` | `a-program-finds-its-globals` |
//! | sharing with user space | `a-task-shares-arena-pages-with-the-kernel`, `a-policy-sees-idle-cpus-and-decides-the-turns` |
//! | `mmap()`, `munmap()`, `fork()` of the window | left out: a task has the whole window from its start, and there are no such calls |
//! | `stream`: `stream_exhaust` | `a-full-stream-refuses-and-has-room-again-once-it-is-read` |
//! | `stream_cond_break` | `a-program-without-end-is-stopped-by-its-budget`; host test `may_goto_leaves_a_loop_when_its_turns_are_spent` |
//! | `stream_deadlock` | scenarios `aa-lock`, `abba`: programs take no lock but the arena's, by its functions |
//! | `stream_arena_read_fault`, `stream_arena_write_fault`, `stream_arena_subprog_fault` | `a-report-says-what-was-done-where-and-by-whom` |
//! | `stream_arena_callback_fault` | left out: there are no callbacks |
//! | `stream_syscall` | `a-stream-is-read-in-parts` |
//! | `stream_print_stack_kfunc` | `a-program-prints-its-own-stack` |
//! | `stream_print_kfuncs_locked` | `a-program-prints-under-the-arena-s-lock` |
//! | formats | `a-program-prints-on-its-streams` |
//! | `stream_fail` | `what-is-no-text-or-no-stream-is-refused-before-it-runs` |
//! | `res_spin_lock`: AA | `resilient-lock-refuses-its-own-holder`, scenario `aa-lock` |
//! | ABBA | `resilient-lock-breaks-an-abba-within-a-millisecond`, `resilient-lock-breaks-a-circle-of-four`, scenario `abba` |
//! | timeout | `resilient-lock-timeout-names-the-holder`, scenario `stuck-holder` |
//! | exclusion, under stress | `resilient-lock-excludes-other-cpus`, `resilient-lock-serves-first-come-first` |
//! | overflow of the table of held locks | `resilient-lock-refuses-its-own-holder-beyond-what-is-recorded`: there is none to overflow, a lock knows its owner |
//! | unlock out of order | `a-released-lock-leaves-the-record-in-any-order` |
//! | unlock of another lock, or of none; IRQ flags that do not match (`res_spin_lock_fail`) | left out: a guard gives back its own lock and its own DAIF, once; `resilient-lock-restores-daif-whether-given-or-refused` |

mod arena;
mod globals;
mod large;
mod reserve;
mod steps;
mod stream;
mod structures;

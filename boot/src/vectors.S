// The 16 vectors, the trap frame, and one call into Rust for each class of exception.
//
// Frame, FRAME bytes, offsets as in arch::trap::TrapFrame:
//     0 x0 to x30   248 sp   256 elr   264 spsr   272 esr   280 far   288 frame record
// The frame record (x29, elr) at the end lets a backtrace cross the exception.
//
// The path is counted in instructions: a synchronous exception from EL1 and back costs the slot
// (7), save (26), call (1), restore (20) and ERET (1): 55, beside what Rust does.

    .macro  BOOT_SAVE sp_from
    stp     x0, x1, [sp, #0]
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    .ifc    \sp_from, el0
    mrs     x1, sp_el0
    .else
    add     x1, sp, #{FRAME}
    .endif
    stp     x30, x1, [sp, #240]
    mrs     x2, elr_el1
    mrs     x3, spsr_el1
    stp     x2, x3, [sp, #256]
    mrs     x3, esr_el1
    mrs     x4, far_el1
    stp     x3, x4, [sp, #272]
    stp     x29, x2, [sp, #288]
    add     x29, sp, #288
    mov     x0, sp
    .endm

    .macro  BOOT_RESTORE sp_to
    ldp     x0, x1, [sp, #256]
    msr     elr_el1, x0
    msr     spsr_el1, x1
    .ifc    \sp_to, el0
    ldr     x1, [sp, #248]
    msr     sp_el0, x1
    .endif
    ldp     x0, x1, [sp, #0]
    ldp     x2, x3, [sp, #16]
    ldp     x4, x5, [sp, #32]
    ldp     x6, x7, [sp, #48]
    ldp     x8, x9, [sp, #64]
    ldp     x10, x11, [sp, #80]
    ldp     x12, x13, [sp, #96]
    ldp     x14, x15, [sp, #112]
    ldp     x16, x17, [sp, #128]
    ldp     x18, x19, [sp, #144]
    ldp     x20, x21, [sp, #160]
    ldp     x22, x23, [sp, #176]
    ldp     x24, x25, [sp, #192]
    ldp     x26, x27, [sp, #208]
    ldp     x28, x29, [sp, #224]
    ldr     x30, [sp, #240]
    add     sp, sp, #{FRAME}
    eret
    .endm

// A slot for an exception from EL1 on SP_EL1. SP may already be in the hole below the stack, where
// a store would fault again for ever; so SP is tested before any store, and no register is free.
// Sums keep both values: sp' = sp + x0; x0' = sp' - x0 = sp; then back.
    .macro  BOOT_SLOT_SPX target
    .balign 128
    sub     sp, sp, #{FRAME}
    add     sp, sp, x0
    sub     x0, sp, x0
    tbz     x0, #{STACK_BIT}, 1f
    sub     x0, sp, x0
    sub     sp, sp, x0
    b       \target
    // Not on a stack. Already on the emergency stack: carry on. Otherwise change to it.
    // TPIDR_EL0 and TPIDRRO_EL0 are scratch: the machine is going down.
1:  sub     x0, sp, x0
    msr     tpidrro_el0, x0
    sub     x0, sp, x0
    mov     sp, x0
    msr     tpidr_el0, x1
    mrs     x1, tpidr_el1
    ldr     x1, [x1, #{PERCPU_EMERGENCY_TOP}]
    sub     x0, x1, x0
    cmp     x0, #{EMERGENCY_STACK_SIZE}
    b.hi    boot_stack_overflow
    mrs     x1, tpidr_el0
    mrs     x0, tpidrro_el0
    b       \target
    .endm

// A slot that nothing in this kernel can reach: number for the report.
    .macro  BOOT_SLOT_UNEXPECTED number
    .balign 128
    sub     sp, sp, #{FRAME}
    BOOT_SAVE el1
    mov     x1, #\number
    b       boot_unexpected
    .endm

// A slot for an exception from EL0. Nothing is tested: a task has no say in SP_EL1.
    .macro  BOOT_SLOT_EL0 target
    .balign 128
    sub     sp, sp, #{FRAME}
    b       \target
    .endm

    .macro  BOOT_CLASS name, handler
    .type   \name, %function
\name:
    BOOT_SAVE el1
    bl      \handler
    BOOT_RESTORE el1
    .size   \name, . - \name
    .endm

// An exception from a task. SP is the end of the task's own frame, where boot_run_user left it, so
// the frame is saved in place; then boot_run_user returns to its caller with the kind.
    .macro  BOOT_CLASS_EL0 name, kind
    .type   \name, %function
\name:
    BOOT_SAVE el0
    mov     x0, #\kind
    b       boot_leave_user
    .size   \name, . - \name
    .endm

    .section .text.vectors, "ax"
    .balign 2048
    .globl  boot_vectors
boot_vectors:
    BOOT_SLOT_UNEXPECTED 0              // current EL, SP_EL0
    BOOT_SLOT_UNEXPECTED 1
    BOOT_SLOT_UNEXPECTED 2
    BOOT_SLOT_UNEXPECTED 3
    BOOT_SLOT_SPX boot_el1_sync         // current EL, SP_EL1
    BOOT_SLOT_SPX boot_el1_irq
    BOOT_SLOT_SPX boot_el1_fiq
    BOOT_SLOT_SPX boot_el1_serror
    BOOT_SLOT_EL0 boot_el0_sync         // EL0, AArch64
    BOOT_SLOT_EL0 boot_el0_irq
    BOOT_SLOT_EL0 boot_el0_fiq
    BOOT_SLOT_EL0 boot_el0_serror
    BOOT_SLOT_UNEXPECTED 12             // EL0, AArch32
    BOOT_SLOT_UNEXPECTED 13
    BOOT_SLOT_UNEXPECTED 14
    BOOT_SLOT_UNEXPECTED 15
    .balign 128
    .size   boot_vectors, . - boot_vectors

    BOOT_CLASS boot_el1_sync, trap_sync
    BOOT_CLASS boot_el1_irq, trap_irq
    BOOT_CLASS boot_el1_fiq, trap_fiq
    BOOT_CLASS boot_el1_serror, trap_serror
    BOOT_CLASS_EL0 boot_el0_sync, 0
    BOOT_CLASS_EL0 boot_el0_irq, 1
    BOOT_CLASS_EL0 boot_el0_fiq, 2
    BOOT_CLASS_EL0 boot_el0_serror, 3

// x0 = a task's frame and behind it a word for the kernel's stack pointer. Goes to EL0 as the frame
// says, and returns when an exception comes from there: x0 = its kind. See boot/src/lib.rs.
// Everything is masked from the change of SP on: an exception at EL1 would take the frame's end for
// a stack.
    .globl  boot_run_user
    .type   boot_run_user, %function
boot_run_user:
    stp     x29, x30, [sp, #-96]!
    mov     x29, sp
    stp     x19, x20, [sp, #16]
    stp     x21, x22, [sp, #32]
    stp     x23, x24, [sp, #48]
    stp     x25, x26, [sp, #64]
    stp     x27, x28, [sp, #80]
    msr     daifset, #0xf
    mov     x9, sp
    str     x9, [x0, #{FRAME}]
    mov     sp, x0
    BOOT_RESTORE el0
    .size   boot_run_user, . - boot_run_user

// SP = the task's frame, saved; x0 = the kind. What boot_run_user pushed is where it said.
    .type   boot_leave_user, %function
boot_leave_user:
    ldr     x9, [sp, #{FRAME}]
    mov     sp, x9
    ldp     x19, x20, [sp, #16]
    ldp     x21, x22, [sp, #32]
    ldp     x23, x24, [sp, #48]
    ldp     x25, x26, [sp, #64]
    ldp     x27, x28, [sp, #80]
    ldp     x29, x30, [sp], #96
    ret
    .size   boot_leave_user, . - boot_leave_user

    .type   boot_unexpected, %function
boot_unexpected:
    bl      trap_unexpected
    .size   boot_unexpected, . - boot_unexpected

// x1 = top of the emergency stack; SP = the stack pointer that ran over, less a frame;
// x0 and x1 of the interrupted code in TPIDRRO_EL0 and TPIDR_EL0.
    .type   boot_stack_overflow, %function
boot_stack_overflow:
    mov     x0, sp
    sub     sp, x1, #{FRAME}
    mrs     x1, tpidr_el0
    msr     tpidr_el0, x0
    mrs     x0, tpidrro_el0
    BOOT_SAVE el1
    mrs     x1, tpidr_el0
    add     x1, x1, #{FRAME}
    str     x1, [sp, #248]              // the frame tells the stack pointer that ran over
    bl      trap_stack_overflow
    .size   boot_stack_overflow, . - boot_stack_overflow

// What tasks run. Each begins with its argument in x0 and the arena's address, or 0, in x1, and with
// an empty stack. Position-independent: each is copied, alone, to where tasks have their code. The
// alignment keeps literals aligned there as well.

    .macro  USER_PROGRAM name
    .balign 16
    .globl  user_\name
user_\name:
    .endm

    .macro  USER_END name
    .globl  user_\name\()_end
user_\name\()_end:
    .endm

    .macro  USER_CALL number
    mov     x8, #\number
    svc     #0
    .endm

    .section .rodata.user, "a"

USER_PROGRAM hello
    mov     x19, x0
    mov     x0, #1
    adr     x1, 1f
    mov     x2, #(2f - 1f)
    USER_CALL {WRITE}
    mov     x0, x19
    USER_CALL {EXIT}
1:  .ascii  "hello from EL0"
2:  .balign 4
USER_END hello

// x1 to x29 hold a pattern made of the argument, TPIDR_EL0 the argument, the flags are all set; x30 is
// where the loop looks, so it is right if the loop ends.
USER_PROGRAM registers
    mov     x30, x1
    str     x0, [sp, #-16]!
    msr     tpidr_el0, x0
    .irp    n, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29
    add     x\n, x0, #\n
    .endr
    cmp     x1, x1
    ccmp    x1, x1, #0b1111, ne         // not ne: the flags are the immediate
1:  ldr     x0, [x30]
    cbz     x0, 1b
    mrs     x0, nzcv
    eor     x0, x0, #(0b1111 << 28)
    cbnz    x0, 3f
    .irp    n, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29
    ldr     x0, [sp]
    add     x0, x0, #\n
    cmp     x\n, x0
    mov     x0, #\n
    b.ne    2f
    .endr
    ldr     x3, ={STACK_TOP} - 16
    mov     x2, sp
    cmp     x2, x3
    mov     x0, #31
    b.ne    2f
    ldr     x1, [sp]
    mrs     x2, tpidr_el0
    cmp     x2, x1
    mov     x0, #32
    b.ne    2f
    mov     x0, #0
2:  USER_CALL {EXIT}
3:  mov     x0, #33
    b       2b
    .ltorg
USER_END registers

USER_PROGRAM remember
    ldr     x19, ={DATA}
    mov     x20, x0
    mov     x21, #100
    str     x20, [x19]
    str     x20, [sp, #-16]!
1:  USER_CALL {YIELD}
    ldr     x0, [x19]
    cmp     x0, x20
    b.ne    2f
    ldr     x0, [sp]
    cmp     x0, x20
    b.ne    2f
    subs    x21, x21, #1
    b.ne    1b
    mov     x0, #0
2:  USER_CALL {EXIT}
    .ltorg
USER_END remember

USER_PROGRAM wait
1:  ldr     x2, [x1]
    cmp     x2, x0
    b.ne    1b
    USER_CALL {EXIT}
USER_END wait

USER_PROGRAM tell
    ldr     x2, [x1]
    str     x0, [x1]
    mov     x0, x2
    USER_CALL {EXIT}
USER_END tell

USER_PROGRAM call_on
    mov     x19, x0
    mov     x20, x1
    ldr     x2, [x20]                   // the page that is looked at is there from now on
1:  mov     x0, #256
    USER_CALL {ALLOC}
    mov     x1, #256
    USER_CALL {FREE}
    ldr     x2, [x20]
    cmp     x2, x19
    b.ne    1b
    mov     x0, #0
    USER_CALL {EXIT}
USER_END call_on

USER_PROGRAM load
    ldr     x0, [x0]
    USER_CALL {EXIT}
USER_END load

// Exits with the counts that the access took, two of which are not the access's. For a kernel that lets
// EL0 read the counter.
USER_PROGRAM timed_load
    isb
    mrs     x2, cntvct_el0
    ldr     x3, [x0]
    isb
    mrs     x4, cntvct_el0
    sub     x0, x4, x2
    USER_CALL {EXIT}
USER_END timed_load

USER_PROGRAM store
    str     x0, [x0]
    mov     x0, #0
    USER_CALL {EXIT}
USER_END store

USER_PROGRAM jump
    br      x0
USER_END jump

// Two instructions for each argument.
USER_PROGRAM forbidden
    adr     x2, 1f
    add     x2, x2, x0, lsl #3
    br      x2
1:  udf     #0
    b       2f
    msr     ttbr0_el1, x0
    b       2f
    mrs     x0, sctlr_el1
    b       2f
    msr     daifset, #2
    b       2f
    .inst   0x9e670000                  // fmov d0, x0
    b       2f
    msr     cntv_ctl_el0, xzr
    b       2f
    tlbi    vmalle1
    b       2f
    brk     #1
    b       2f
    hvc     #0
    b       2f
    svc     #1
2:  mov     x0, #0
    USER_CALL {EXIT}
USER_END forbidden

USER_PROGRAM recurse
1:  str     x0, [sp, #-16]!
    b       1b
USER_END recurse

USER_PROGRAM call
    mov     x8, x0
    svc     #0
    USER_CALL {EXIT}
USER_END call

USER_PROGRAM write_from
    mov     x1, x0
    mov     x0, #1
    mov     x2, #8
    USER_CALL {WRITE}
    USER_CALL {EXIT}
USER_END write_from

USER_PROGRAM use_after_free
    mov     x19, x0
    USER_CALL {ALLOC}
    tbnz    x0, #63, 1f
    mov     x20, x0
    str     x20, [x20]
    mov     x1, x19
    USER_CALL {FREE}
    cbnz    x0, 1f
    ldr     x0, [x20]
1:  USER_CALL {EXIT}
USER_END use_after_free

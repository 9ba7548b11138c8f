// The first instructions of the image: Image header, EL2 to EL1, MMU on, jump high.
// Nothing here writes to memory until the MMU and caches are on.

    .section .text.boot, "ax"

// The arm64 Image header (Linux Documentation/arch/arm64/booting.rst).
    .globl  boot_image_header
boot_image_header:
    b       boot_entry
    .word   0
    .quad   {TEXT_OFFSET}               // from a 2 MiB boundary at the start of RAM
    .quad   __image_size                // includes bss and stacks
    .quad   0b0010                      // little endian, 4 KiB pages, near the start of RAM
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .word   0

// x0 = physical address of the device tree, or 0.
// Keeps x19 = x0, x20 = the exception level at entry.
    .globl  boot_entry
    .type   boot_entry, %function
boot_entry:
    msr     daifset, #0xf
    mov     x19, x0
    mrs     x20, CurrentEL
    ubfx    x20, x20, #2, #2
    bl      boot_enter_el1

    // Linked addresses are fixed: anywhere else the tables below would be wrong.
    adr     x1, boot_image_header
    ldr     x2, ={IMAGE_PHYS}
    cmp     x1, x2
    adr     x0, boot_msg_place
    b.ne    boot_fatal

    mrs     x1, id_aa64mmfr0_el1
    ubfx    x2, x1, #28, #4             // TGran4: 0xf = not supported
    cmp     x2, #0xf
    adr     x0, boot_msg_granule
    b.eq    boot_fatal

    and     x1, x1, #0xf                // PARange, in the encoding of TCR_EL1.IPS
    mov     x2, #{TCR_IPS_MAX}
    cmp     x1, x2
    csel    x2, x2, x1, hi
    ldr     x1, ={TCR_FIXED}
    orr     x1, x1, x2, lsl #{TCR_IPS_SHIFT}
    adrp    x0, boot_early_l0
    ldr     x2, ={SCTLR_EARLY}
    bl      boot_enable_mmu
    ldr     x1, =boot_primary_high
    br      x1

    .size   boot_entry, . - boot_entry

// For debuggers: no caller.
    .cfi_sections .debug_frame
    .type   boot_primary_high, %function
boot_primary_high:
    .cfi_startproc
    .cfi_undefined x30
    ldr     x1, =__bss_start            // both page-aligned
    ldr     x2, =__bss_end
1:  cmp     x1, x2
    b.hs    2f
    stp     xzr, xzr, [x1], #16
    b       1b
2:  mov     x0, xzr
    bl      boot_cpu_state
    mov     x0, x19
    mov     x1, x20
    bl      kernel_main                 // never returns; x29 is 0: frame records end here
    .cfi_endproc
    .size   boot_primary_high, . - boot_primary_high
    .ltorg

// x0 = index of this CPU. Stack, per-CPU block, vectors; no more walks through TTBR0.
// Clobbers x1 to x3.
    .type   boot_cpu_state, %function
boot_cpu_state:
    mrs     x1, tcr_el1
    orr     x1, x1, #{TCR_EPD0}
    msr     tcr_el1, x1
    isb
    tlbi    vmalle1
    dsb     nsh
    isb
    ldr     x1, =boot_stacks
    mov     x2, #{STACK_SLOT}
    add     x3, x0, #1
    madd    x1, x2, x3, x1
    mov     sp, x1
    ldr     x1, =kernel_percpu
    mov     x2, #{PERCPU_STRIDE}
    madd    x1, x2, x0, x1
    msr     tpidr_el1, x1
    ldr     x1, =boot_vectors
    msr     vbar_el1, x1
    isb
    mov     x29, xzr
    ret
    .size   boot_cpu_state, . - boot_cpu_state

// x0 = TTBR1, x1 = TCR, x2 = SCTLR with M set. Returns with the MMU on, in the identity map.
// Clobbers x9.
    .type   boot_enable_mmu, %function
boot_enable_mmu:
    ldr     x9, ={MAIR}
    msr     mair_el1, x9
    adrp    x9, boot_idmap_l0
    msr     ttbr0_el1, x9
    msr     ttbr1_el1, x0
    msr     tcr_el1, x1
    tlbi    vmalle1
    ic      iallu
    dsb     nsh
    isb
    msr     sctlr_el1, x2
    isb
    ret
    .size   boot_enable_mmu, . - boot_enable_mmu

// EL2 to EL1 with nothing trapped that the kernel uses; EL1 stays. Clobbers x9, x10.
    .type   boot_enter_el1, %function
boot_enter_el1:
    mrs     x9, CurrentEL
    cmp     x9, #(2 << 2)
    b.eq    1f
    adr     x0, boot_msg_el3
    b.hi    boot_fatal
    ldr     x9, ={SCTLR_OFF}
    msr     sctlr_el1, x9
    isb
    ret

1:  mov     x9, #(1 << 31)              // HCR_EL2.RW: EL1 is AArch64; no stage 2, no traps
    msr     hcr_el2, x9
    isb
    ldr     x9, ={SCTLR_OFF}
    msr     sctlr_el1, x9
    mov     x9, #0x33ff                 // CPTR_EL2: RES1 bits; FP is neither used nor trapped
    msr     cptr_el2, x9
    msr     hstr_el2, xzr
    msr     vttbr_el2, xzr
    mov     x9, #3                      // CNTHCTL_EL2: EL1PCTEN, EL1PCEN
    msr     cnthctl_el2, x9
    msr     cntvoff_el2, xzr            // virtual time = physical time
    mrs     x9, midr_el1
    msr     vpidr_el2, x9
    mrs     x9, mpidr_el1
    msr     vmpidr_el2, x9

    mrs     x9, id_aa64dfr0_el1         // MDCR_EL2.HPMN = all counters, where there is a PMU
    ubfx    x10, x9, #8, #4
    sub     x10, x10, #1
    cmp     x10, #0xe                   // PMUVer 0 and 0xf: no architected PMU
    mov     x9, xzr
    b.hs    2f
    mrs     x9, pmcr_el0
    ubfx    x9, x9, #11, #5
2:  msr     mdcr_el2, x9

    mrs     x9, id_aa64pfr0_el1         // GIC system registers: allow them to EL1
    ubfx    x9, x9, #24, #4
    cbz     x9, 3f
    mrs     x9, S3_4_C12_C9_5           // ICC_SRE_EL2
    orr     x9, x9, #1                  // SRE
    orr     x9, x9, #8                  // Enable: EL1 may use its own
    msr     S3_4_C12_C9_5, x9
    isb
    msr     S3_4_C12_C11_0, xzr         // ICH_HCR_EL2

3:  mrs     x9, id_aa64mmfr0_el1        // FEAT_FGT: its trap registers reset to UNKNOWN
    ubfx    x9, x9, #56, #4
    cbz     x9, 4f
    msr     S3_4_C1_C1_4, xzr           // HFGRTR_EL2
    msr     S3_4_C1_C1_5, xzr           // HFGWTR_EL2
    msr     S3_4_C1_C1_6, xzr           // HFGITR_EL2
    msr     S3_4_C3_C1_4, xzr           // HDFGRTR_EL2
    msr     S3_4_C3_C1_5, xzr           // HDFGWTR_EL2

4:  mov     x9, #0x3c5                  // EL1h, DAIF masked
    msr     spsr_el2, x9
    msr     elr_el2, x30
    eret
    .size   boot_enter_el1, . - boot_enter_el1

// x0 = message, x20 = exception level at entry. Says why and switches the machine off.
    .type   boot_fatal, %function
boot_fatal:
    ldr     x1, ={UART}
    adr     x2, boot_msg_header
1:  ldrb    w3, [x2], #1
    cbz     w3, 2f
    str     w3, [x1]
    b       1b
2:  ldrb    w3, [x0], #1
    cbz     w3, 3f
    str     w3, [x1]
    b       2b
3:  ldr     w0, =0x84000008             // PSCI SYSTEM_OFF
    cmp     x20, #1
    b.eq    4f
    b.hi    5f
    b       6f
4:  hvc     #0
    b       6f
5:  cmp     x20, #2                     // EL3 has nobody above it to call
    b.ne    6f
    smc     #0
6:  wfi
    b       6b
    .size   boot_fatal, . - boot_fatal
    .ltorg

boot_msg_header:
    .asciz  "KTAP version 1\nBail out! boot: "
boot_msg_place:
    .asciz  "the image is not where it was linked, 2 MiB above the start of RAM at 1 GiB\n"
boot_msg_granule:
    .asciz  "this CPU has no 4 KiB translation granule\n"
boot_msg_el3:
    .asciz  "entered at EL3; start at EL1 or EL2 (no secure=on)\n"
    .balign 4

// From the identity map, with the kernel's half empty in between; see boot/src/lib.rs.
// x0 = TTBR1, x1 = TCR, x2 = SCTLR.
    .section .text.idmap, "ax"
    .balign 4
    .globl  boot_switch_ttbr1
    .type   boot_switch_ttbr1, %function
boot_switch_ttbr1:
    mrs     x10, daif
    msr     daifset, #0xf
    bic     x1, x1, #{TCR_EPD0}
    adrp    x11, boot_idmap_l0
    adrp    x12, boot_empty_l0
    adr     x13, 1f
    ubfx    x11, x11, #0, #48           // linked address to physical
    ubfx    x12, x12, #0, #48
    ubfx    x13, x13, #0, #48
    msr     ttbr0_el1, x11
    mrs     x9, tcr_el1
    bic     x9, x9, #{TCR_EPD0}
    msr     tcr_el1, x9
    isb
    br      x13
1:  msr     ttbr1_el1, x12
    isb
    tlbi    vmalle1
    dsb     nsh
    isb
    msr     ttbr1_el1, x0
    msr     tcr_el1, x1
    isb
    msr     sctlr_el1, x2
    isb
    tlbi    vmalle1                     // SCTLR.WXN and TCR fields may be cached in the TLB
    dsb     nsh
    isb
    ldr     x9, =2f
    br      x9
2:  orr     x1, x1, #{TCR_EPD0}
    msr     tcr_el1, x1
    isb
    tlbi    vmalle1
    dsb     nsh
    isb
    msr     daif, x10
    ret
    .size   boot_switch_ttbr1, . - boot_switch_ttbr1
    .ltorg

// The tables that boot needs are constants. AF is set everywhere: no hardware writes to them.
    .section .rodata.boot_tables, "a"
    .balign 4096
    .globl  boot_early_l0
boot_early_l0:
    .quad   boot_early_l1 - {DIRECT_BASE} + 3
    .fill   511, 8, 0
boot_early_l1:
    .quad   {BLOCK_DEVICE}
    .quad   {BLOCK_NORMAL} + (1 << 30)
    .quad   {BLOCK_NORMAL} + (2 << 30)
    .quad   {BLOCK_NORMAL} + (3 << 30)
    .fill   508, 8, 0
    .globl  boot_idmap_l0
boot_idmap_l0:
    .quad   boot_idmap_l1 - {DIRECT_BASE} + 3
    .fill   511, 8, 0
boot_idmap_l1:
    .quad   0
    .quad   {BLOCK_IDMAP} + (1 << 30)
    .fill   510, 8, 0
    .globl  boot_empty_l0
boot_empty_l0:
    .fill   512, 8, 0

    .section .stacks, "aw", %nobits
    .balign {STACK_SLOT}
    .globl  boot_stacks
boot_stacks:
    .space  {MAX_CPUS} * {STACK_SLOT}
    .globl  boot_emergency_stacks
boot_emergency_stacks:
    .space  {MAX_CPUS} * {EMERGENCY_SLOT}

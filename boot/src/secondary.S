// A CPU that PSCI CPU_ON started: the same way as the boot CPU, into the map in use by then.

    .section .text.boot, "ax"

// x0 = index of this CPU (the context of CPU_ON).
    .globl  boot_secondary_entry
    .type   boot_secondary_entry, %function
boot_secondary_entry:
    msr     daifset, #0xf
    mov     x19, x0
    mrs     x20, CurrentEL
    ubfx    x20, x20, #2, #2
    bl      boot_enter_el1
    adrp    x9, boot_secondary_config
    add     x9, x9, :lo12:boot_secondary_config
    ldp     x0, x1, [x9]
    ldr     x2, [x9, #16]
    bl      boot_enable_mmu
    ldr     x1, =boot_secondary_high
    br      x1

    .size   boot_secondary_entry, . - boot_secondary_entry

    .type   boot_secondary_high, %function
boot_secondary_high:
    .cfi_startproc
    .cfi_undefined x30
    mov     x0, x19
    bl      boot_cpu_state
    mov     x0, x19
    bl      secondary_entry             // as in boot_primary_high
    .cfi_endproc
    .size   boot_secondary_high, . - boot_secondary_high
    .ltorg

// Alone in its cache line: written by one CPU, cleaned to memory, read with the MMU off.
    .section .data.boot_secondary_config, "aw"
    .balign 64
    .globl  boot_secondary_config
boot_secondary_config:
    .space  64

"""ESR_EL1 in the words of kernel/arena/src/esr/text.rs, for the classes that a kernel meets."""

CLASSES = {
    0x00: "unknown reason, such as an undefined instruction",
    0x07: "trapped SIMD or floating-point access",
    0x0D: "branch target exception",
    0x0E: "illegal execution state",
    0x15: "SVC",
    0x18: "trapped MSR, MRS or system instruction",
    0x20: "instruction abort, lower EL",
    0x21: "instruction abort, same EL",
    0x22: "PC alignment fault",
    0x24: "data abort, lower EL",
    0x25: "data abort, same EL",
    0x26: "SP alignment fault",
    0x2F: "SError",
    0x3C: "BRK",
}
LEVELLED = {
    0: "address size fault",
    1: "translation fault",
    2: "access flag fault",
    3: "permission fault",
    5: "external abort on the table walk",
    7: "parity or ECC error on the table walk",
}
SINGLE = {
    0x10: "external abort",
    0x11: "tag check fault",
    0x18: "parity or ECC error",
    0x21: "alignment fault",
    0x30: "TLB conflict abort",
    0x31: "unsupported atomic hardware update",
    0x35: "unsupported exclusive or atomic access",
}


def text(esr):
    """One sentence."""
    ec, iss = esr >> 26 & 0x3F, esr & 0x1FF_FFFF
    name = CLASSES.get(ec, f"exception class {ec:#04x}, ISS {iss:#x}")
    if ec in (0x15, 0x3C):
        return f"{name} {iss & 0xFFFF:#x}"
    if ec in (0x20, 0x21):
        return f"{name}; {_status(iss & 0x3F)}"
    if ec in (0x24, 0x25):
        access = "cache maintenance" if iss >> 8 & 1 else "write" if iss >> 6 & 1 else "read"
        return f"{name}; {_status(iss & 0x3F)}; {access}"
    return name


def has_far(esr):
    """Whether FAR_EL1 belongs to the exception."""
    ec, not_valid = esr >> 26 & 0x3F, esr >> 10 & 1
    if ec in (0x20, 0x21, 0x24, 0x25):
        return not (esr & 0x3F == 0x10 and not_valid)
    return ec == 0x22 or (ec in (0x34, 0x35) and not not_valid)


def _status(code):
    if code in SINGLE:
        return SINGLE[code]
    # 0x10 to 0x13 and 0x18 to 0x1b are not divided by level in this way.
    if code >> 2 in LEVELLED:
        return f"{LEVELLED[code >> 2]}, level {code & 3}"
    return f"fault status {code:#04x}"

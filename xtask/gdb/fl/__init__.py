"""Faultline's GDB commands, one idea a module.

    target     the guest as GDB shows it: memory, registers, CPUs, symbols
    interface  the guest as the kernel describes it: faultline_debug
    command    how a command is declared, and how it fails
    pte, esr   decoders of words
    walk, arena, stream, cpu, fault
               the commands
"""

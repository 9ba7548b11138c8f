"""Faultline's GDB commands: `source` this file. `apropos faultline` lists them.

They read the guest's memory by the interface that kernel/src/debug.rs documents, run nothing in
the guest and change nothing there. GDB 13 and newer; no packages beside GDB's own Python.
"""

import os
import sys

# Sourced again after an edit: the modules are to be read again, and to leave no files behind.
for name in [name for name in sys.modules if name == "fl" or name.startswith("fl.")]:
    del sys.modules[name]
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from fl import arena, cpu, fault, stream, walk  # noqa: E402,F401  (each adds its commands)

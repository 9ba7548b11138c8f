"""How a command is declared, and how it fails."""

import inspect

import gdb

from fl import interface, target
from fl.target import Trouble


def command(name, completion=gdb.COMPLETE_NONE):
    """Makes a GDB command of `function(guest, arguments)`; its docstring is the command's help.

    Whatever goes wrong is one line that begins with the command's name.
    """

    def declare(function):
        def invoke(_self, line, _from_tty):
            try:
                with interface.guest() as guest:
                    function(guest, gdb.string_to_argv(line))
            except (Trouble, gdb.error) as error:
                raise gdb.GdbError(f"{name}: {target.one_line(error)}") from None
            except Exception as error:  # pylint: disable=broad-except
                # A fault of ours: still one line, and the session goes on.
                problem = f"{type(error).__name__}: {target.one_line(error)}"
                raise gdb.GdbError(f"{name}: a bug in this command: {problem}") from None

        doc = inspect.cleandoc(function.__doc__)
        kind = type(name, (gdb.Command,), {"__doc__": doc, "invoke": invoke})
        kind(name, gdb.COMMAND_DATA, completion)
        return function

    return declare


def one_address(arguments):
    """The only argument, an address. A person may have typed an expression with blanks."""
    if not arguments:
        raise Trouble("which address?")
    return target.argument(" ".join(arguments))


def at_most_one(arguments):
    """The only argument or None."""
    if len(arguments) > 1:
        raise Trouble(f"one argument at most, not {len(arguments)}")
    return arguments[0] if arguments else None


def none(arguments):
    """For commands without arguments."""
    if arguments:
        raise Trouble(f"takes no argument: {' '.join(arguments)}")

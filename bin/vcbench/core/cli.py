"""One way to build a command line: argparse, logging, one-line errors, exit codes."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence

from vcbench.core.errors import EXIT_BAD_INPUT, EXIT_FAILURE, EXIT_HOST_OUT_OF_MEMORY, VcbError

# Before numpy is imported: on small matrices more threads only wait for each other. The engine's tasks have one, too.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

#: Prefix of the one line a user needs; the pipeline repeats it at the end of a failed run.
ERROR_PREFIX = "vcb: error: "

#: Errors of the operating system that no second try changes: the path is wrong. All others may pass (full, busy, away).
WRONG_PATH = (FileExistsError, IsADirectoryError, NotADirectoryError)

#: HDF5 and safetensors say the error of the operating system in words only, in exceptions of other types.
_ERRNO = re.compile(r"\(os error (\d+)\)|\berrno = (\d+)")

_HINTS = {
    errno.ENOSPC: "free some space, or choose another folder",
    errno.EDQUOT: "free some space, or choose another folder",
    errno.EACCES: "choose a folder you may write to, or change its permissions",
    errno.EROFS: "choose a folder you may write to",
    errno.EEXIST: "a file is in the way of the folder: choose another one",
    errno.ENOTDIR: "a file is in the way of the folder: choose another one",
}


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the layout of descriptions and shows defaults."""


def parser(description: str, epilog: str = "") -> argparse.ArgumentParser:
    """Return an argument parser in the house style; ``--help`` shows defaults and the epilog verbatim."""
    return argparse.ArgumentParser(description=description, epilog=epilog, formatter_class=HelpFormatter)


def at_least(least: float, kind: type[int] | type[float] = int) -> Callable[[str], float]:
    """Return a ``type=`` of arguments: a number that is not smaller."""

    def number(text: str) -> float:
        value = kind(text)
        if not value >= least:
            raise argparse.ArgumentTypeError(f"found {text}; expected at least {least}")
        return value

    number.__name__ = kind.__name__  # argparse says "invalid int value"
    return number


def run(main: Callable[[Sequence[str]], int | None], argv: Sequence[str] | None = None) -> None:
    """Run ``main(argv)`` with logging to stderr; errors become one line and an exit code.

    Tracebacks of unexpected exceptions are kept (they are our bugs), known errors show their line only, and so do those
    of the operating system (no such folder, no permission, disk full); ``VCB_LOG=DEBUG`` shows where they came from.
    """
    logging.basicConfig(
        level=os.environ.get("VCB_LOG", "INFO"),
        stream=sys.stderr,
        format="%(asctime)s %(levelname).1s %(message)s",
        datefmt="%H:%M:%S",
    )
    try:
        code = main(sys.argv[1:] if argv is None else argv)
    except VcbError as error:
        print(f"{ERROR_PREFIX}{error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except MemoryError:
        print(f"{ERROR_PREFIX}out of memory", file=sys.stderr)
        sys.exit(EXIT_HOST_OUT_OF_MEMORY)
    except Exception as error:
        line = system_error(error)
        if line is None:
            raise
        logging.getLogger(__name__).debug("where it came from", exc_info=True)
        print(f"{ERROR_PREFIX}{line}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT if isinstance(error, WRONG_PATH) else EXIT_FAILURE)
    sys.exit(code or 0)


def system_error(error: Exception) -> str | None:
    """Return an error of the operating system as one line: file, what is wrong, what to do; None for any other."""
    found = _ERRNO.search(str(error))
    number = getattr(error, "errno", None) if isinstance(error, OSError) else None
    if number is None and found:
        number = int(found[1] or found[2])
    if number is None and not isinstance(error, OSError):
        return None
    filename = getattr(error, "filename", None)
    if filename is None:  # HDF5 writes words around it
        named = re.search(r"name = '([^']*)'", str(error))
        filename = named[1] if named else None
    text = os.strerror(number) if number else str(error) or type(error).__name__
    parts = [f"{filename}: {text}" if filename is not None else text]
    if number in _HINTS:
        parts.append(_HINTS[number])
    return " | ".join(" ".join(part.split()) for part in parts)

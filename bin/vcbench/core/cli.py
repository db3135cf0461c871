"""One way to build a command line: argparse, logging, one-line errors, exit codes."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence

from vcbench.core.errors import EXIT_HOST_OUT_OF_MEMORY, VcbError

#: Prefix of the one line a user needs; the pipeline repeats it at the end of a failed run.
ERROR_PREFIX = "vcb: error: "


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

    Tracebacks of unexpected exceptions are kept (they are our bugs), known errors show their line only.
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
    sys.exit(code or 0)

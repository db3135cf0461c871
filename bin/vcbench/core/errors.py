"""Errors a user can act on, and the exit codes the Nextflow layer understands."""

from __future__ import annotations

EXIT_FAILURE = 1
EXIT_BAD_INPUT = 65  # sysexits EX_DATAERR: never retried
EXIT_CUDA_OUT_OF_MEMORY = 97  # retried with more memory, listed in conf/base.config
EXIT_HOST_OUT_OF_MEMORY = 137  # what the kernel's killer gives; a MemoryError is the same fact


class VcbError(Exception):
    """A failure with a one-line explanation; shown without a traceback."""

    exit_code = EXIT_FAILURE


class InputError(VcbError):
    """Wrong user input: what, where, found, expected and what to do, in one line.

    Parameters
    ----------
    what
        The problem, e.g. ``"counts are not integers"``.
    where
        File, row, column or parameter, e.g. ``"screen.h5ad, X"``.
    found, expected
        Shown as ``found ...; expected ...`` when given.
    hint
        What the user should do.
    """

    exit_code = EXIT_BAD_INPUT

    def __init__(self, what: str, *, where: str, found: object = None, expected: object = None, hint: str = "") -> None:
        parts = [f"{where}: {what}"]
        details = [f"{name} {value}" for name, value in (("found", found), ("expected", expected)) if value is not None]
        if details:
            parts.append("; ".join(details))
        if hint:
            parts.append(hint)
        super().__init__(" | ".join(" ".join(part.split()) for part in parts))


class ModelError(VcbError):
    """A model or encoder failed on valid input (diverged, wrong output, missing vector)."""

#!/usr/bin/env python3
"""Print `name=version` of Python and of the packages named, one line, for the software table of the report."""

import sys
from importlib.metadata import PackageNotFoundError

from vcbench.core.status import versions


def version_of(name: str) -> str:
    """Return `name=version`; a stub run may lack heavy packages, which is then said."""
    try:
        return f"{name}={versions(name)[name]}"
    except PackageNotFoundError:
        return f"{name}=absent"


if __name__ == "__main__":
    print(" ".join([f"python={versions()['python']}", *map(version_of, sys.argv[1:])]))

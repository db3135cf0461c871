#!/usr/bin/env python3
"""Print `name=version` of Python and of the packages named, one line, for the software table of the report."""

import sys

from vcbench.core.status import versions

if __name__ == "__main__":
    print(" ".join(f"{name}={version}" for name, version in versions(*sys.argv[1:]).items()))

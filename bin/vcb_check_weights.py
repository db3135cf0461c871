#!/usr/bin/env python3
"""Check official weights strictly."""

from vcbench.core import cli
from vcbench.core.check_weights import main

if __name__ == "__main__":
    cli.run(main)

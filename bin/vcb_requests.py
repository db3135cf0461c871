#!/usr/bin/env python3
"""List everything that needs a vector."""

from vcbench.core import cli
from vcbench.encoders.requests_cli import main

if __name__ == "__main__":
    cli.run(main)

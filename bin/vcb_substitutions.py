#!/usr/bin/env python3
"""List all substitutions of the proteins of a dataset; see --help."""

from vcbench.core import cli
from vcbench.data import substitutions

if __name__ == "__main__":
    cli.run(substitutions.main)

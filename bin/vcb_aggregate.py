#!/usr/bin/env python3
"""Join all scores onto the plan; see --help."""

from vcbench.core import cli
from vcbench.stats.aggregate import main

if __name__ == "__main__":
    cli.run(main)

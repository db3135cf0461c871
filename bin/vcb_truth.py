#!/usr/bin/env python3
"""Build the truth of one dataset and split; see --help."""

from vcbench.core import cli
from vcbench.metrics.truth_cli import main

if __name__ == "__main__":
    cli.run(main)

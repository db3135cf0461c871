#!/usr/bin/env python3
"""Score predictions of one dataset and split; see --help."""

from vcbench.core import cli
from vcbench.metrics.score import main

if __name__ == "__main__":
    cli.run(main)

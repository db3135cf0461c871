#!/usr/bin/env python3
"""Check the vectors of all encoders of a run; see --help."""

from vcbench.core import cli
from vcbench.encoders.qc.cli import main

if __name__ == "__main__":
    cli.run(main)

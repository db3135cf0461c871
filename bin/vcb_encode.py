#!/usr/bin/env python3
"""Encode perturbations once per encoder."""

from vcbench.core import cli
from vcbench.encoders.encode import main

if __name__ == "__main__":
    cli.run(main)

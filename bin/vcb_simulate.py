#!/usr/bin/env python3
"""Simulate a TP53 variant screen; see --help."""

from vcbench.core.cli import run
from vcbench.data.simulate import main

if __name__ == "__main__":
    run(main)

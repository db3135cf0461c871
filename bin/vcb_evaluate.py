#!/usr/bin/env python3
"""Score any prediction of held-out perturbations; see --help."""

from vcbench.core import cli
from vcbench.metrics.evaluate import main

if __name__ == "__main__":
    cli.run(main)

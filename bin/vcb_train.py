#!/usr/bin/env python3
"""Fit models on the training perturbations of a fold; see --help."""

from vcbench.core import cli
from vcbench.models.train_cli import main

if __name__ == "__main__":
    cli.run(main)

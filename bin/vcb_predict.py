#!/usr/bin/env python3
"""Predict the test perturbations of a fold with fitted models; see --help."""

from vcbench.core import cli
from vcbench.models.predict_cli import main

if __name__ == "__main__":
    cli.run(main)

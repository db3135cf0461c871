#!/usr/bin/env python3
"""Cut the perturbations of a dataset into folds."""

from vcbench.core import cli
from vcbench.splits.split_cli import main

if __name__ == "__main__":
    cli.run(main)

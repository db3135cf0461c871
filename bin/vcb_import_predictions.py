#!/usr/bin/env python3
"""Take over predictions made elsewhere as a model of the run."""

from vcbench.core import cli
from vcbench.models.import_predictions import main

if __name__ == "__main__":
    cli.run(main)

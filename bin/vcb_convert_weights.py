#!/usr/bin/env python3
"""Convert official weights of a protein language model, once."""

from vcbench.core import cli
from vcbench.encoders.plm.convert import main

if __name__ == "__main__":
    cli.run(main)

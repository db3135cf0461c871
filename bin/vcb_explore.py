#!/usr/bin/env python3
"""Write the optional tables of a run; see --help."""

from vcbench.core import cli
from vcbench.explore import command

if __name__ == "__main__":
    cli.run(command.main)

#!/usr/bin/env python3
"""Write the report as MultiQC custom content; see --help."""

from vcbench.core import cli
from vcbench.report import command

if __name__ == "__main__":
    cli.run(command.main)

#!/usr/bin/env python3
"""List every unit of work; see --help."""

from vcbench.core import cli, plan

if __name__ == "__main__":
    cli.run(plan.main)

#!/usr/bin/env python3
"""Derive ALT, DIFF and the shuffled control per dataset."""

from vcbench.core import cli
from vcbench.encoders.derive import main

if __name__ == "__main__":
    cli.run(main)

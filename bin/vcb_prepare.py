#!/usr/bin/env python3
"""Check a screen of raw counts and write the canonical dataset."""

from vcbench.core import cli
from vcbench.data.prepare_cli import main

if __name__ == "__main__":
    cli.run(main)

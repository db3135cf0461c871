#!/usr/bin/env python3
"""Take over vectors made elsewhere as an encoder."""

from vcbench.core import cli
from vcbench.encoders.import_vectors import main

if __name__ == "__main__":
    cli.run(main)

"""VariantCellBench: the Python side of the pipeline (imported by the bin/vcb_*.py executables)."""

__version__ = "0.1.0"

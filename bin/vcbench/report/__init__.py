"""Content of the MultiQC report."""

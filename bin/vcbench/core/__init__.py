"""Shared plumbing: errors, command line, catalogues, units, tables, status files, seeds."""

"""The command line of TRAIN."""

from __future__ import annotations

from collections.abc import Sequence

from vcbench.models import task

EPILOG = """\
example:
  vcb_train.py --units tp53.variant.f1.linear.onehot.alt.s0 \\
      --settings '{"linear": {"components": [5, 10], "ridge": [0.1, 1]}}' \\
      --dataset tp53.h5ad --perturbations tp53.perturbations.tsv --folds tp53.variant.folds.tsv \\
      --encodings tp53.onehot.alt.h5ad --out-dir models

writes <unit>.model/ (weights.safetensors, config.json, log.tsv) and <unit>.train.status.json for each unit.
A unit that fails is recorded and the others go on; exit code 0 when at least one unit is ok.
Models see cells of training and validation perturbations and control half B, never a test cell.
"""


def main(argv: Sequence[str]) -> None:
    """Train the units of the command line."""
    job = task.prepare(task.parser("Fit models on the training perturbations of a fold.", EPILOG).parse_args(argv))
    # numerical libraries read the number of threads when they are imported, so they come after the options
    from vcbench.models import training

    training.train(job)

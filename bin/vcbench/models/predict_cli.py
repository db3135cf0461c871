"""The command line of PREDICT."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vcbench.models import task

EPILOG = """\
example:
  vcb_predict.py --units tp53.variant.f1.linear.onehot.alt.s0 \\
      --settings '{"linear": {"components": [5, 10], "ridge": [0.1, 1]}}' \\
      --dataset tp53.h5ad --perturbations tp53.perturbations.tsv --folds tp53.variant.folds.tsv \\
      --encodings tp53.onehot.alt.h5ad --models models/*.model --out-dir predictions

writes <unit>.predictions.h5ad (obs: perturbation; X: log1p), the same of the fold's validation perturbations as
<unit>.validation.h5ad (they choose between encoders and strategies) and <unit>.predict.status.json for each unit.
Every prediction is checked: finite, exactly the perturbations of the fold, the genes of the dataset.
A unit that fails is recorded and the others go on; exit code 0 when at least one unit is ok.
"""


def main(argv: Sequence[str]) -> None:
    """Predict with the units of the command line."""
    options = task.parser("Predict the test perturbations of a fold with fitted models.", EPILOG)
    options.add_argument("--models", type=Path, nargs="+", required=True, help="<unit>.model folders of TRAIN")
    options.add_argument(
        "--atlas", nargs="*", default=[], metavar="UNIT",
        help="also write <unit>.atlas.tsv: impacts of all substitutions in <dataset>.<encoder>.<strategy>.atlas.h5ad",
    )  # fmt: skip
    job = task.prepare(options.parse_args(argv))
    # numerical libraries read the number of threads when they are imported, so they come after the options
    from vcbench.models import prediction

    prediction.predict(job)

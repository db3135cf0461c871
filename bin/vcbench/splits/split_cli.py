"""Command line of SPLIT."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from vcbench.core import cli
from vcbench.core.errors import InputError
from vcbench.core.names import NAME, closest
from vcbench.core.tables import write_tsv
from vcbench.splits import candidates, folds, leakage

log = logging.getLogger(__name__)

SPLITS = ("variant", "position")

_EPILOG = """\
example:
  vcb_split.py --dataset tp53 --perturbations tp53.perturbations.tsv --splits variant position --out-dir splits

splits:
  variant    every variant is tested once; other variants of its residue may be in training (leakage.tsv says how many)
  position   every residue has one role per fold: the test residues were never seen

writes <dataset>.<split>.folds.tsv for each split and <dataset>.leakage.tsv
"""


def main(argv: Sequence[str]) -> None:
    """Cut the perturbations of a dataset into folds."""
    parser = cli.parser("Cut the perturbations of a dataset into train, valid and test, fold by fold.", _EPILOG)
    add = parser.add_argument
    add("--dataset", required=True, help="name of the dataset")
    add("--perturbations", required=True, type=Path, help="perturbations.tsv of vcb_prepare.py")
    add("--splits", nargs="+", default=list(SPLITS), help="one or more of variant, position")
    add("--folds", type=int, default=3, help="each perturbation is tested in one of them")
    add("--seed", type=int, default=42, help="of the shuffles")
    add("--trials", type=int, default=5000, help="orders tried by the variant split")
    add("--out-dir", type=Path, default=Path(), help="where the tables are written")
    options = parser.parse_args(argv)
    if not NAME.fullmatch(options.dataset):
        raise InputError("not a dataset name", where="--dataset", found=options.dataset, expected=NAME.pattern)
    for split in options.splits:
        if split not in SPLITS:
            raise InputError(f"unknown split '{split}'", where="--splits", hint=closest(split, SPLITS))
    for name, low in (("folds", 2), ("trials", 1), ("seed", 0)):
        if getattr(options, name) < low:
            raise InputError(
                "value out of range", where=f"--{name}", found=getattr(options, name), expected=f">= {low}"
            )
    usable, excluded = candidates.read(options.perturbations)
    tables = {}
    report = []
    for split in dict.fromkeys(options.splits):
        made = folds.make(split, usable, options.folds, options.seed, options.trials, str(options.perturbations))
        tables[split] = _long(made, excluded)
        report += leakage.rows(options.dataset, split, usable, made)
    options.out_dir.mkdir(parents=True, exist_ok=True)
    for split, rows in tables.items():
        path = options.out_dir / f"{options.dataset}.{split}.folds.tsv"
        write_tsv(path, rows, ("perturbation", "fold", "role", "reason"))
    write_tsv(options.out_dir / f"{options.dataset}.leakage.tsv", report, leakage.COLUMNS)
    log.info(
        "%s: %d perturbations in %d folds, %d excluded", options.dataset, len(usable), options.folds, len(excluded)
    )


def _long(made: folds.Folds, excluded: dict[str, str]) -> list[dict[str, object]]:
    """One row per fold and perturbation, excluded ones with their reason."""
    rows: list[dict[str, object]] = []
    for number, roles in enumerate(made, start=1):
        reasons = dict.fromkeys(roles, "") | excluded
        for name in sorted(reasons):
            role = roles.get(name, folds.EXCLUDED)
            rows.append({"perturbation": name, "fold": number, "role": role, "reason": reasons[name]})
    return rows

"""Command line of vcb_encoder_qc.py."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vcbench.core import cli
from vcbench.core.errors import InputError
from vcbench.core.tables import write_tsv
from vcbench.encoders.qc import map as maps
from vcbench.encoders.qc import origin, quality, similarity
from vcbench.encoders.qc.encodings import ALT, DIFF, Row, key, read, read_perturbations

log = logging.getLogger(__name__)

#: The encoder whose single column is the zero-shot log-likelihood ratio of a variant.
SCORE_ENCODER = "esm2_llr"

TABLES = {
    "quality": quality.COLUMNS,
    "similarity": similarity.COLUMNS,
    "map": maps.COLUMNS,
    "provenance": origin.COLUMNS,
}

EPILOG = """
example:
  vcb_encoder_qc.py --encodings results/encodings/*.h5ad --perturbations results/datasets/*.perturbations.tsv \\
    --out-dir qc

Writes qc/encoder_quality.tsv (is something wrong with the vectors?), qc/encoder_similarity.tsv (CKA of pairs of
encoders), qc/encoder_map.tsv (two principal components) and qc/encoder_provenance.tsv (weights, licences, settings).
Give all strategies of an encoder together: alt and diff give the reference vectors that some checks need.
"""


def tables(paths: Sequence[Path], perturbations: Mapping[str, Mapping[str, Row]]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of the four tables; nothing depends on the order of the files or of the rows in them."""
    ordered = sorted(paths, key=key)
    scores = _scores(ordered, perturbations)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    facts = []
    for dataset, of_dataset in itertools.groupby(ordered, lambda path: key(path)[0]):
        by_strategy: dict[str, list[quality.Examined]] = {}
        for encoder, files in itertools.groupby(of_dataset, lambda path: key(path)[1]):
            encodings = {each.strategy: each for each in (read(path, perturbations) for path in files)}
            for strategy, encoding in encodings.items():
                examined = quality.examine(encoding)
                found["quality"].append(quality.row(examined, encodings))
                found["map"] += maps.rows(examined, scores.get(dataset, {}))
                facts.append({**encoding.facts, "encoder_id": encoder, "dataset": dataset})
                by_strategy.setdefault(strategy, []).append(examined)
            log.info("%s, %s: %s", dataset, encoder, ", ".join(encodings))
        for _, group in sorted(by_strategy.items()):
            found["similarity"] += similarity.rows(group)
    found["provenance"] = origin.rows(facts)
    return found


def _scores(paths: Sequence[Path], perturbations: Mapping[str, Mapping[str, Row]]) -> dict[str, dict[str, float]]:
    """Return {dataset: {perturbation: zero-shot LLR}} of the datasets that have it."""
    found = {}
    for path in paths:
        dataset, encoder, strategy = key(path)
        if encoder == SCORE_ENCODER and strategy in (ALT, DIFF) and dataset not in found:
            encoding = read(path, perturbations)
            if encoding.matrix.shape[1] != 1:
                raise InputError(
                    "not a single score per variant", where=str(path), found=f"{encoding.matrix.shape[1]} columns"
                )
            # its REF is zero, so that DIFF is minus the score
            values = encoding.matrix[:, 0] * (1 if strategy == ALT else -1) + 0.0
            found[dataset] = dict(zip(encoding.names, map(float, values), strict=True))
    return found


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with numbers of six significant digits, so that rounding in the linear algebra is not kept."""
    return {
        name: float(f"{value:.6g}") if isinstance(value, float) and math.isfinite(value) else value
        for name, value in row.items()
    }


def main(argv: Sequence[str]) -> None:
    """Write the tables of the encoders of a run."""
    parser = cli.parser("Check the vectors of all encoders of a run and describe where they come from.", EPILOG)
    parser.add_argument(
        "--encodings", nargs="+", required=True, type=Path, metavar="H5AD", help="<dataset>.<encoder>.<strategy>.h5ad"
    )
    parser.add_argument(
        "--perturbations", nargs="+", required=True, type=Path, metavar="TSV", help="<dataset>.perturbations.tsv"
    )
    parser.add_argument("--out-dir", type=Path, default=Path(), help="folder of the results")
    options = parser.parse_args(argv)

    found = tables(options.encodings, read_perturbations(options.perturbations))
    options.out_dir.mkdir(parents=True, exist_ok=True)
    for name, columns in TABLES.items():
        write_tsv(options.out_dir / f"encoder_{name}.tsv", map(_rounded, found[name]), columns)

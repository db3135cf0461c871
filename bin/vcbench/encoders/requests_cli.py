"""The REQUESTS step: the keys of everything that needs a vector (`requests.tsv`), so that a store can be searched."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from vcbench.core import cli
from vcbench.core.tables import write_tsv
from vcbench.encoders.requests import SUBSTITUTIONS, collect, with_wild_types

log = logging.getLogger(__name__)

COLUMNS = ("key", "kind", "atlas")

EPILOG = """
example:
  vcb_requests.py --perturbations tp53.perturbations.tsv --proteins tp53.proteins.fasta --out-dir .

Writes requests.tsv, sorted: key (<sha256 of the protein>:R175H, gene:KLF1) and kind (variant, gene). It holds each
distinct perturbation of all datasets once, and the wild type of every protein. Column atlas is true for those that only
tables of substitutions (<dataset>.substitutions.tsv) name.
"""


def main(argv: Sequence[str]) -> None:
    """Command line of vcb_requests.py."""
    parser = cli.parser("List everything that needs a vector, once.", EPILOG)
    parser.add_argument(
        "--perturbations", nargs="+", required=True, type=Path, metavar="TSV", help="<dataset>.perturbations.tsv"
    )
    parser.add_argument(
        "--proteins", nargs="*", default=[], type=Path, metavar="FASTA", help="<dataset>.proteins.fasta"
    )
    parser.add_argument("--out-dir", type=Path, default=Path(), help="folder of the result")
    options = parser.parse_args(argv)

    requests = with_wild_types(collect(options.perturbations, options.proteins))
    measured = [path for path in options.perturbations if not path.name.endswith(SUBSTITUTIONS)]
    of_data = {request.key for request in with_wild_types(collect(measured, options.proteins))}
    options.out_dir.mkdir(parents=True, exist_ok=True)
    rows = [
        {"key": request.key, "kind": "gene" if request.is_gene else "variant", "atlas": request.key not in of_data}
        for request in requests
    ]
    write_tsv(options.out_dir / "requests.tsv", rows, COLUMNS)
    log.info("%d requests", len(rows))

"""The ENCODE step: REF and ALT vectors of every distinct perturbation, once per encoder (`<encoder>.vectors.h5ad`)."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.core import catalogue, cli, h5ad, settings
from vcbench.core.device import DEVICES, resolve, set_threads
from vcbench.core.errors import InputError, ModelError
from vcbench.core.names import closest
from vcbench.encoders import base, provenance, shards
from vcbench.encoders.requests import Request, collect, with_wild_types

if TYPE_CHECKING:
    import anndata as ad

log = logging.getLogger(__name__)

EPILOG = """
example:
  vcb_encode.py --encoders physchem esm2_650m --weights weights --perturbations tp53.perturbations.tsv \\
    --proteins tp53.proteins.fasta --seed 0 --out-dir vectors

Writes vectors/<encoder>.vectors.h5ad: obs = distinct perturbations (<sha256 of the protein>:R175H, gene:KLF1),
X = ALT, layers["ref"] = REF. Several datasets are encoded together; equal variants of equal proteins once.

Later only what is new:
  vcb_encode.py ... --known vectors/*.keys.txt --shard second --out-dir vectors
writes <encoder>.second.vectors.h5ad with the perturbations that no keys file names, and its own keys file.
"""


def encode(encoder: base.Encoder, requests: Sequence[Request]) -> base.Encoded:
    """Return the checked output of an encoder; raises :class:`ModelError` for a wrong shape, dtype or value."""
    result = encoder.encode(requests)
    if unknown := sorted(result.skipped.keys() - {request.key for request in requests}):
        raise ModelError(f"skipped perturbations nobody asked for: {', '.join(unknown[:3])}")
    shape = (len(requests) - len(result.skipped), len(result.columns))
    for name, matrix in (("ALT", result.alt), ("REF", result.ref)):
        if matrix.shape != shape or matrix.dtype != np.float32:
            raise ModelError(f"{name} is {matrix.dtype} {matrix.shape}, expected float32 {shape}")
        if not np.isfinite(matrix).all():
            raise ModelError(f"{name} holds values that are not finite")
    if len(result.scopes) != shape[1] or not set(result.scopes) <= set(base.SCOPES):
        raise ModelError("every column needs a scope")
    return result


def to_anndata(requests: Sequence[Request], encoded: base.Encoded) -> ad.AnnData:
    """Return X = ALT, layers["ref"] = REF, one row per request."""
    import anndata as ad
    import pandas as pd

    obs = pd.DataFrame(
        {
            "gene": [";".join(request.genes) for request in requests],
            "variant": [";".join(map(str, request.substitutions)) for request in requests],
            "sequence_sha256": [request.sequence_sha256 for request in requests],
            **encoded.rows,
        },
        index=pd.Index([request.key for request in requests], dtype=object),
    )
    var = pd.DataFrame({"scope": list(encoded.scopes)}, index=pd.Index(list(encoded.columns), dtype=object))
    return ad.AnnData(encoded.alt, obs=obs, var=var, layers={"ref": encoded.ref})


def run(
    name: str,
    requests: Sequence[Request],
    entries: Mapping[str, Any],
    options: Mapping[str, Any],
    context: Mapping[str, Any],
    known: Collection[str] = (),
) -> tuple[ad.AnnData, dict[str, Any]] | None:
    """Encode what an encoder can encode; return the artefact and its provenance, or None when there is nothing for it.

    `options` is {encoder: {setting: value}}, `context` holds weights, inputs, device and seed of :class:`base.Context`.
    Protein language models also encode the wild type of every protein. Perturbations in `known` are left out.
    """
    entry = entries["entries"][name]
    usable = [request for request in requests if ("gene" if request.is_gene else "variant") in entry["modalities"]]
    if "family" in entry:
        usable = with_wild_types(usable)
    wanted = [request for request in usable if request.key not in known]
    if usable and not wanted:
        log.info("%s: all %d vectors are known", name, len(usable))
        return None
    usable = wanted
    if not usable:
        log.warning(
            "%s: no perturbation it can encode (it encodes %s perturbations)", name, " and ".join(entry["modalities"])
        )
        return None
    chosen = settings.complete(name, entry.get("settings", {}), options.get(name, {}), "--settings")
    if "licence" in entry:
        terms = " (forbids commercial use)" if entry["noncommercial"] else ""
        log.info("%s: licence of the weights: %s%s", name, entry["licence"], terms)
    cls = base.load(name, entries)
    encoded = encode(cls(base.Context(name, entry, chosen, **context)), usable)
    sequences = [request.sequence_sha256 for request in usable if not request.is_gene]
    facts = provenance.build(name, entry, encoded.facts, sequences, chosen, context["seed"])
    if encoded.skipped:
        facts["not_encoded"] = encoded.skipped
    return to_anndata([request for request in usable if request.key not in encoded.skipped], encoded), facts


def main(argv: Sequence[str]) -> None:
    """Command line of vcb_encode.py."""
    parser = cli.parser("Encode perturbations: REF and ALT vectors, once per encoder.", EPILOG)
    parser.add_argument("--encoders", nargs="+", required=True, metavar="NAME", help="names of assets/encoders.yml")
    parser.add_argument(
        "--perturbations", nargs="+", required=True, type=Path, metavar="TSV", help="<dataset>.perturbations.tsv"
    )
    parser.add_argument(
        "--proteins", nargs="*", default=[], type=Path, metavar="FASTA", help="<dataset>.proteins.fasta"
    )
    parser.add_argument(
        "--weights", type=Path, metavar="DIR", help="folder with one folder of official weights per encoder"
    )
    parser.add_argument(
        "--msas", type=Path, metavar="DIR", help="folder of alignments, for encoders that read them (ESM-MSA)"
    )
    parser.add_argument("--gene-sets", type=Path, metavar="GMT", help="gene sets, for the encoder gene_sets")
    parser.add_argument(
        "--known", nargs="*", default=[], type=Path, metavar="TXT", help="<encoder>.<shard>.keys.txt: not encoded again"
    )
    parser.add_argument("--shard", default="", metavar="NAME", help="write <encoder>.NAME.vectors.h5ad and .keys.txt")
    parser.add_argument("--settings", default="{}", metavar="JSON", help="{encoder: {setting: value}}")
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="where networks run")
    parser.add_argument("--threads", type=int, default=0, help="threads of torch (0: as the environment says)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random encoder")
    parser.add_argument("--assets", type=Path, default=catalogue.ASSETS, help="folder of the catalogues")
    parser.add_argument("--out-dir", type=Path, default=Path(), help="folder of the results")
    options = parser.parse_args(argv)

    entries = catalogue.load("encoders", options.assets)
    for name in options.encoders:
        base.load(name, entries)  # unknown names fail before any work
    set_threads(options.threads)
    options.device = resolve(options.device)
    chosen = read_settings(options.settings, entries["entries"], options.encoders)
    requests = collect(options.perturbations, options.proteins)
    context = {"weights": options.weights, "device": options.device, "seed": options.seed}
    inputs = {"msas": options.msas, "gene_sets": options.gene_sets}
    written = 0
    for name in options.encoders:
        own = context | {"inputs": inputs.get(entries["entries"][name].get("inputs"))}
        result = run(name, requests, entries, chosen, own, shards.read_known(options.known, name))
        if result is not None:
            adata, facts = result
            options.out_dir.mkdir(parents=True, exist_ok=True)
            path = options.out_dir / f"{name}{'.' + options.shard if options.shard else ''}{shards.VECTORS}"
            h5ad.write(adata, path, facts)
            if options.shard:
                shards.write_keys(path, adata.obs_names)
            log.info("%s: %d perturbations, %d columns", name, *adata.shape)
            written += 1
    if not written and not options.known:
        raise InputError(
            "nothing to encode with these encoders",
            where="--perturbations",
            found=f"{len(requests)} perturbations with cells",
            hint="see the warnings above",
        )


def read_settings(text: str, known: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return the decoded ``--settings``; raises :class:`InputError` when it is not {encoder in `names`: object}."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InputError("not JSON", where="--settings", found=error) from error
    if not isinstance(value, dict) or not all(isinstance(inner, dict) for inner in value.values()):
        raise InputError("wrong layout", where="--settings", expected="{encoder: {setting: value}}")
    for name in value:
        if name not in known:
            raise InputError(f"unknown encoder '{name}'", where="--settings", hint=closest(name, known))
        if name not in names:
            raise InputError(
                f"settings of {name}, which is not encoded", where="--settings", expected=", ".join(names),
                hint="name it in --encoders, or leave its settings out",
            )  # fmt: skip
    return value

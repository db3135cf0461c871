"""The VECTORS_IMPORT step: the user's own vectors as encodings of each dataset, matched by name and checked."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.core import catalogue, cli, h5ad
from vcbench.core.errors import InputError
from vcbench.core.hashing import sha256_file
from vcbench.encoders import provenance
from vcbench.encoders.derive import CARRIED, STRATEGIES, Dataset, read_datasets
from vcbench.encoders.own_vectors import OwnVectors, listed, read
from vcbench.variants.record import WILD_TYPE

if TYPE_CHECKING:
    import anndata as ad

log = logging.getLogger(__name__)

#: Provenance that a file may state about itself; the rest is ours to say.
STATED = (
    "url", "revision", "weights_sha256", "licence", "noncommercial", "torch", "transformers", "dtype_compute",
    "attn_impl", "layer", "after_final_norm", "pooling", "prefix", "residue_replacements", "token_layout",
    "window_policy", "max_residues", "msa", "n_passes", "device", "deterministic",
)  # fmt: skip

EPILOG = """
example:
  vcb_import_vectors.py --vectors my_vectors.h5ad --perturbations tp53.perturbations.tsv --strategies alt \\
    --out-dir encodings

Writes encodings/<dataset>.<encoder>.<strategy>.h5ad like vcb_derive.py; the encoder is called as the file.
my_vectors.h5ad: obs index = perturbations (TP53~R175H, KLF1), X = vectors, optional layers["ref"].
my_vectors.npz: X, variant_id, optional ref. Every perturbation with cells needs a vector.
"""


def match(dataset: Dataset, own: OwnVectors) -> list[int]:
    """Return the row of the file for each perturbation in use: named by canonical id, or by a label as in the data.

    Raises :class:`InputError` naming all perturbations without a vector, and those with two.
    """
    chosen, missing = [], []
    for row in dataset.rows:
        names = [row["perturbation"], *row.get("labels", "").split(" | ")]
        found = [name for name in dict.fromkeys(names) if name in own.rows and name != h5ad.CONTROL]
        if len(found) > 1:
            raise InputError(
                f"two vectors for {row['perturbation']} of {dataset.id}", where=str(own.path), found=", ".join(found)
            )
        if found:
            chosen.append(own.rows[found[0]])
        else:
            missing.append(row["perturbation"])
    if missing:
        raise InputError(
            f"no vector for {len(missing)} of {len(dataset.rows)} perturbations of {dataset.id}: {listed(missing)}",
            where=str(own.path),
            found=f"rows named {listed(own.ids, 3)}",
            expected=f"ids as in the column perturbation of {dataset.id}.perturbations.tsv",
        )
    if len(set(chosen)) != len(chosen):
        twice = sorted({own.ids[row] for row in chosen if chosen.count(row) > 1})
        raise InputError(f"a vector fits two perturbations of {dataset.id}", where=str(own.path), found=listed(twice))
    return chosen


def check_shared(own: OwnVectors, datasets: Mapping[str, tuple[Dataset, Sequence[int]]]) -> None:
    """Raise :class:`InputError` when a row stands for two perturbations in two datasets (`G12D` of KRAS and NRAS).

    A canonical id on two sequences (isoforms of a gene) is logged: the file cannot tell them apart.
    """
    names: dict[int, tuple[str, str]] = {}
    isoforms = set()
    for dataset, chosen in datasets.values():
        for number, row, key in zip(chosen, dataset.rows, dataset.keys, strict=True):
            name, known = names.setdefault(number, (row["perturbation"], key))
            if name != row["perturbation"]:
                raise InputError(
                    "one vector fits two perturbations of different datasets", where=str(own.path),
                    found=f"{own.ids[number]} for {name} and {row['perturbation']}",
                    expected="a row for each, named as in the column perturbation of <dataset>.perturbations.tsv",
                )  # fmt: skip
            if known != key:
                isoforms.add(name)
    if isoforms:
        log.warning("%s: one vector for two proteins of one gene: %s", own.encoder, listed(sorted(isoforms)))


def check(dataset: Dataset, own: OwnVectors, chosen: Sequence[int]) -> None:
    """Raise :class:`InputError` for vectors that cannot be what they are called.

    - All vectors equal: they say nothing.
    - The vector of a variant that changes the protein is exactly that of the reference: what programs leave behind that
      failed on a variant and went on with the wild type. Single numbers (D = 1) may coincide and are only logged.
    - The file states the sequences it was made from and the dataset's is not among them.
    """
    x = own.x[chosen]
    if len(x) > 1 and not np.ptp(x, axis=0).any():
        raise InputError(f"all vectors of {dataset.id} are equal", where=str(own.path), found=f"{len(x)} perturbations")
    same = [
        row["perturbation"]
        for number, row in enumerate(dataset.rows)
        if row["status"] == "encoded" and _is_reference(own, chosen[number], row)
    ]
    if same and x.shape[1] > 1:
        raise InputError(
            f"the vector of {len(same)} perturbations of {dataset.id} is exactly that of the reference",
            where=str(own.path),
            found=listed(same),
            hint="these were probably never encoded; leave nothing under a name that is not its own",
        )
    if same:
        log.warning("%s: the reference's number stands for %s of %s", own.encoder, listed(same), dataset.id)
    stated = own.facts.get("sequence_sha256")
    known = set(stated.values() if isinstance(stated, dict) else stated if isinstance(stated, list) else ())
    used = {row["sequence_sha256"] for row in dataset.rows if row["sequence_sha256"]}
    if known and not used <= known:
        raise InputError(
            f"made from another protein than that of {dataset.id}, by the file's provenance", where=str(own.path),
            found=f"sequence_sha256 {listed(sorted(map(str, known)), 2)}", expected=listed(sorted(used - known), 2),
        )  # fmt: skip


def check_silent(dataset: Dataset, own: OwnVectors, chosen: Sequence[int]) -> None:
    """Raise :class:`InputError` when the DIFF of what is the reference (synonymous, wild type, control) is not zero."""
    values = own.of("diff")
    names = {row["perturbation"]: place for row, place in zip(dataset.rows, chosen, strict=True)
             if row["status"] == "identical_to_ref"}  # fmt: skip
    if h5ad.CONTROL in own.rows:
        names[h5ad.CONTROL] = own.rows[h5ad.CONTROL]
    if wrong := [name for name, place in names.items() if values[place].any()]:
        largest = max(float(np.abs(values[names[name]]).max()) for name in wrong)
        raise InputError(
            f"the DIFF of {len(wrong)} rows of {dataset.id} that are the reference is not zero",
            where=str(own.path), found=f"{listed(wrong)}, up to {largest:.3g}", expected="X equal to REF",
            hint="a synonymous variant, the wild type and control have the reference's protein: "
            "give them its vector, not that of another pass",
        )  # fmt: skip


def _is_reference(own: OwnVectors, number: int, row: Mapping[str, str]) -> bool:
    """Whether a row holds what the unchanged protein has: its REF, a DIFF of zero, or the row ``GENE~WT``."""
    if own.kind == "diff":
        return not own.x[number].any()
    if own.kind == "ref":
        return False
    if own.ref is not None and np.array_equal(own.ref[number], own.x[number]):
        # without any REF (genes), zeros on both sides are no reference
        return bool(own.ref[number].any())
    wild_type = own.rows.get(f"{row['gene']}~{WILD_TYPE}")
    return wild_type is not None and np.array_equal(own.x[wild_type], own.x[number])


def to_anndata(dataset: Dataset, own: OwnVectors, chosen: Sequence[int], strategy: str) -> ad.AnnData:
    """Return the encoding of a strategy: one row per perturbation and the `control` row, the file's own or zeros."""
    import anndata as ad
    import pandas as pd

    values = own.of(strategy)
    control = values[own.rows[h5ad.CONTROL]] if h5ad.CONTROL in own.rows else np.zeros(values.shape[1], np.float32)
    obs = pd.DataFrame([{name: row.get(name, "") for name in CARRIED} for row in dataset.rows], columns=list(CARRIED))
    obs["vector_row"] = [own.ids[row] for row in chosen]
    obs.index = pd.Index([row["perturbation"] for row in dataset.rows], dtype=object)
    obs.loc[h5ad.CONTROL] = dict.fromkeys(obs.columns, "") | {"consequence": h5ad.CONTROL}
    var = pd.DataFrame(index=pd.Index([f"dim_{number}" for number in range(values.shape[1])], dtype=object))
    return ad.AnnData(np.vstack([values[chosen], control[None]]), obs=obs.astype(object), var=var)


def facts_of(own: OwnVectors, dataset: Dataset, strategy: str) -> dict[str, Any]:
    """Return the provenance of an encoding: what the file states, its SHA-256, and what we know."""
    stated = {key: own.facts[key] for key in STATED if own.facts.get(key) is not None}
    entry = catalogue.own_entry(own.encoder)
    unknown = dict.fromkeys(("dtype_compute", "pooling", "n_passes", "device", "deterministic", "noncommercial"))
    facts = {
        **unknown,
        **stated,
        "library": "user",
        "file": own.path.name,
        "file_sha256": sha256_file(own.path),
        "stated": dict(own.facts),
        "strategy": strategy,
        "dataset": dataset.id,
    }
    sequences = [row["sequence_sha256"] for row in dataset.rows if row["sequence_sha256"]]
    return provenance.build(own.encoder, entry, facts, sequences, {}, 0)


def report(own: OwnVectors, datasets: Mapping[str, tuple[Dataset, Sequence[int]]]) -> None:
    """Log what a user should know: rows no dataset uses or found by a label, vectors of zeros or silent variants."""
    used = {row for _, chosen in datasets.values() for row in chosen}
    extra = [name for name, row in own.rows.items() if row not in used and name != h5ad.CONTROL]
    if extra:
        log.warning("%s: %d vectors belong to no perturbation in use: %s", own.encoder, len(extra), listed(extra))
    for dataset, chosen in datasets.values():
        names = [(row["perturbation"], own.ids[place]) for row, place in zip(dataset.rows, chosen, strict=True)]
        if by_label := [f"{label} = {name}" for name, label in names if name != label]:
            log.warning("%s: found by their labels in %s: %s", own.encoder, dataset.id, listed(by_label))
        if zero := [name for (name, _), place in zip(names, chosen, strict=True) if not own.x[place].any()]:
            log.warning("%s: vectors of zeros in %s: %s", own.encoder, dataset.id, listed(zero))
        if silent := as_unchanged(dataset, own, chosen):
            log.warning(
                "%s: exactly the vector of a synonymous variant in %s (never encoded?): %s",
                own.encoder, dataset.id, listed(silent),
            )  # fmt: skip


def as_unchanged(dataset: Dataset, own: OwnVectors, chosen: Sequence[int]) -> list[str]:
    """Return the variants whose vector is exactly that of an unchanged protein in the dataset, zeros aside.

    Vectors of whole proteins were then never encoded; vectors of residues alone (one-hot) may coincide: no error.
    """
    vectors = [(row, own.x[place]) for row, place in zip(dataset.rows, chosen, strict=True)]
    unchanged = {
        (row["sequence_sha256"], vector.tobytes())
        for row, vector in vectors
        if row["status"] == "identical_to_ref" and vector.any()
    }
    return [
        row["perturbation"]
        for row, vector in vectors
        if row["status"] == "encoded" and (row["sequence_sha256"], vector.tobytes()) in unchanged
    ]


def main(argv: Sequence[str]) -> None:
    """Command line of vcb_import_vectors.py."""
    parser = cli.parser("Take over vectors made elsewhere as an encoder of the benchmark.", EPILOG)
    parser.add_argument("--vectors", nargs="+", required=True, type=Path, metavar="FILE", help="NAME.h5ad or NAME.npz")
    parser.add_argument(
        "--perturbations", nargs="+", required=True, type=Path, metavar="TSV", help="<dataset>.perturbations.tsv"
    )
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=["alt"], help="what to write")
    parser.add_argument("--assets", type=Path, default=catalogue.ASSETS, help="folder of the catalogues")
    parser.add_argument("--out-dir", type=Path, default=Path(), help="folder of the results")
    options = parser.parse_args(argv)

    if options.assets.is_dir():  # in a task of the pipeline only bin/ is there; PLAN has compared the names
        entries = catalogue.load("encoders", options.assets)
        catalogue.own_names([path.name for path in options.vectors], "--vectors", entries)
    datasets = read_datasets(options.perturbations)
    for path in options.vectors:
        own = read(path)
        for strategy in options.strategies:
            own.of(strategy)  # what the file cannot serve is said before anything is written
        chosen = {dataset.id: (dataset, match(dataset, own)) for dataset in datasets}
        for dataset, rows in chosen.values():
            check(dataset, own, rows)
            if "diff" in options.strategies:
                check_silent(dataset, own, rows)
        check_shared(own, chosen)
        report(own, chosen)
        options.out_dir.mkdir(parents=True, exist_ok=True)
        for dataset, rows in chosen.values():
            for strategy in options.strategies:
                adata = to_anndata(dataset, own, rows, strategy)
                name = f"{dataset.id}.{own.encoder}.{strategy}.h5ad"
                h5ad.write(adata, options.out_dir / name, facts_of(own, dataset, strategy))
                log.info("%s: %d rows, %d columns", name, *adata.shape)

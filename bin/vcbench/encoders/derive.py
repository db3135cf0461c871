"""The DERIVE step: strategies of a dataset from the REF and ALT vectors of an encoder, and the shuffled control.

ALT is the vector of the mutant residue, DIFF = REF - ALT in fp32 (specs: plm_encoders.md, definitions and 3.2).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.core import cli, h5ad
from vcbench.core.errors import InputError, ModelError
from vcbench.core.seeds import stream
from vcbench.core.tables import read_tsv
from vcbench.encoders import export, shards
from vcbench.encoders.requests import GENE, PERTURBATION_COLUMNS, in_use, key_of
from vcbench.variants.record import WILD_TYPE

if TYPE_CHECKING:
    import anndata as ad

log = logging.getLogger(__name__)

STRATEGIES = ("alt", "diff", "ref")
SHUFFLED = "shuffled"

#: The shuffled control of a dataset of gene perturbations is made from this encoder, whatever the run's base is.
GENE_BASE = "onehot"

#: Columns of perturbations.tsv that are repeated in `obs`.
CARRIED = (
    "labels", "gene", "protein_id", "isoform", "sequence_sha256", "sequence_length", "hgvs_p", "consequence", "ref",
    "pos", "alt", "status",
)  # fmt: skip
#: Columns of the vectors' `obs` that are repeated when the encoder wrote them.
WINDOW_COLUMNS = ("window_start", "window_len", "token_index", "pos_in_window")

EPILOG = """
example:
  vcb_derive.py --vectors vectors/*.vectors.h5ad --perturbations tp53.perturbations.tsv --strategies alt diff \\
    --shuffled-base physchem --seed 0 --out-dir encodings

Writes encodings/<dataset>.<encoder>.<strategy>.h5ad: obs = perturbations with cells and a row `control` (zeros, with
pooling `mean` the wild type). Several shards of an encoder (<encoder>.<shard>.vectors.h5ad) are united; the SHA-256 in
the keys file beside a shard is checked.
"""


@dataclass(frozen=True)
class Dataset:
    """The perturbations in use of one dataset, sorted by id: their rows of perturbations.tsv and keys of vectors."""

    id: str
    rows: tuple[Mapping[str, str], ...]
    keys: tuple[str, ...]

    @property
    def is_gene(self) -> bool:
        """True when the perturbations are genes, not variants."""
        return self.rows[0]["consequence"] == GENE

    @property
    def kind(self) -> str:
        """``gene`` or ``variant``, as in the modalities of assets/encoders.yml."""
        return "gene" if self.is_gene else "variant"


@dataclass(frozen=True)
class Vectors:
    """The vectors of one encoder for one dataset: REF and ALT (perturbations, D) float32, `window` columns per row.

    `control` (D,) is the vector of control cells, which are wild type: zero under pooling ``position``, for the wild
    type has no mutated residue; under pooling ``mean`` the mean over the dataset's proteins (specs: 1.3).
    """

    encoder: str
    ref: np.ndarray
    alt: np.ndarray
    columns: tuple[str, ...]
    window: Mapping[str, Sequence[str]]
    facts: Mapping[str, Any]
    control: np.ndarray


def read_dataset(path: Path) -> Dataset:
    """Return the perturbations in use of `<dataset>.perturbations.tsv`; :class:`InputError` when there are none."""
    rows = []
    for number, row in enumerate(read_tsv(path, PERTURBATION_COLUMNS), start=2):
        if in_use(row, f"{path}, line {number}"):
            rows.append(row)
    rows.sort(key=lambda row: row["perturbation"])
    if not rows:
        raise InputError("no perturbation has cells", where=str(path))
    if len({row["consequence"] == GENE for row in rows}) > 1:
        raise InputError("gene perturbations and variants in one dataset", where=str(path))
    names = [row["perturbation"] for row in rows]
    if h5ad.CONTROL in names or len(set(names)) != len(names):
        raise InputError("perturbation ids are not unique, or one is the control", where=str(path))
    return Dataset(path.name.split(".")[0], tuple(rows), tuple(key_of(row, str(path)) for row in rows))


def read_datasets(paths: Sequence[Path]) -> list[Dataset]:
    """Return the datasets of several tables; :class:`InputError` when two have one name, for so would their results."""
    found: dict[str, Path] = {}
    for path in paths:
        name = path.name.split(".")[0]
        if name in found:
            raise InputError(
                f"two tables of dataset {name}", where=str(path), found=str(found[name]),
                expected="one per dataset", hint="results are called as the dataset: give it another name",
            )  # fmt: skip
        found[name] = path
    return [read_dataset(path) for path in paths]


def select(dataset: Dataset, vectors: ad.AnnData, facts: Mapping[str, Any], atlas: Dataset | None = None) -> Vectors:
    """Return the rows and columns of an encoder's vectors that belong to a dataset.

    With an `atlas`, the rows are its substitutions and the columns and the control those of the dataset, for which
    models were fitted.

    Raises :class:`ModelError` naming the perturbations in use that have no vector.
    """
    position = {key: row for row, key in enumerate(vectors.obs_names)}
    wild_types = wild_types_of(dataset) if facts.get("pooling") == "mean" else []
    missing = [row["perturbation"] for row, key in zip(dataset.rows, dataset.keys, strict=True) if key not in position]
    missing += [f"wild type {key}" for key in wild_types if key not in position]
    if missing:
        raise ModelError(
            f"encoder {facts['encoder_id']} has no vector for {len(missing)} perturbations of {dataset.id}: "
            + ", ".join(missing[:5])
        )
    wanted = [position[key] for key in dataset.keys]
    alt, ref = np.asarray(vectors.X)[wanted], np.asarray(vectors.layers["ref"])[wanted]
    scope = vectors.var["scope"].to_numpy()
    filled = (alt != 0).any(axis=0) | (ref != 0).any(axis=0)
    if atlas is not None:
        unknown = [row["perturbation"] for row, key in zip(atlas.rows, atlas.keys, strict=True) if key not in position]
        if unknown:
            raise ModelError(f"encoder {facts['encoder_id']} has no vector for {len(unknown)} substitutions: "
                             + ", ".join(unknown[:5]))  # fmt: skip
        wanted = [position[key] for key in atlas.keys]
        alt, ref = np.asarray(vectors.X)[wanted], np.asarray(vectors.layers["ref"])[wanted]
    kept = (scope == "any") | ((scope == "variant") & (not dataset.is_gene)) | ((scope == "used") & filled)
    window = {name: vectors.obs[name].astype(str).to_numpy()[wanted] for name in WINDOW_COLUMNS if name in vectors.obs}
    control = np.zeros(vectors.n_vars, np.float32)
    if wild_types:
        rows = np.asarray(vectors.layers["ref"])[[position[key] for key in wild_types]]
        control = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    names = tuple(vectors.var_names[kept])
    return Vectors(facts["encoder_id"], ref[:, kept], alt[:, kept], names, window, facts, control[kept])


def encodable(dataset: Dataset, facts: Mapping[str, Any]) -> tuple[Dataset, dict[str, Any]]:
    """Return a dataset without what its encoder declared to have no vector, and the facts with {perturbation: reason}.

    Raises :class:`InputError` when nothing is left.
    """
    declared = facts.get("not_encoded", {})
    pairs = [pair for pair in zip(dataset.rows, dataset.keys, strict=True) if pair[1] not in declared]
    without = {
        row["perturbation"]: declared[key]
        for row, key in zip(dataset.rows, dataset.keys, strict=True)
        if key in declared
    }
    if not pairs:
        raise InputError(
            f"encoder {facts['encoder_id']} has no vector for any perturbation of {dataset.id}",
            where=f"dataset {dataset.id}", found=min(without.values()), hint="leave the encoder out",
        )  # fmt: skip
    if without:
        log.warning("%s: no vector for %d of %d perturbations of %s: %s", facts["encoder_id"], len(without),
                    len(dataset.rows), dataset.id, ", ".join(sorted(without)[:20]))  # fmt: skip
    rows, keys = zip(*pairs, strict=True)
    others = {name: value for name, value in facts.items() if name != "not_encoded"}
    return replace(dataset, rows=rows, keys=keys), others | ({"not_encoded": without} if without else {})


def wild_types_of(dataset: Dataset) -> list[str]:
    """Return the keys of the wild types of a dataset's proteins, sorted; none for genes."""
    return [] if dataset.is_gene else sorted({f"{key.split(':')[0]}:{WILD_TYPE}" for key in dataset.keys})


def derive(vectors: Vectors, strategy: str) -> np.ndarray:
    """Return the (perturbations, D) float32 vectors of a strategy: ``alt``, ``ref`` or ``diff`` = REF - ALT."""
    if strategy == "diff":
        return vectors.ref.astype(np.float32) - vectors.alt.astype(np.float32)
    return {"alt": vectors.alt, "ref": vectors.ref}[strategy].astype(np.float32)


def derangement(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return a uniformly drawn permutation of ``n`` >= 2 items without fixed point (rejection, e tries on average)."""
    while True:
        order = rng.permutation(n)
        if not (order == np.arange(n)).any():
            return order


def shuffle(dataset: Dataset, vectors: Vectors, seed: int) -> tuple[Vectors, np.ndarray]:
    """Deal every perturbation the REF and ALT vectors of another one; also return whose it got, (perturbations,) ids.

    Perturbations are sorted, so neither the row order nor the strategy changes the deal.
    """
    if len(dataset.rows) < 2:
        raise InputError("cannot shuffle the vectors of a single perturbation", where=f"dataset {dataset.id}")
    order = derangement(len(dataset.rows), stream(seed, "shuffled encoder", dataset.id))
    names = np.array([row["perturbation"] for row in dataset.rows], dtype=object)
    window = {name: np.asarray(values)[order] for name, values in vectors.window.items()}
    facts = {**vectors.facts, "encoder_id": SHUFFLED, "base_encoder": vectors.encoder, "shuffle_seed": seed}
    dealt = replace(
        vectors, encoder=SHUFFLED, ref=vectors.ref[order], alt=vectors.alt[order], window=window, facts=facts
    )
    return dealt, names[order]


def to_anndata(dataset: Dataset, vectors: Vectors, strategy: str, source: np.ndarray | None = None) -> ad.AnnData:
    """Return X = vectors of a strategy: one row per perturbation and the explicit `control` row at the end.

    DIFF of control cells is zero, since they are the reference.

    Raises :class:`ModelError` when a synonymous variant has a DIFF although the encoder has a REF.
    """
    import anndata as ad
    import pandas as pd

    matrix = derive(vectors, strategy)
    if strategy == "diff" and vectors.ref.any() and source is None:
        silent = np.array([row["status"] == "identical_to_ref" for row in dataset.rows])
        if matrix[silent].any():
            raise ModelError(f"{vectors.encoder}: a synonymous variant of {dataset.id} has a DIFF that is not zero")
    rows = [{name: row.get(name, "") for name in CARRIED} for row in dataset.rows]
    obs = pd.DataFrame(rows, columns=list(CARRIED)).assign(**vectors.window)
    if source is not None:
        obs["vector_of"] = source
    obs.index = pd.Index([row["perturbation"] for row in dataset.rows], dtype=object)
    obs.loc[h5ad.CONTROL] = dict.fromkeys(obs.columns, "") | {"consequence": h5ad.CONTROL}
    var = pd.DataFrame(index=pd.Index(vectors.columns, dtype=object))
    control = np.zeros_like(vectors.control) if strategy == "diff" else vectors.control
    return ad.AnnData(np.vstack([matrix, control[None]]), obs=obs.astype(object), var=var)


def base_of(dataset: Dataset, shuffled_base: str) -> str:
    """Return the encoder whose vectors are shuffled for a dataset."""
    return GENE_BASE if dataset.is_gene else shuffled_base


def write_all(
    dataset: Dataset,
    vectors: Vectors,
    strategies: Sequence[str],
    folder: Path,
    source: np.ndarray | None = None,
    npz: bool = False,
    suffix: str = "",
) -> None:
    """Write `<dataset>.<encoder>.<strategy>.h5ad` for every strategy, with ``npz`` also as plain arrays and tables.

    `suffix` is `.atlas` for the vectors of all substitutions.
    """
    for strategy in strategies:
        adata = to_anndata(dataset, vectors, strategy, source)
        name = f"{dataset.id}.{vectors.encoder}.{strategy}{suffix}.h5ad"
        facts = {**vectors.facts, "strategy": strategy, "dataset": dataset.id}
        if npz:
            export.write(adata, folder / name.removesuffix(".h5ad"), facts)
        h5ad.write(adata, folder / name, facts)
        log.info("%s: %d rows, %d columns", name, *adata.shape)


def main(argv: Sequence[str]) -> None:
    """Command line of vcb_derive.py."""
    parser = cli.parser("Derive the vectors of each dataset and strategy from REF and ALT.", EPILOG)
    parser.add_argument("--vectors", nargs="+", required=True, type=Path, metavar="H5AD", help="<encoder>.vectors.h5ad")
    parser.add_argument(
        "--perturbations", nargs="+", required=True, type=Path, metavar="TSV", help="<dataset>.perturbations.tsv"
    )
    parser.add_argument(
        "--substitutions", nargs="*", default=[], type=Path, metavar="TSV",
        help="<dataset>.substitutions.tsv: write only <dataset>.<encoder>.<strategy>.atlas.h5ad of these datasets",
    )  # fmt: skip
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=["alt", "diff"], help="what to derive")
    parser.add_argument(
        "--shuffled-base", default="", metavar="ENCODER",
        help="write the control 'shuffled' from this encoder's vectors, if they are given (gene datasets: onehot)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="seed of the shuffled control")
    parser.add_argument(
        "--export-npz", action="store_true", help="also write every encoding as .npz, .tsv and .json, for any program"
    )
    parser.add_argument(
        "--versions", type=Path, metavar="TXT", help="also write the versions of the software that made the vectors"
    )
    parser.add_argument("--out-dir", type=Path, default=Path(), help="folder of the results")
    options = parser.parse_args(argv)

    atlases = {atlas.id: atlas for atlas in read_datasets(options.substitutions)}
    datasets = read_datasets(options.perturbations)
    if atlases:
        datasets = [dataset for dataset in datasets if dataset.id in atlases]
    options.out_dir.mkdir(parents=True, exist_ok=True)
    found = shards.read(options.vectors)
    for source, facts in found.values():
        for dataset in datasets:
            if dataset.kind not in facts["modalities"]:
                log.info("%s does not encode %s perturbations (%s)", facts["encoder_id"], dataset.kind, dataset.id)
                continue
            if atlases:
                atlas = atlases[dataset.id]
                write_all(atlas, select(dataset, source, facts, atlas), options.strategies, options.out_dir,
                          npz=options.export_npz, suffix=".atlas")  # fmt: skip
                continue
            part, own = encodable(dataset, facts)
            vectors = select(part, source, own)
            write_all(part, vectors, options.strategies, options.out_dir, npz=options.export_npz)
            if options.shuffled_base and base_of(dataset, options.shuffled_base) == vectors.encoder:
                dealt, owners = shuffle(part, vectors, options.seed)
                write_all(part, dealt, options.strategies, options.out_dir, owners, options.export_npz)
    if options.versions:
        options.versions.write_text(software(facts for _, facts in found.values()))


def software(facts: Iterable[Mapping[str, Any]]) -> str:
    """Return `name=version` of what made the vectors, as in vcb_versions.py; of several versions the last."""
    known: dict[str, str] = {}
    for each in facts:
        known |= each.get("versions", {})
    return " ".join(f"{name}={version}" for name, version in sorted(known.items())) + "\n"

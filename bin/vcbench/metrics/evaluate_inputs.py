"""Files of `vcb_evaluate.py`: opened without loading their cells, checked against each other in one pass over each."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from vcbench.core import evaluators
from vcbench.core.blocks import BlockReader
from vcbench.core.errors import InputError
from vcbench.core.h5ad import CONTROL
from vcbench.core.tables import read_tsv
from vcbench.metrics import contract
from vcbench.metrics.stored_cells import columns_of

log = logging.getLogger(__name__)

LABEL = "perturbation"
#: Option of the predictions, and name of the scored model when there is one file without a name.
PREDICTIONS, OWN = "--predictions", evaluators.PREDICTIONS
#: Labels under which others keep their control cells, for error messages only.
CONTROL_WORDS = ("control", "ctrl", "ctl", "nt", "ntc", "non-targeting", "non_targeting", "nontargeting", "wt", "dmso")
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
#: Larger values cannot be natural log1p of scaled counts.
MAX_LOG1P = 20.0
#: Cells with fewer detected genes may be equal by chance; equal cells with more of them are the same cell.
MIN_GENES_FINGERPRINT = 50
#: Totals of cells within this share of their median count as scaled to one total.
SCALED_WITHIN = 0.2
#: Predicted totals, as a multiple of measured ones, beyond which the scale is said to be doubtful.
SCALE_RATIOS = (0.5, 2.0)
#: The same for sums of log1p values of held-out controls, as a multiple of those of training controls.
CONTROL_RATIOS = (0.8, 1.25)


@dataclass(frozen=True)
class Source:
    """An open file: its option on the command line, and the perturbation of each row."""

    option: str
    reader: BlockReader
    labels: np.ndarray

    @property
    def path(self) -> Path:
        """Path of the file."""
        return self.reader.path

    @property
    def model(self) -> str:
        """Name of the model whose predictions the file holds."""
        return self.option.removeprefix(PREDICTIONS).strip() or OWN

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Perturbations, sorted, without the control."""
        return tuple(sorted(set(self.labels.tolist()) - {CONTROL}))

    @cached_property
    def n_control(self) -> int:
        """Number of control rows."""
        return int((self.labels == CONTROL).sum())

    def facts(self, sha256: str, n_common: int) -> dict[str, object]:
        """Return what the record of an evaluation says about the file."""
        return {
            "file": self.path.name, "sha256": sha256, "rows": self.reader.n_rows, "control_rows": self.n_control,
            "perturbations": len(self.ids), "genes": self.reader.n_genes,
            "genes_left_out": self.reader.n_genes - n_common,
        }  # fmt: skip


def named_files(given: Sequence[str], models: Mapping[str, object]) -> dict[str, Path]:
    """Return the files of predictions by option and name, ``--predictions NAME``; one file alone needs no name.

    A file is called by its stem or as in ``NAME=file``. Raises :class:`InputError` for names that are not plain, given
    twice, or those of the pipeline's `models` or of the evaluator's own rows.
    """
    found: dict[str, Path] = {}
    for text in given:
        name, sign, path = text.partition("=")
        if sign and not path:
            raise InputError("no file", where=PREDICTIONS, found=text, expected="NAME=file")
        if not sign or Path(text).exists():
            name, path = Path(text).stem, text
            if len(given) == 1:
                return {PREDICTIONS: Path(path)}
        hint = "name the model: NAME=file"
        if not MODEL_NAME.fullmatch(name):
            raise InputError("not a plain name of a model", where=PREDICTIONS, found=f"'{name}' in {text}",
                             expected="letters, digits and _ . + -", hint=hint)  # fmt: skip
        if name in models or name in set(evaluators.RESERVED) - {OWN}:
            raise InputError(f"'{name}' is the name of a baseline, model or control of the evaluation",
                             where=PREDICTIONS, found=text, hint=hint)  # fmt: skip
        if f"{PREDICTIONS} {name}" in found:
            raise InputError("two models of one name", where=PREDICTIONS, found=name, hint=hint)
        found[f"{PREDICTIONS} {name}"] = Path(path)
    return found


def open_source(path: Path, option: str) -> Source:
    """Return an open file; raises :class:`InputError` unless it has labels, and names that occur once."""
    reader = BlockReader(path)
    if LABEL not in reader.obs:
        raise InputError("missing obs column", where=str(path), found=", ".join(map(str, reader.obs.columns)) or "none",
                         expected=LABEL)  # fmt: skip
    if not reader.n_rows:
        raise InputError("no rows", where=str(path))
    for axis, names in (("gene", reader.var_names), ("cell", reader.obs.index)):
        if not names.is_unique:
            raise InputError(f"duplicate {axis} name", where=str(path), found=names[names.duplicated()][0],
                             hint="make the names unique")  # fmt: skip
    column = reader.obs[LABEL]
    unlabelled = column.isna() | (column.astype(str) == "")
    if unlabelled.any():
        raise InputError("rows without a perturbation", where=f"{path}, obs['{LABEL}']", found=int(unlabelled.sum()))
    return Source(option, reader, column.astype(str).to_numpy().astype(object))


@dataclass(frozen=True)
class Scan:
    """What one pass over a file showed: `totals` and `common_totals` (rows,) sums of linear values on all genes of the
    file and on the common ones, and per control row its name and fingerprint (detected genes, sum, sum of squares on
    the common genes). `total_of_mean` is the sum of linear values of the mean log1p profile on the common genes, which
    is less than the totals of the rows it is the mean of: the more so, the shallower they are.
    """

    totals: np.ndarray
    common_totals: np.ndarray
    controls: dict[str, tuple[int, float, float]]
    total_of_mean: float


def scan(source: Source, genes: Sequence[str], measured: bool, with_totals: bool = True) -> Scan:
    """Return totals of the rows (NaN without `with_totals`) and fingerprints of the controls of a file.

    Raises :class:`InputError` for wrong values. Only measured values must not be negative: a regression may well
    predict slightly less than nothing.
    """
    columns, where = columns_of(source.reader, genes), f"{source.path}, X"
    names = np.asarray(source.reader.obs.index, dtype=str)
    totals = np.full(source.reader.n_rows, np.nan)
    common = totals if columns is None else totals.copy()
    counted = np.ones(source.reader.n_genes)
    if columns is not None:
        counted = np.bincount(columns, minlength=source.reader.n_genes).astype(np.float64)
    controls: dict[str, tuple[int, float, float]] = {}
    summed = np.zeros(source.reader.n_genes)
    n_empty, whole, lowest, highest = 0, True, np.inf, -np.inf
    for start, block in source.reader.blocks():
        stop = start + block.shape[0]
        if not np.isfinite(block.data).all():
            at = int(np.searchsorted(block.indptr, np.flatnonzero(~np.isfinite(block.data))[0], side="right")) - 1
            raise InputError("values that are not finite", where=where, found=f"NaN or inf in row {names[start + at]}",
                             expected="numbers")  # fmt: skip
        low, high = block.data.min(initial=0), block.data.max(initial=0)
        if measured and low < 0:
            raise InputError("negative values", where=where, found=float(low), expected="log1p expression")
        if high > MAX_LOG1P:
            raise InputError("values too large for log1p", where=where, found=float(high),
                             expected="natural log1p of scaled counts", hint="are these raw counts?")  # fmt: skip
        n_empty += int((np.diff(block.indptr) == 0).sum())
        whole = whole and not (block.data % 1).any()
        full = block.nnz == block.shape[0] * block.shape[1]
        lowest, highest = min(lowest, block.data.min(initial=np.inf) if full else low), max(highest, high)
        held = np.flatnonzero(source.labels[start:stop] == CONTROL) if measured else []
        if len(held):
            part = block[held].astype(np.float64)
            part = part if columns is None else part[:, columns]
            sums = np.asarray(part.sum(axis=1)).ravel()
            squares = np.asarray(part.multiply(part).sum(axis=1)).ravel()
            for row, n, total, square in zip(held, np.diff(part.indptr), sums, squares, strict=True):
                controls[str(names[start + row])] = (int(n), round(float(total), 6), round(float(square), 6))
        if with_totals:
            summed += np.bincount(block.indices, weights=block.data, minlength=len(summed))
            linear = block.astype(np.float64)
            linear.data = np.expm1(linear.data)
            totals[start:stop] = np.asarray(linear.sum(axis=1)).ravel()
            if columns is not None:
                common[start:stop] = linear @ counted
    # A prediction may be one number everywhere, which metrics then say.
    _check_content(source, n_empty, whole and (measured or highest > lowest), measured)
    total_of_mean = float(counted @ np.expm1(summed / source.reader.n_rows))
    return Scan(totals, common, controls, total_of_mean)


def _check_content(source: Source, n_empty: int, whole: bool, measured: bool) -> None:
    """Raise :class:`InputError` for rows without any value and for whole numbers; a few empty rows are said in the log.

    Logarithms of scaled counts are not all whole; few counts of shallow cells are too small to be told by their size.
    """
    where, n = f"{source.path}, X", source.reader.n_rows
    if measured and n_empty > n / 2:
        raise InputError("rows without any value", where=where, found=f"{n_empty} of {n} rows are all 0",
                         expected="natural log1p of scaled counts")  # fmt: skip
    if whole:
        raise InputError("whole numbers only", where=where, expected="natural log1p of scaled counts",
                         hint="are these raw counts?")  # fmt: skip
    if n_empty:
        log.warning("%s: %d of %d rows are all 0", source.path, n_empty, n)


def shared_controls(test: Scan, train: Scan) -> int:
    """Return how many control cells occur in both files: same name and values, or the same values on many genes."""
    values = {found for found in train.controls.values() if found[0] >= MIN_GENES_FINGERPRINT}
    return sum(train.controls.get(name) == found or found in values for name, found in test.controls.items())


def check_labels(test: Source, train: Source) -> None:
    """Raise :class:`InputError` unless both files have control and perturbed cells and share no perturbation."""
    for source in (test, train):
        if not source.n_control:
            similar = [name for name in source.ids if name.strip().lower() in CONTROL_WORDS]
            raise InputError("no control cells", where=f"{source.path}, obs['{LABEL}']",
                             found=", ".join(map(repr, similar[:3])) or None, expected=f"label '{CONTROL}'",
                             hint="half of the control cells belong into each of --truth and --train")  # fmt: skip
        if source.n_control < contract.MIN_CELLS_PROFILE:
            raise InputError("too few control cells", where=str(source.path), found=source.n_control,
                             expected=f"at least {contract.MIN_CELLS_PROFILE}")  # fmt: skip
        if source.n_control < contract.MIN_CELLS_DE:
            log.warning("%s: only %d control cells: changes against the control are mostly noise", source.path,
                        source.n_control)  # fmt: skip
        if not source.ids:
            raise InputError("no perturbed cells", where=f"{source.path}, obs['{LABEL}']")
    both = sorted(set(test.ids) & set(train.ids))
    if both:
        more = f" and {len(both) - 3} more" if len(both) > 3 else ""
        raise InputError("perturbation in both files", where="--truth, --train", found=", ".join(both[:3]) + more,
                         hint="test perturbations must not be in the training cells")  # fmt: skip


def common_genes(sources: Sequence[Source]) -> list[str]:
    """Return the genes of all files in the order of the first; raises :class:`InputError` when there are too few."""
    inside = set.intersection(*(set(source.reader.var_names) for source in sources))
    genes = [name for name in sources[0].reader.var_names if name in inside]
    if len(genes) < contract.MIN_GENES_CORRELATION:
        first = "; ".join(f"{source.option} {', '.join(map(str, source.reader.var_names[:2]))}" for source in sources)
        raise InputError("the files have no common genes", where="var names", found=f"{len(genes)} ({first})",
                         expected="the same gene names in all of them")  # fmt: skip
    for source in sources:
        if source.reader.n_genes > len(genes):
            log.warning("%s: %d of its %d genes are not in all files and are left out", source.path,
                        source.reader.n_genes - len(genes), source.reader.n_genes)  # fmt: skip
    return genes


def check_predicted(predicted: Source, test: Source, allow_missing: bool) -> tuple[list[str], list[str]]:
    """Return test perturbations without prediction and predicted ones that are none; both must be allowed."""
    missing, extra = sorted(set(test.ids) - set(predicted.ids)), sorted(set(predicted.ids) - set(test.ids))
    if len(missing) == len(test.ids):
        raise InputError("no perturbation in common", where="--truth, --predictions",
                         found=repr(predicted.ids[0]) if predicted.ids else "none", expected=repr(test.ids[0]),
                         hint="labels must be the same in both files, spaces and case included")  # fmt: skip
    problems = [
        f"{len(names)} {what} (first {', '.join(names[:3])})"
        for what, names in (("missing", missing), ("not in --truth", extra))
        if names
    ]
    if problems and not allow_missing:
        raise InputError("other perturbations than --truth", where=str(predicted.path), found="; ".join(problems),
                         expected=f"its {len(test.ids)} perturbations",
                         hint="--allow-missing scores the others and counts these")  # fmt: skip
    for problem in problems:
        log.warning("%s: perturbations %s", predicted.path, problem)
    if predicted.n_control:
        log.warning("%s: %d control rows are ignored", predicted.path, predicted.n_control)
    return missing, extra


def target_sum(train: Scan, given: float) -> float:
    """Return the total to which cells were scaled: given, or the median total of the training cells."""
    middle = float(np.median(train.totals))
    share = float((np.abs(train.totals - middle) <= SCALED_WITHIN * middle).mean())
    if share < 0.5:
        log.warning(
            "--train: only %.0f %% of the cells have a total within %.0f %% of the median: are they scaled to one "
            "total, with the genes that make up most of it? Give --target-sum if genes were left out.",
            100 * share, 100 * SCALED_WITHIN,
        )  # fmt: skip
    if given:
        if middle > (1 + SCALED_WITHIN) * given:
            log.warning("--target-sum %g: the training cells add up to %.1f, which is more", given, middle)
        return given
    log.info("target sum of the normalisation estimated from the training cells: %.1f", middle)
    return middle


def check_sizes(test: Source, train: Source) -> None:
    """Say in the log which perturbations have too few cells for a value, and when nothing can be significant.

    Raises :class:`InputError` when that holds for all held-out perturbations.
    """
    for source in (test, train):
        names, counts = np.unique(source.labels[source.labels != CONTROL].astype(str), return_counts=True)
        few = names[counts < contract.MIN_CELLS_PROFILE]
        if source is test and len(few) == len(names):
            raise InputError("no perturbation with enough cells", where=str(source.path),
                             found=f"at most {counts.max()} each",
                             expected=f"at least {contract.MIN_CELLS_PROFILE}")  # fmt: skip
        if len(few):
            log.warning("%s: %d of %d perturbations have fewer than %d cells (first %s)", source.path, len(few),
                        len(names), contract.MIN_CELLS_PROFILE, few[0])  # fmt: skip


def read_table(path: Path, test: Source) -> list[dict[str, str]]:
    """Return the rows of the table of perturbations.

    Raises :class:`InputError` for a perturbation listed twice, residues that are no numbers, and a table that has no
    perturbation of the truth; those it does not list are said in the log.
    """
    rows = read_tsv(path, (LABEL, "gene"))
    line_of: dict[str, int] = {}
    for line, row in enumerate(rows, start=2):
        name, where = row[LABEL], f"{path}, line {line}"
        if name in line_of:
            raise InputError(f"duplicate perturbation '{name}'", where=where, found=f"also in line {line_of[name]}")
        line_of[name] = line
        if not re.fullmatch(r"|[1-9]\d*(;[1-9]\d*)*", row.get("pos", "")):
            raise InputError("not a residue", where=f"{where}, column pos", found=f"'{row['pos']}'",
                             expected="a number, several with ; between them")  # fmt: skip
    absent = [name for name in test.ids if name not in line_of]
    if len(absent) == len(test.ids):
        raise InputError("no perturbation of --truth is listed", where=str(path), found=repr(next(iter(line_of), "")),
                         expected=repr(absent[0]))  # fmt: skip
    if absent:
        log.warning("%s: %d of %d perturbations are not listed (first %s)", path, len(absent), len(test.ids), absent[0])
    return rows


def check_identical(hashes: Mapping[str, str]) -> None:
    """Say in the log when a file of predictions is another of the files; `hashes` by option."""
    first: dict[str, str] = {}
    for option, value in hashes.items():
        if value in first:
            log.warning("%s is the same file as %s", option, first[value])
        first.setdefault(value, option)


def check_controls(test: Scan, train: Scan) -> None:
    """Say in the log when held-out and training controls, cells of one population, are on different scales."""
    middle = [float(np.median([total for _, total, _ in found.controls.values()])) for found in (test, train)]
    ratio = middle[0] / middle[1] if middle[1] else np.nan
    if not CONTROL_RATIOS[0] <= ratio <= CONTROL_RATIOS[1]:
        log.warning("--truth, --train: log1p values of a control cell add up to %.3g and %.3g: are both files natural "
                    "log1p of counts scaled to the same total?", *middle)  # fmt: skip


def check_scale(predicted: Scan, train: Scan, source: Source) -> float:
    """Return the median predicted total as a multiple of the measured one; a doubtful one is said in the log.

    Predicted cells are held against cells, profiles (one row per perturbation) against the mean profile of all cells.
    """
    cells = len(source.ids) < len(source.labels) - source.n_control
    measured = float(np.median(train.common_totals)) if cells else train.total_of_mean
    ratio = float(np.median(predicted.common_totals)) / measured if measured else np.nan
    if not SCALE_RATIOS[0] <= ratio <= SCALE_RATIOS[1]:
        log.warning("%s: predicted totals are %.3g times those of the training cells: is X natural log1p of counts "
                    "scaled as theirs?", source.path, ratio)  # fmt: skip
    return ratio


def known_genes(source: Source, table: Mapping[str, Sequence[str]] | None) -> dict[str, tuple[str, ...]]:
    """Return the perturbed genes by perturbation: from a table, an obs column `gene`, or ids of the form GENE~VARIANT.

    A label that merely equals a gene name is not taken for its target (metrics.md 1.3.10).
    """
    if table is not None:
        return {name: tuple(genes) for name, genes in table.items()}
    obs = source.reader.obs
    if "gene" in obs:
        column = obs["gene"].astype(object).where(obs["gene"].notna(), "").astype(str)
        text_of: dict[str, str] = {}
        for name, text in sorted(set(zip(source.labels.tolist(), column, strict=True)) - {(CONTROL, "")}):
            if text_of.setdefault(name, text) != text and name != CONTROL:
                raise InputError(f"different genes of {name}", where=f"{source.path}, obs['gene']",
                                 found=f"{text_of[name]!r} and {text!r}", expected="one for all its cells")  # fmt: skip
        found = {name: tuple(gene for gene in text.split(";") if gene) for name, text in text_of.items()}
        return {name: genes for name, genes in found.items() if genes and name != CONTROL}
    return {name: (name.split("~")[0],) for name in source.ids if "~" in name}


def target_genes(
    test: Source, table: Mapping[str, Sequence[str]] | None, genes: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Return :func:`known_genes` of the test perturbations; those without any, or with none of `genes`, are said in the
    log.
    """
    found = known_genes(test, table)
    axis = set(genes)
    off = sorted({gene for name in test.ids for gene in found.get(name, ())} - axis)
    if off:
        log.warning(
            "%d perturbed genes are not among the %d genes of the files (first %s)", len(off), len(axis), off[0]
        )
    unknown = [name for name in test.ids if name not in found]
    if unknown and table is None:
        log.warning(
            "no target gene known for %d perturbations (first %s): gene sets *_nt keep it; give --perturbations",
            len(unknown), unknown[0],
        )  # fmt: skip
    return found

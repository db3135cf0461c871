#!/usr/bin/env python
"""Time and memory of AGGREGATE on a full panel: 8 models x 5 encoders x 2 strategies x 2 splits, 100 perturbations.

Scores are random numbers in the layout of vcb_score.py, every default metric and gene set, with the permutations of the
null. The command runs in a process of its own, so its memory is its own.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "bin"))

from vcbench.core.tables import write_tsv  # noqa: E402
from vcbench.metrics import contract, registry  # noqa: E402

N_PERMUTATIONS = 20
PLAN = ("unit", "dataset", "split", "fold", "model", "encoder", "strategy", "seed", "class", "process", "task")


def configurations() -> list[tuple[str, str, str, str]]:
    """Return model, encoder, strategy and class of the configurations of a split."""
    encoders = ("esm2_650m", "esmc_600m", "ankh3_large", "prott5", "random")
    using = {"nearest": "baseline", "linear": "baseline", "ridge": "baseline", "gaussian_process": "baseline",
             "random_forest": "baseline", "elastic_net": "baseline", "sclambda": "supervised"}  # fmt: skip
    found = [(m, e, s, kind) for m, kind in using.items() for e in encoders for s in ("alt", "diff")]
    return [*found, ("train_mean", "none", "none", "baseline")]


def pairs() -> list[tuple[str, str, str]]:
    """Return metric, gene set and level of everything that scoring writes by default, terms too."""
    metrics = registry.chosen(registry.load(), [])
    return [
        (metric.id, gene_set, metric.level)
        for metric in metrics.values() for gene_set in metric.gene_sets
        if gene_set not in ("pathways", "fixed_nt")
    ]  # fmt: skip


def scores(split: str, n: int, rng: np.random.Generator) -> dict[str, list]:
    """Return the columns of one split's score table."""
    columns: dict[str, list] = {name: [] for name in ("fold", "model", "encoder", "strategy", "perturbation", "metric",
                                                      "gene_set", "value")}  # fmt: skip
    names, folds = [f"TP53~A{k}B" for k in range(n)], [k % 3 + 1 for k in range(n)]
    ability = {c: rng.normal(0, 0.05) for c in configurations()}

    def add(model: str, encoder: str, strategy: str, metric: str, gene_set: str, values, labels, of_folds) -> None:
        columns["value"] += list(values)
        columns["perturbation"] += labels
        columns["fold"] += of_folds
        for name, value in (("model", model), ("encoder", encoder), ("strategy", strategy), ("metric", metric),
                            ("gene_set", gene_set)):  # fmt: skip
            columns[name] += [value] * len(labels)

    shuffles = [f"permutation {i:02d}" for i in range(N_PERMUTATIONS)]
    for metric, gene_set, level in pairs():
        difficulty = rng.normal(0.4, 0.15, n)
        for evaluator, shift in ((contract.NO_SKILL, -0.4), (contract.TECH_DUPLICATE, 0.4)):
            add(evaluator, "none", "none", metric, gene_set, difficulty + shift, names, folds)
        for (model, encoder, strategy, _), level_of in ability.items():
            of = (model, encoder, strategy, metric, gene_set)
            if level == "panel":
                add(*of, [0.4 + level_of], [""], [contract.ALL_FOLDS])
            else:
                add(*of, difficulty + level_of + rng.normal(0, 0.1, n), names, folds)
            null = (f"{contract.SHUFFLED_LABELS}:{model}", *of[1:])
            add(*null, rng.normal(0, 0.03, N_PERMUTATIONS), shuffles, [contract.ALL_FOLDS] * N_PERMUTATIONS)
    columns["dataset"], columns["split"] = (["screen"] * len(columns["value"]), [split] * len(columns["value"]))
    return columns


def write(folder: Path, n: int) -> list[str]:
    """Write the inputs and return the arguments of vcb_aggregate.py."""
    import pyarrow.parquet as pq

    from vcbench.metrics import scoring

    rng, plan, tables = np.random.default_rng(0), [], []
    for split in ("variant", "position"):
        columns = scores(split, n, rng)
        size = len(columns["value"])
        fill = {"seed": 0, "n_genes": 400, "n_cells_true": 100, "n_cells_pred": 1, "n_perturbations": 1, "n_folds": 1}
        for name, value in fill.items():
            columns[name] = [value] * size
        columns["status"] = [contract.OK] * size
        schema = scoring.to_table([], {}).schema
        import pyarrow as pa

        table = pa.table({name: pa.array(columns[name], schema.field(name).type) for name in scoring.COLUMNS})
        tables.append(folder / f"screen.{split}.scores.parquet")
        pq.write_table(table, tables[-1])
        for model, encoder, strategy, kind in configurations():
            for fold in (1, 2, 3):
                unit = f"screen.{split}.f{fold}.{model}.{encoder}.{strategy}.s0"
                plan.append(dict(zip(PLAN, (unit, "screen", split, fold, model, encoder, strategy, 0, kind,
                                            model.upper(), unit), strict=True)))  # fmt: skip
    write_tsv(folder / "plan.tsv", plan, PLAN)
    rows = [{"perturbation": f"TP53~A{k}B", "gene": "TP53", "pos": k * 2 // 3} for k in range(n)]
    write_tsv(folder / "screen.perturbations.tsv", rows, ("perturbation", "gene", "pos"))
    return ["--plan", str(folder / "plan.tsv"), "--scores", *map(str, tables), "--perturbations",
            str(folder / "screen.perturbations.tsv"), "--out-dir", str(folder / "tables")]  # fmt: skip


def main() -> None:
    """Write the inputs, run the command, print seconds and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--perturbations", type=int, default=100)
    parser.add_argument("--keep", type=Path, help="folder for inputs and tables (default: a temporary one)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        arguments = write(folder, options.perturbations)
        start = time.monotonic()
        environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PATH": ""}
        subprocess.run([sys.executable, str(PROJECT / "bin/vcb_aggregate.py"), *arguments], check=True, env=environment)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(f"{len(pairs())} metrics and gene sets, {len(configurations())} configurations in each of 2 splits, "
              f"{options.perturbations} perturbations: {time.monotonic() - start:.0f} s wall, "
              f"{used.ru_utime + used.ru_stime:.0f} s CPU, {used.ru_maxrss / 1e6:.2f} GB")  # fmt: skip


if __name__ == "__main__":
    main()

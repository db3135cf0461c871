#!/usr/bin/env python3
"""Time and memory of vcb_evaluate.py, beside scanpy's rank_genes_groups and cell-eval on the same files.

Writes simulated files (log1p CSR, block by block), runs each tool on them in a process of its own and prints one line
per tool: wall and CPU seconds, peak resident memory, imports and reading included, and the CPU seconds of the
computation alone, from cells in memory (empty for vcb, which reads as it computes). One thread each.

    .venv/bin/python benchmarks/evaluate.py --folder F --cells 20000 --genes 3000 --perturbations 50
    .venv/bin/python benchmarks/evaluate.py --folder F --cells 500000 --genes 20000 --perturbations 300 --tools vcb
    # with cell-eval: an environment of its own (tests/external/requirements.txt), never this project's
    .venv/bin/python benchmarks/evaluate.py --folder F ... --tools vcb,scanpy,cell_eval --external-python E/bin/python

  vcb        truth DE, all default metrics with nulls and ceiling, baselines, intervals and tests: vcb_evaluate.py
  engine     truth DE alone, our rank-sum engine
  unit       truth with its DE, and all default metrics of the predictions with their nulls: the functions of vcb
  scanpy     truth DE alone, the usual loop: perturbed and control cells of one perturbation, Wilcoxon, tie correction
  scanpy_one truth DE alone, one call for all perturbations
  cell_eval  its default ("full") metrics, which include DE of truth and prediction

Of `--cells` in truth and training file together, a tenth are controls, the rest is spread over the perturbations, half
of them held out; the prediction file holds as many cells of the held-out ones (`--predicted profiles`: one row each).
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
BLOCK = 2000
TARGET = 10_000.0
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS")
#: What each tool imports: done once before measuring, so that nobody is charged for compiling Python.
IMPORTS = {
    "vcb": "import anndata, pyarrow.parquet, scipy.stats",
    "engine": "import anndata",
    "unit": "import anndata",
    "scanpy": "import scanpy",
    "scanpy_one": "import scanpy",
    "cell_eval": "import cell_eval",
}  # fmt: skip


def pool_of_cells(genes, density, generator, size=2000):
    """Return counts (size, genes) CSR of unperturbed cells, about `density` of them not zero."""
    import scipy.sparse as sp

    rate = generator.gamma(0.3, 1.0, genes)
    rate *= -np.log1p(-density) / rate.mean()
    low, high = 0.0, 1e4  # the scale at which the share of detected genes is right
    for _ in range(60):
        scale = (low + high) / 2
        low, high = (scale, high) if (1 - np.exp(-scale * rate)).mean() < density else (low, scale)
    return sp.vstack([sp.csr_matrix(generator.poisson(scale * rate, (200, genes)).astype(np.float32))
                      for _ in range(size // 200)], format="csr")  # fmt: skip


def cells_of(pool, change, n, generator):
    """Return n log1p cells, float32 CSR, drawn from the pool with gene-wise factors `change` (genes,)."""
    block = pool[generator.integers(0, pool.shape[0], n)]
    block.data = np.floor(block.data * change[block.indices] * generator.gamma(8, 1 / 8, block.nnz)
                          + generator.random(block.nnz)).astype(np.float32)  # fmt: skip
    block.eliminate_zeros()
    totals = np.maximum(np.asarray(block.sum(axis=1)).ravel(), 1)
    block.data = np.log1p(block.data * np.repeat(TARGET / totals, np.diff(block.indptr))).astype(np.float32)
    block.sort_indices()
    return block


class Writer:
    """Writes an h5ad file of CSR rows block by block."""

    def __init__(self, path, genes):
        import h5py

        self.file = h5py.File(path, "w")
        self.file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        x = self.file.create_group("X")
        x.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
        for name, kind in (("data", np.float32), ("indices", np.int32)):
            x.create_dataset(name, (0,), kind, maxshape=(None,), chunks=(1 << 18,))
        self.genes, self.starts, self.labels = genes, [np.zeros(1, dtype=np.int64)], []

    def add(self, block, label):
        x = self.file["X"]
        first, last = int(self.starts[-1][-1]), int(self.starts[-1][-1]) + block.nnz
        for name in ("data", "indices"):
            x[name].resize((last,))
            x[name][first:last] = getattr(block, name)
        self.starts.append(block.indptr[1:].astype(np.int64) + first)
        self.labels += [label] * block.shape[0]

    def close(self, prefix):
        import pandas as pd
        from anndata.io import write_elem

        self.file["X"].create_dataset("indptr", data=np.concatenate(self.starts))
        self.file["X"].attrs["shape"] = (len(self.labels), len(self.genes))
        names = [f"{prefix}{i:07d}" for i in range(len(self.labels))]
        write_elem(self.file, "obs", pd.DataFrame({"perturbation": pd.Categorical(self.labels)}, index=names))
        write_elem(self.file, "var", pd.DataFrame(index=self.genes))
        write_elem(self.file, "uns", {})
        self.file.close()


def make(options):
    """Write truth.h5ad, train.h5ad, predictions.h5ad into the folder; rows of perturbations are mixed."""
    generator = np.random.default_rng(options.seed)
    genes = [f"gene{i:05d}" for i in range(options.genes)]
    pool = pool_of_cells(options.genes, options.density, generator)
    n_control = options.cells // 10
    each = (options.cells - n_control) // options.perturbations
    names = [f"TP53~A{100 + i}V" for i in range(options.perturbations)]
    shared = generator.normal(0, 0.5, options.genes) * (generator.random(options.genes) < 0.05)
    effects = {
        name: shared + generator.normal(0, 0.7, options.genes) * (generator.random(options.genes) < 0.03)
        for name in names
    }
    held_out = names[::2]
    parts = {"truth": held_out, "train": names[1::2], "predictions": held_out}
    for part, members in parts.items():
        writer = Writer(options.folder / f"{part}.h5ad", genes)
        rows = dict.fromkeys(members, each) | ({} if part == "predictions" else {"control": n_control // 2})
        strength = 0.6 if part == "predictions" else 1.0
        nothing = np.zeros(options.genes)
        change = {name: np.exp(strength * effects.get(name, nothing)) for name in rows}
        if part == "predictions" and options.predicted == "profiles":
            for name in members:
                writer.add(mean_row(cells_of(pool, change[name], 100, generator)), name)
        else:  # one block of each in turn, so that cells of a perturbation lie all over the file
            while any(rows.values()):
                for name in [name for name, left in rows.items() if left]:
                    n = min(rows[name], max(1, min(BLOCK, each // 4)))
                    writer.add(cells_of(pool, change[name], n, generator), name)
                    rows[name] -= n
        writer.close(part)


def mean_row(block):
    import scipy.sparse as sp

    return sp.csr_matrix(np.asarray(block.mean(axis=0), dtype=np.float32))


OURS = """
import sys, time
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[1])
from vcbench.metrics import de, evaluate_inputs, profiles, registry, scoring, truth
from vcbench.metrics.stored_cells import StoredCells, in_order_of_names

def opened(*names):  # cells in memory, their labels, and which file each is of
    sources = [evaluate_inputs.open_source(Path(sys.argv[2]) / f"{name}.h5ad", f"--{name}") for name in names]
    place = in_order_of_names([source.reader for source in sources], names)
    genes = np.array(list(sources[0].reader.var_names), dtype=object)
    stored = StoredCells(tuple(source.reader for source in sources), genes, place)
    labels, half = np.empty((2, stored.shape[0]), dtype=object)
    for source, at, letter in zip(sources, place, "AB"):
        labels[at], half[at] = source.labels, letter
    return sources, truth.Cells(stored.take(np.arange(stored.shape[0])), labels, half, genes, 1e4)

import scipy.spatial  # what metrics import when they are first needed
metrics = registry.chosen(registry.load(), ())
if sys.argv[3] == "engine":
    (source,), cells = opened("truth")
    start = time.process_time()
    codes = profiles.codes(cells.labels, source.ids)  # -1, the reference, for controls
    de.rank_sum(cells.expression, codes, len(source.ids))
else:
    (test, train), cells = opened("truth", "train")
    (source,), predicted = opened("predictions")
    start = time.process_time()
    targets = {name: (name.split("~")[0],) for name in test.ids}
    facts = {"dataset": "evaluation", "split": "given"}
    built = truth.build(cells, [truth.Roles(1, train.ids, test.ids)], targets, facts, 0).test
    owner = profiles.codes(predicted.labels, source.ids)
    (found,) = profiles.collect(predicted.expression, [profiles.Wanted(owner, len(source.ids))])
    fold, rows = built.folds[0], scoring.Rows("evaluation", "given", "predictions")
    aligned = scoring.align(fold, source.ids, found.mean, found.variance_of_mean, found.n.astype(int))
    scoring.score_combination(built, {1: aligned}, metrics, rows, 0)
print("cpu_in_memory", time.process_time() - start)
"""

SCANPY = """
import sys, time, warnings, anndata as ad, scanpy as sc
warnings.simplefilter("ignore")
path, loop = sys.argv[1], sys.argv[2] == "loop"
data = ad.read_h5ad(path)
names = [name for name in data.obs["perturbation"].cat.categories if name != "control"]
call = dict(groupby="perturbation", reference="control", method="wilcoxon", tie_correct=True)
start = time.process_time()
if loop:
    for name in names:
        part = data[data.obs["perturbation"].isin([name, "control"])].copy()
        sc.tl.rank_genes_groups(part, groups=[name], **call)
        sc.get.rank_genes_groups_df(part, name)
else:
    sc.tl.rank_genes_groups(data, groups=names, **call)
    for name in names:
        sc.get.rank_genes_groups_df(data, name)
print("cpu_in_memory", time.process_time() - start)
"""

CELL_EVAL = """
import sys, tempfile, time, warnings, anndata as ad
warnings.simplefilter("ignore")
from cell_eval import MetricsEvaluator
real, predicted = ad.read_h5ad(sys.argv[1]), ad.read_h5ad(sys.argv[2])
start = time.process_time()
predicted = ad.concat([predicted, real[real.obs["perturbation"] == "control"]])
with tempfile.TemporaryDirectory() as folder:
    MetricsEvaluator(adata_pred=predicted, adata_real=real, control_pert="control", pert_col="perturbation",
                     outdir=folder, num_threads=1).compute(profile="full", write_csv=False)
print("cpu_in_memory", time.process_time() - start)
"""


def command(tool, options):
    folder = options.folder
    if tool == "vcb":
        return [sys.executable, str(ROOT / "bin/vcb_evaluate.py"), "--out", str(folder / "out"),
                *(f"--{name}={folder / f'{name}.h5ad'}" for name in ("truth", "train", "predictions"))]  # fmt: skip
    if tool in ("engine", "unit"):
        return [sys.executable, "-c", OURS, str(ROOT / "bin"), str(folder), tool]
    if tool in ("scanpy", "scanpy_one"):
        return [sys.executable, "-c", SCANPY, str(folder / "truth.h5ad"), "loop" if tool == "scanpy" else "one"]
    if tool == "cell_eval":
        if not options.external_python:
            raise SystemExit("cell_eval needs --external-python")
        return [options.external_python, "-c", CELL_EVAL, str(folder / "truth.h5ad"), str(folder / "predictions.h5ad")]
    raise SystemExit(f"unknown tool {tool}")


def measure(argv, log):
    """Run a command; return (wall seconds, CPU seconds, peak resident MB); its output goes to a file."""
    threads = dict.fromkeys(THREADS, "1") | {"PYTHONPYCACHEPREFIX": str(Path(log).parent / "pycache")}
    environment = {**os.environ, **threads}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    start = time.perf_counter()
    with open(log, "w") as handle:
        process = subprocess.Popen(argv, stdout=handle, stderr=subprocess.STDOUT, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status:
        raise SystemExit(f"{argv[:2]} failed, see {log}:\n" + "\n".join(Path(log).read_text().splitlines()[-5:]))
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the files are written; kept")
    parser.add_argument("--cells", type=int, default=20_000, help="in truth and training file together")
    parser.add_argument("--genes", type=int, default=3_000)
    parser.add_argument("--perturbations", type=int, default=50)
    parser.add_argument("--density", type=float, default=0.1, help="share of values that are not zero")
    parser.add_argument("--predicted", choices=("cells", "profiles"), default="cells")
    parser.add_argument("--tools", default="vcb,unit,engine,scanpy")
    parser.add_argument("--external-python", default="", help="Python with cell-eval")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reuse", action="store_true", help="take the files that are in the folder")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if not options.reuse:
        make(options)
    size = sum((options.folder / f"{name}.h5ad").stat().st_size for name in ("truth", "train", "predictions"))
    print("tool\tcells\tgenes\tperturbations\tfiles_MB\twall_s\tcpu_s\tpeak_MB\tcpu_in_memory_s", flush=True)
    for tool in filter(None, options.tools.split(",")):
        measure([*command(tool, options)[:1], "-c", IMPORTS[tool]], options.folder / f"{tool}.log")
        log = options.folder / f"{tool}.log"
        wall, cpu, peak = measure(command(tool, options), log)
        inside = [line.split()[1] for line in log.read_text().splitlines() if line.startswith("cpu_in_memory ")]
        print(f"{tool}\t{options.cells}\t{options.genes}\t{options.perturbations}\t{size / 1e6:.0f}\t{wall:.1f}\t"
              f"{cpu:.1f}\t{peak:.0f}\t{''.join(f'{float(found):.2f}' for found in inside)}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()

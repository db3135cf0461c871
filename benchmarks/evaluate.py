#!/usr/bin/env python3
"""Time and memory of vcb_evaluate.py, beside scanpy's rank_genes_groups and cell-eval on the same files.

Writes simulated files (log1p CSR, block by block), runs each tool on them in a process of its own and prints one line
per tool: wall and CPU seconds, peak resident memory, imports and reading included. One thread each.

    .venv/bin/python benchmarks/evaluate.py --folder F --cells 20000 --genes 3000 --perturbations 50
    .venv/bin/python benchmarks/evaluate.py --folder F --cells 500000 --genes 20000 --perturbations 300 --tools vcb
    # with cell-eval: an environment of its own (tests/external/requirements.txt), never this project's
    .venv/bin/python benchmarks/evaluate.py --folder F ... --tools vcb,scanpy,cell_eval --external-python E/bin/python

  vcb        truth DE, all default metrics with nulls and ceiling, baselines, intervals and tests: vcb_evaluate.py
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
    "vcb": "import anndata, illico, pyarrow.parquet, scipy.stats",
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


SCANPY = """
import sys, warnings, anndata as ad, scanpy as sc
warnings.simplefilter("ignore")
path, loop = sys.argv[1], sys.argv[2] == "loop"
data = ad.read_h5ad(path)
names = [name for name in data.obs["perturbation"].cat.categories if name != "control"]
call = dict(groupby="perturbation", reference="control", method="wilcoxon", tie_correct=True)
if loop:
    for name in names:
        part = data[data.obs["perturbation"].isin([name, "control"])].copy()
        sc.tl.rank_genes_groups(part, groups=[name], **call)
        sc.get.rank_genes_groups_df(part, name)
else:
    sc.tl.rank_genes_groups(data, groups=names, **call)
    for name in names:
        sc.get.rank_genes_groups_df(data, name)
"""

CELL_EVAL = """
import sys, tempfile, warnings, anndata as ad
warnings.simplefilter("ignore")
from cell_eval import MetricsEvaluator
real, predicted = ad.read_h5ad(sys.argv[1]), ad.read_h5ad(sys.argv[2])
predicted = ad.concat([predicted, real[real.obs["perturbation"] == "control"]])
with tempfile.TemporaryDirectory() as folder:
    MetricsEvaluator(adata_pred=predicted, adata_real=real, control_pert="control", pert_col="perturbation",
                     outdir=folder, num_threads=1).compute(profile="full", write_csv=False)
"""


def command(tool, options):
    folder = options.folder
    if tool == "vcb":
        return [sys.executable, str(ROOT / "bin/vcb_evaluate.py"), "--out", str(folder / "out"),
                *(f"--{name}={folder / f'{name}.h5ad'}" for name in ("truth", "train", "predictions"))]  # fmt: skip
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
    parser.add_argument("--tools", default="vcb,scanpy")
    parser.add_argument("--external-python", default="", help="Python with cell-eval")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reuse", action="store_true", help="take the files that are in the folder")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if not options.reuse:
        make(options)
    size = sum((options.folder / f"{name}.h5ad").stat().st_size for name in ("truth", "train", "predictions"))
    print("tool\tcells\tgenes\tperturbations\tfiles_MB\twall_s\tcpu_s\tpeak_MB", flush=True)
    for tool in filter(None, options.tools.split(",")):
        measure([*command(tool, options)[:1], "-c", IMPORTS[tool]], options.folder / f"{tool}.log")
        wall, cpu, peak = measure(command(tool, options), options.folder / f"{tool}.log")
        print(f"{tool}\t{options.cells}\t{options.genes}\t{options.perturbations}\t{size / 1e6:.0f}\t{wall:.1f}\t"
              f"{cpu:.1f}\t{peak:.0f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()

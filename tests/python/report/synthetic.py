"""Synthetic aggregate tables, strictly as the contract says, from known per-perturbation scores.

`python synthetic.py DIR` writes a complete set of inputs, to look at the report by eye.
"""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import synthetic_statistics
import yaml

PROJECT = Path(__file__).resolve().parents[3]
HOSTILE = "<script>alert('x')</script> & \"quoted\""
KEYS = ["dataset", "split", "model", "encoder", "strategy"]


@dataclass
class Run:
    """What to synthesise; the defaults are two datasets x two splits x six models x five encoders x two strategies."""

    datasets: dict[str, str] = field(default_factory=lambda: {"tp53_screen": "variant", "kras_screen": "variant"})
    splits: tuple[str, ...] = ("variant", "position")
    folds: int = 3
    models: tuple[str, ...] = ("no_change", "train_mean", "position_mean", "nearest", "linear", "sclambda")
    encoders: tuple[str, ...] = ("esm2_650m", "onehot", "physchem", "random", "constant")
    strategies: tuple[str, ...] = ("alt", "diff")
    n_variants: int = 60
    advantage: dict[str, float] = field(default_factory=lambda: {"tp53_screen": 0.08, "kras_screen": -0.02})
    blocked: tuple[tuple[str, str], ...] = (("kras_screen", "esm2_650m"),)
    failed: tuple[tuple[str, str, str, int], ...] = (("tp53_screen", "sclambda", "physchem", 2),)
    fail_models: tuple[str, ...] = ()
    no_ceiling: bool = False
    encoder_tables: dict[str, list[dict[str, object]]] = field(default_factory=dict)

    def write(self, folder: Path, seed: int = 0) -> dict[str, list[str]]:
        """Write all files and return the arguments of vcb_report.py."""
        rng = np.random.default_rng(seed)
        folder.mkdir(parents=True, exist_ok=True)
        models = yaml.safe_load((PROJECT / "assets/models.yml").read_text())["entries"]
        metrics = yaml.safe_load((PROJECT / "assets/metrics.yml").read_text())
        plan = self._plan(models)
        perturbations = {name: self._perturbations(name, kind, rng) for name, kind in self.datasets.items()}
        scores = self._scores(plan, perturbations, metrics, rng)
        leaderboard = self._leaderboard(plan, perturbations, scores, metrics)
        contrasts = self._contrasts(leaderboard, scores, models, rng)
        tables = folder / "tables"
        tables.mkdir(exist_ok=True)
        cost = ["train_seconds", "predict_seconds", "peak_memory_mb", "device"]
        _tsv(plan.drop(columns=cost), tables / "plan.tsv")
        _tsv(plan[["unit", *cost]], tables / "cost.tsv")
        _tsv(leaderboard, tables / "leaderboard.tsv")
        _tsv(contrasts, tables / "contrasts.tsv")
        scores.to_parquet(tables / "scores.parquet", index=False)
        for name, frame in synthetic_statistics.tables(leaderboard, scores, models).items():
            _tsv(frame, tables / f"{name}.tsv")
        arguments: dict[str, list[str]] = {
            "--tables": [str(tables)],
            "--quality": [],
            "--leakage": [],
            "--perturbations": [],
        }
        for name, frame in perturbations.items():
            for option, table in (
                ("--perturbations", frame),
                ("--quality", _quality(frame)),
                ("--leakage", self._leakage(name)),
            ):
                path = folder / f"{name}.{option.lstrip('-')}.tsv"
                _tsv(table, path)
                arguments[option].append(str(path))
        if self.encoder_tables:
            arguments["--encoders"] = [str(folder / f"encoder_{name}.tsv") for name in self.encoder_tables]
            for name, rows in self.encoder_tables.items():
                _tsv(pd.DataFrame(rows), folder / f"encoder_{name}.tsv")
        (folder / "run.json").write_text(json.dumps(_run_facts(), indent=1))
        versions = [("ESM2_ENCODE", "torch", "2.11.0"), ("SCORE", "illico", "0.6.0"), ("SCORE", "python", "3.11.9")]
        _tsv(pd.DataFrame(versions, columns=["process", "software", "version"]), folder / "versions.tsv")
        arguments["--run"], arguments["--versions"] = [str(folder / "run.json")], [str(folder / "versions.tsv")]
        return arguments

    def _plan(self, models: dict) -> pd.DataFrame:
        rows = []
        for dataset, kind in self.datasets.items():
            for split in self.splits if kind == "variant" else ("variant",):
                for fold in range(1, self.folds + 1):
                    for model in self.models:
                        if kind not in models[model]["modalities"]:
                            continue
                        inputs = [(e, s) for e in self.encoders for s in self.strategies]
                        for encoder, strategy in inputs if models[model]["encoder"] else [("none", "none")]:
                            rows.append(self._unit(dataset, split, fold, model, encoder, strategy, models[model]))
        return pd.DataFrame(rows).sort_values("unit").reset_index(drop=True)

    def _unit(self, dataset, split, fold, model, encoder, strategy, entry) -> dict[str, object]:
        state, stage, reason = "ok", "", ""
        if (dataset, encoder) in self.blocked:
            state, stage = "blocked", "encode"
            reason = f"encoder {encoder}: residue 900 lies beyond the protein ({HOSTILE})"
        elif (dataset, model, encoder, fold) in self.failed:
            state, stage, reason = "failed", "train", "out of memory after 3 attempts (exit 137)"
        elif model in self.fail_models:
            state, stage, reason = "failed", "train", "loss is NaN in epoch 3"
        ok = state == "ok"
        slow = 40.0 if model == "sclambda" else 0.8
        return {
            "unit": f"{dataset}.{split}.f{fold}.{model}.{encoder}.{strategy}.s0",
            "dataset": dataset,
            "split": split,
            "fold": fold,
            "model": model,
            "encoder": encoder,
            "strategy": strategy,
            "seed": 0,
            "class": entry["class"],
            "process": entry["process"],
            "task": f"{dataset}.{split}.f{fold}.{entry['process'].lower()}",
            "settings": "{}",
            "state": state,
            "stage": stage,
            "reason": reason,
            "train_seconds": slow + fold if ok else np.nan,
            "predict_seconds": 0.3 * fold if ok else np.nan,
            "peak_memory_mb": 900.5 + 10 * fold if ok else np.nan,
            "device": "cpu" if ok else "",
        }

    def _perturbations(self, dataset: str, kind: str, rng: np.random.Generator) -> pd.DataFrame:
        rows = []
        for k in range(self.n_variants + 3):
            usable = k < self.n_variants
            gene = f"GENE{k}"
            name = f"{dataset.split('_')[0].upper()}~R{k + 10}H" if kind == "variant" else gene
            rows.append(
                {
                    "perturbation": name,
                    "labels": f"R{k + 10}H" if usable else f"R{k + 10}H {HOSTILE}",
                    "gene": gene,
                    "consequence": "missense" if kind == "variant" else "gene",
                    "pos": k + 10 if kind == "variant" else "",
                    "status": "encoded" if usable else "skipped_few_cells",
                    "reason": "" if usable else f"12 cells; at least 25 are needed {HOSTILE}",
                    "n_cells_total": 12,
                    "n_cells": int(rng.integers(60, 900)) if usable else 0,
                    "severity": ("wild-type-like", "intermediate", "severe")[k % 3] if kind == "variant" else "",
                    "domain": "DBD" if kind == "variant" else "",
                }
            )
        return pd.DataFrame(rows).sort_values("perturbation").reset_index(drop=True)

    def _scores(self, plan, perturbations, metrics, rng) -> pd.DataFrame:
        rows = []
        difficulty = {name: rng.normal(0, 0.15, len(frame)) for name, frame in perturbations.items()}
        for unit in plan[plan["state"] == "ok"].itertuples():
            frame = perturbations[unit.dataset]
            test = np.flatnonzero((frame["n_cells"] > 0) & (np.arange(len(frame)) % self.folds == unit.fold - 1))
            level = {"no_change": 0.0, "train_mean": 0.0, "position_mean": 0.2, "nearest": 0.3, "linear": 0.34}
            base = level.get(unit.model, 0.34 + self.advantage.get(unit.dataset, 0.0))
            base -= {"random": 0.2, "constant": 0.3, "physchem": 0.04}.get(unit.encoder, 0.0)
            base -= 0.05 * (unit.split == "position")
            for metric in metrics["groups"]["headline"] + metrics["groups"]["companion"]:
                for genes in metrics["entries"][metric].get("headline", []):
                    undefined = metric == "dpearson_pm" and unit.model in ("no_change", "train_mean")
                    lower = metrics["entries"][metric]["direction"] == "lower"
                    for k in test:
                        value = base + difficulty[unit.dataset][k] + rng.normal(0, 0.06)
                        value = (0.02 * (1 - value) if metric == "mse" else 1 - value) if lower else value
                        rows.append(
                            {
                                "dataset": unit.dataset,
                                "split": unit.split,
                                "fold": unit.fold,
                                "model": unit.model,
                                "encoder": unit.encoder,
                                "strategy": unit.strategy,
                                "seed": 0,
                                "perturbation": frame["perturbation"][k],
                                "metric": metric,
                                "gene_set": genes,
                                "value": np.nan if undefined else value,
                                "n_genes": 400,
                                "n_cells_true": 100,
                                "n_cells_pred": 1,
                                "status": "const_pred" if undefined else "ok",
                            }
                        )
        columns = [*KEYS[:2], "fold", *KEYS[2:], "seed", "perturbation", "metric", "gene_set", "value", "status"]
        return pd.DataFrame(rows, columns=None if rows else columns)

    def _leaderboard(self, plan, perturbations, scores, metrics) -> pd.DataFrame:
        rows = []
        wanted = [
            (m, g)
            for m in metrics["groups"]["headline"] + metrics["groups"]["companion"]
            for g in metrics["entries"][m].get("headline", [])
        ]
        groups = dict(list(scores.groupby([*KEYS, "metric", "gene_set"]))) if len(scores) else {}
        for keys, _ in plan.groupby(KEYS):
            usable = int((perturbations[keys[0]]["n_cells"] > 0).sum())
            for metric, genes in wanted:
                found = groups.get((*keys, metric, genes))
                values = found["value"].dropna().to_numpy() if found is not None else np.array([])
                n = len(values)
                lower = metrics["entries"][metric]["direction"] == "lower"
                mean = values.mean() if n else np.nan
                half = 1.96 * values.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
                ceiling = (0.004 if metric == "mse" else 0.2) if lower else 0.82
                rows.append(
                    dict(zip(KEYS, keys, strict=True))
                    | {
                        "metric": metric,
                        "gene_set": genes,
                        "value": mean,
                        "ci_low": mean - half,
                        "ci_high": mean + half,
                        "n": n,
                        "n_expected": usable,
                        "value_imputed": values.sum() / usable if found is not None else 0.0,
                        "median": np.median(values) if n else np.nan,
                        "sd": values.std(ddof=1) if n > 1 else np.nan,
                        "n_nan": usable - n,
                        "n_missing_pred": usable - (len(found) if found is not None else 0),
                        "reasons": "" if n else f"const_pred:{usable}" if found is not None else "missing_pred",
                        "null_mean": 0.01 if n else np.nan,
                        "null_low": -0.03 if n else np.nan,
                        "null_high": 0.05 if n else np.nan,
                        "ceiling": np.nan if self.no_ceiling else ceiling,
                    }
                )
        return pd.DataFrame(rows)

    def _contrasts(self, leaderboard, scores, models, rng) -> pd.DataFrame:
        columns = [
            *KEYS[:2],
            "metric",
            "gene_set",
            *KEYS[2:],
            "reference_model",
            "reference_encoder",
            "reference_strategy",
            "difference",
            "ci_low",
            "ci_high",
            "p",
            "p_holm",
            "n",
            "detectable",
            "reference",
            "n_clusters",
            "fold_ci_low",
            "fold_ci_high",
            "verdict",
        ]
        rows = []
        primary = leaderboard[(leaderboard["metric"] == "dpearson_pm") & (leaderboard["gene_set"] == "expr_nt")]
        for (dataset, split), panel in primary.dropna(subset=["value"]).groupby(KEYS[:2]):
            baselines = panel[[models[model]["class"] == "baseline" for model in panel["model"]]]
            if baselines.empty:
                continue
            best = baselines.sort_values("value").iloc[-1]
            wide = scores[(scores["metric"] == "dpearson_pm") & (scores["gene_set"] == "expr_nt")]
            wide = wide[(wide["dataset"] == dataset) & (wide["split"] == split)]
            wide = wide.pivot_table(index="perturbation", columns=KEYS[2:], values="value")
            reference = wide[tuple(best[key] for key in KEYS[2:])]
            for row in panel.itertuples():
                own = (row.model, row.encoder, row.strategy)
                control = (row.model, "random", row.strategy)
                if row.encoder not in ("none", "random", "constant") and control in wide:
                    gap = (wide[own] - wide[control]).dropna()
                    gain, half = gap.mean(), 1.96 * gap.std() / np.sqrt(len(gap))
                    said = "better" if gain > 1.5 * half else "unresolved"
                    numbers = [gain, gain - half, gain + half, 0.001, 0.01 if said == "better" else 0.6, len(gap), half]
                    rows.append(
                        [
                            dataset,
                            split,
                            "dpearson_pm",
                            "expr_nt",
                            *own,
                            *control,
                            *numbers,
                            "control_input",
                            60,
                            -0.1,
                            0.1,
                            said,
                        ]
                    )
                if own == tuple(best[key] for key in KEYS[2:]):
                    continue
                gap = (wide[own] - reference).dropna()
                half = 1.96 * gap.std() / np.sqrt(len(gap))
                p = 0.0001 if abs(gap.mean()) > 1.5 * half else 0.3
                middle, error = gap.mean(), gap.std() / np.sqrt(len(gap))
                numbers = [middle, middle - half, middle + half, p, min(1.0, 20 * p), len(gap), 2.8 * error]
                panel_keys = [dataset, split, "dpearson_pm", "expr_nt"]
                said = "unresolved" if numbers[4] >= 0.05 else "better" if middle > 0 else "worse"
                more = [len(gap), middle - 2 * half, middle + 2 * half, said]
                rows.append([*panel_keys, *own, *(best[key] for key in KEYS[2:]), *numbers, "best_baseline", *more])
                # The second kind of reference; the report's verdict must not mix them.
                far = [5.0, 4.0, 6.0, 0.0001, 0.0001, len(gap), 0.1]
                rows.append([*panel_keys, *own, "train_mean", "none", "none", *far, "train_mean", *more[:3], "better"])
        return pd.DataFrame(rows, columns=columns)

    def _leakage(self, dataset: str) -> pd.DataFrame:
        rows = [
            {
                "dataset": dataset,
                "split": split,
                "fold": fold,
                "n_train": 36,
                "n_valid": 4,
                "n_test": 20,
                "n_test_position_seen": 6 if split == "variant" else 0,
                "share_test_position_seen": 0.3 if split == "variant" else 0.0,
                "n_test_gene_seen": 20,
                "n_sequence_shared": 0,
            }
            for split in (self.splits if self.datasets[dataset] == "variant" else ("variant",))
            for fold in range(1, self.folds + 1)
        ]
        return pd.DataFrame(rows)


def _quality(frame: pd.DataFrame) -> pd.DataFrame:
    facts = {
        "n_cells_read": int(frame["n_cells"].sum()) + 2100,
        "n_cells": int(frame["n_cells"].sum()) + 2000,
        "n_control_a": 1000,
        "n_control_b": 1000,
        "n_genes_read": 2000,
        "n_genes": 1874,
        "target_sum": 8123.5,
        "masked_genes": "TP53",
        "annotations_unknown": HOSTILE,
        f"excluded:multiplet {HOSTILE}": "55 cells: dropped on request",
    }
    return pd.DataFrame(facts.items(), columns=["metric", "value"])


def _run_facts() -> dict[str, object]:
    return {
        "pipeline_version": "0.1.0",
        "nextflow_version": "25.04.0",
        "run_name": f"silly_curie {HOSTILE}",
        "command_line": "nextflow run . -profile local --input samplesheet.csv --outdir results",
        "params": {"input": "samplesheet.csv", "folds": 3, "bootstrap": 2000, "gpu": HOSTILE},
        "date": "2026-11-21T10:00:00Z",
        "profile": "local",
        "git_commit": "8b95239",
    }


def _tsv(frame: pd.DataFrame, path: Path) -> None:
    frame.to_csv(path, sep="\t", index=False, quoting=csv.QUOTE_NONE)


def command_line(arguments: dict[str, list[str]]) -> list[str]:
    """Return the arguments as one flat list."""
    return [item for option, values in arguments.items() for item in ([option, *values] if values else [])]


if __name__ == "__main__":
    print(" ".join(command_line(Run().write(Path(sys.argv[1])))))

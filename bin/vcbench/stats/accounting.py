"""What became of every planned unit: ok, failed, blocked or missing, with stage and one-line reason."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vcbench.core import catalogue
from vcbench.core.errors import InputError
from vcbench.core.units import NO_ENCODER

#: Columns added to the plan.
COLUMNS = ("state", "stage", "reason", "n_train")
#: Columns of the cost table, kept apart because they differ from run to run and everything else must not.
COST = ("unit", "train_seconds", "predict_seconds", "peak_memory_mb", "device")
#: Stages of the chain a unit depends on, in order.
_DATASET_STAGES = ("SIMULATE", "PREPARE", "SPLIT")
_ENCODER_STAGES = ("ENCODE", "DERIVE", "IMPORT")


def read_statuses(paths: Iterable[Path]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return status files by (unit, stage); raises :class:`InputError` for unreadable or doubled ones."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for path in sorted(paths):
        try:
            facts = json.loads(path.read_text())
            key = (facts["unit"], facts["stage"])
        except (json.JSONDecodeError, KeyError, UnicodeDecodeError) as error:
            raise InputError("not a status file", where=str(path), found=error) from error
        if key in found:
            raise InputError(f"second {key[1]} status of unit {key[0]}", where=str(path))
        found[key] = facts
    return found


def read_failures(path: Path | None) -> list[dict[str, Any]]:
    """Return the engine's list of tasks that ended without output: {stage, task, exit, reason}."""
    if path is None:
        return []
    try:
        failures = json.loads(path.read_text() or "[]")
        for row in failures:
            row["stage"], row["task"] = str(row["stage"]).upper(), str(row["task"])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(
            "not a list of failures", where=str(path), found=error, expected="[{stage, task, exit, reason}]"
        ) from error
    return sorted(failures, key=lambda row: (row["stage"], row["task"], str(row.get("exit")), str(row.get("reason"))))


class Failures:
    """Looks up the failed task that explains a unit."""

    def __init__(
        self, failures: Sequence[Mapping[str, Any]], encoders: Mapping[str, Any], planned: Sequence[str]
    ) -> None:
        self._failures = failures
        self._encoders = encoders
        # What the encoder `shuffled` was to be made from: the run's first protein language model, else the controls.
        self._language_models = [name for name in planned if encoders.get(name, {}).get("class") == "plm"]

    def find(self, stage: str, tasks: Iterable[str]) -> Mapping[str, Any] | None:
        """Return the first failure of a stage whose task is one of `tasks`."""
        wanted = set(tasks)
        return next((row for row in self._failures if row["stage"] == stage and row["task"] in wanted), None)

    def of_encoder(self, dataset: str, encoder: str) -> tuple[str, str] | None:
        """Return (stage, reason) of the failed encoding a unit with this encoder waits for."""
        if encoder == NO_ENCODER:
            return None
        names = [encoder]
        if encoder == "shuffled":
            names += self._language_models[:1] or ["physchem"]
        for name in names:
            batch = str(self._encoders.get(name, {}).get("process", "")).removesuffix("_ENCODE").lower()
            for stage in _ENCODER_STAGES:
                for key in dict.fromkeys((name, batch)):
                    row = self.find(stage, (key, f"{dataset}.{key}"))
                    if row is not None:
                        return stage, f"encoder {name} failed: {why(row)}"
        return None


def why(failure: Mapping[str, Any]) -> str:
    """Return the one-line reason of a failure, with its exit code unless the reason names it."""
    reason = " ".join(str(failure.get("reason") or "no message").split())
    code = failure.get("exit")
    return reason if code in (None, "") or f"exit {code}" in reason else f"{reason} (exit {code})"


def account(
    plan: Sequence[Mapping[str, str]], statuses: Mapping[tuple[str, str], Mapping[str, Any]],
    failures: Sequence[Mapping[str, Any]], scored: set[str], encoders: Mapping[str, Any],
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the plan, sorted by unit, with state, stage, reason and cost of each unit.

    ``ok`` means that the unit has scores; ``failed`` that it failed itself; ``blocked`` that something it needs failed,
    which the reason names; ``missing`` that nothing explains why it has no scores.
    """
    lookup = Failures(failures, encoders, sorted({row["encoder"] for row in plan}))
    rows = []
    for unit in sorted(plan, key=lambda row: (row["dataset"], row["split"], int(row["fold"]), row["unit"])):
        train, predict = (statuses.get((unit["unit"], stage), {}) for stage in ("train", "predict"))
        state, stage, reason = _state(unit, statuses, lookup, unit["unit"] in scored)
        peaks = [facts["peak_memory_mb"] for facts in (train, predict) if "peak_memory_mb" in facts]
        rows.append({
            **unit,
            "state": state,
            "stage": stage,
            "reason": reason,
            "n_train": train.get("n_train"),
            "train_seconds": train.get("wall_seconds"),
            "predict_seconds": predict.get("wall_seconds"),
            "peak_memory_mb": max(peaks) if peaks else None,
            "device": train.get("device") or predict.get("device") or "",
        })  # fmt: skip
    return rows


def _state(
    unit: Mapping[str, str], statuses: Mapping[tuple[str, str], Mapping[str, Any]], failures: Failures, scored: bool
) -> tuple[str, str, str]:
    if scored:
        return "ok", "", str(statuses.get((unit["unit"], "predict"), {}).get("note", ""))
    dataset, split = unit["dataset"], f"{unit['dataset']}.{unit['split']}"
    known = {stage: statuses.get((unit["unit"], stage)) for stage in ("train", "predict", "score")}
    for stage, facts in known.items():
        if facts is not None and facts["state"] != "ok":
            return "failed", stage.upper(), str(facts["reason"]) or "no reason recorded"
    # predictions made elsewhere are imported instead of trained and predicted
    external = unit["process"] == catalogue.IMPORT_PROCESS
    first, steps = (
        ("predict", {"IMPORT": "predict"}) if external else ("train", {"TRAIN": "train", "PREDICT": "predict"})
    )
    for stage, step in steps.items():
        row = failures.find(stage, (unit["task"], unit["unit"])) if known[step] is None else None
        if row is not None:
            return "failed", stage, why(row)
    if known[first] is None:
        for stage in _DATASET_STAGES:
            row = failures.find(stage, (dataset, split))
            if row is not None:
                return "blocked", stage, f"{stage.lower()} of {row['task']} failed: {why(row)}"
        blocked = failures.of_encoder(dataset, unit["encoder"])
        if blocked is not None:
            return "blocked", *blocked
        return (
            ("missing", "IMPORT", "no record of import") if external else ("missing", "TRAIN", "no record of training")
        )
    if known["predict"] is None:
        return "missing", "PREDICT", "trained, but no record of prediction"
    row = failures.find("TRUTH", (split,))
    if row is not None:
        return "blocked", "TRUTH", f"truth of {split} failed: {why(row)}"
    row = failures.find("SCORE", (split, f"{split}.{unit['process'].lower()}", f"{split}.{unit['model']}"))
    if row is not None:
        return "failed", "SCORE", why(row)
    return "missing", "SCORE", "predicted, but no scores"

"""`plan.tsv`: every unit that should exist, written before anything is computed."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vcbench.core import catalogue, cli, known_columns, samplesheet, settings
from vcbench.core.errors import InputError
from vcbench.core.names import closest
from vcbench.core.tables import write_tsv
from vcbench.core.units import ALL, COUNT, NO_ENCODER, PER_MILLE, Unit

COLUMNS = (
    *("unit", "dataset", "split", "fold", "model", "encoder", "strategy", "seed"),
    *("class", "process", "task", "settings", "trained_on", "atlas"),
)

#: Kinds of perturbation each split can cut.
SPLITS = {"variant": ("variant", "gene"), "position": ("variant",)}
STRATEGIES = ("alt", "diff", "ref")


@dataclass(frozen=True)
class Request:
    """What the user asked for, names already resolved to catalogue entries."""

    models: tuple[str, ...]
    encoders: tuple[str, ...]
    strategies: tuple[str, ...]
    splits: tuple[str, ...]
    folds: int
    seeds: tuple[int, ...]
    units_per_task: int = 0
    scaling: str = "none"
    learning_curve: tuple[str, ...] = ()
    saturation: tuple[str, ...] = ()


def build(
    datasets: Sequence[Mapping[str, str]],
    request: Request,
    models: Mapping[str, Any],
    encoders: Mapping[str, Any],
    overrides: Mapping[str, Mapping[str, Any]],
) -> list[dict[str, object]]:
    """Return the rows of the plan, sorted by unit.

    A combination that cannot exist (a residue encoder on gene perturbations, a position split of genes, a mean over
    annotated classes without annotations) is not planned; a dataset for which nothing is left is an error. Models that
    ignore the encoder run once, not once per encoder.
    """
    rows: list[dict[str, object]] = []
    for dataset in datasets:
        kind = dataset["perturbation_type"]
        usable = [name for name in request.encoders if kind in encoders["entries"][name]["modalities"]]
        splits = [name for name in request.splits if kind in SPLITS[name]]
        fitting = [name for name in request.models if _fits(models["entries"][name], dataset)]
        for what, left in (("split", splits), ("model", fitting)):
            if not left:
                raise InputError(
                    f"no requested {what} can handle {kind} perturbations", where=f"dataset {dataset['dataset']}"
                )
        if not usable and any(models["entries"][name]["encoder"] for name in fitting):
            raise InputError(
                f"no requested encoder can handle {kind} perturbations",
                where=f"dataset {dataset['dataset']}",
                hint="add onehot",
            )
        for split, fold, name in itertools.product(splits, range(1, request.folds + 1), fitting):
            entry = models["entries"][name]
            inputs = itertools.product(usable, request.strategies) if entry["encoder"] else [(NO_ENCODER, NO_ENCODER)]
            specification = settings.of_model(entry, request.scaling)
            chosen = json.dumps(
                settings.complete(name, specification, overrides.get(name, {}), "--model_settings"), sort_keys=True
            )
            # predictions made elsewhere were trained once, with whatever seed
            seeds = request.seeds[:1] if entry["class"] == catalogue.EXTERNAL else request.seeds
            sizes = (ALL,) if entry["class"] == catalogue.EXTERNAL else (ALL, *request.learning_curve)
            for (encoder, strategy), seed, trained_on in itertools.product(inputs, seeds, sizes):
                unit = Unit(dataset["dataset"], split, fold, name, encoder, strategy, seed, trained_on)
                rows.append(
                    {
                        "unit": unit.id,
                        **asdict(unit),
                        "class": entry["class"],
                        "process": entry["process"],
                        "settings": chosen,
                    }
                )
    rows.sort(key=lambda row: row["unit"])
    _mark_atlas(rows, datasets, request, models["entries"], encoders["entries"])
    _assign_tasks(rows, models, request.units_per_task)
    return rows


def check_usable(named: Sequence[str], datasets: Sequence[Mapping[str, str]], entries: Mapping[str, Any]) -> None:
    """Raise :class:`InputError` for an encoder named by the user that reads a file of its own and fits no dataset.

    Others that fit no dataset are left out: lists of encoders are shared between screens.
    """
    kinds = {dataset["perturbation_type"] for dataset in datasets}
    for name in named:
        entry = entries.get(name, {})
        if entry.get("inputs") and not kinds & set(entry["modalities"]):
            raise InputError(
                f"{name} encodes {' and '.join(entry['modalities'])} perturbations only", where="--encoders",
                found=f"datasets of {' and '.join(sorted(kinds))} perturbations", hint=f"leave {name} out",
            )  # fmt: skip


def _fits(entry: Mapping[str, Any], dataset: Mapping[str, str]) -> bool:
    """Whether a model can be trained on a dataset: its kind of perturbation, and the file the model needs beside it."""
    needed = entry.get("needs")
    return dataset["perturbation_type"] in entry["modalities"] and (needed is None or bool(dataset.get(needed)))


#: `--saturation_models` that leaves the choice to :func:`_mark_atlas`.
AUTO = "auto"


def _mark_atlas(
    rows: list[dict[str, object]], datasets: Sequence[Mapping[str, str]], request: Request,
    models: Mapping[str, Any], encoders: Mapping[str, Any],
) -> None:  # fmt: skip
    """Mark the units whose fitted models predict all substitutions: of variant datasets, first split, all folds.

    Left to choose, it is `linear`, else the first model that is given vectors, with the first protein language model
    of the run, else its first encoder that says something about the residue, and the first strategy.
    """
    wanted = set(request.saturation)
    if wanted == {AUTO}:
        wanted = {_automatic(request, models, encoders)}
    found = set()
    variants = {dataset["dataset"] for dataset in datasets if dataset["perturbation_type"] == "variant"}
    split = next((name for name in SPLITS if name in request.splits), "")
    for row in rows:
        name = f"{row['model']}.{row['encoder']}.{row['strategy']}"
        chosen = name in wanted and row["dataset"] in variants and row["split"] == split and not row["trained_on"]
        row["atlas"] = "yes" if chosen else ""
        found |= {name} if chosen else set()
    if missing := sorted(wanted - found):
        able = [row for row in rows if row["dataset"] in variants and row["encoder"] != NO_ENCODER]
        known = sorted({f"{row['model']}.{row['encoder']}.{row['strategy']}" for row in able})
        raise InputError(
            f"no unit of '{missing[0]}'", where="--saturation_models", expected="model.encoder.strategy of the run",
            hint=closest(missing[0], known) if known else "an atlas needs protein variants",
        )  # fmt: skip
    for name in sorted(found):
        encoder = name.split(".")[1]
        if encoder == NO_ENCODER or encoder == "shuffled" or encoders[encoder]["class"] == catalogue.OWN:
            raise InputError(f"no atlas of '{name}'", where="--saturation_models",
                             expected="an encoder that has vectors of substitutions nobody measured")  # fmt: skip


def _automatic(request: Request, models: Mapping[str, Any], encoders: Mapping[str, Any]) -> str:
    """Return the configuration `--saturation` takes without a choice."""
    able = [name for name in request.models if models[name]["encoder"]]
    usable = [
        name for name in request.encoders
        if "variant" in encoders[name]["modalities"] and not encoders[name].get("negative_control")
        and encoders[name]["class"] in ("plm", "control")
    ]  # fmt: skip
    usable.sort(key=lambda name: encoders[name]["class"] != "plm")
    if not able or not usable:
        raise InputError(
            "no model with an encoder of residues", where="--saturation",
            hint="add linear to --models and onehot or a protein language model to --encoders",
        )  # fmt: skip
    return f"{'linear' if 'linear' in able else able[0]}.{usable[0]}.{request.strategies[0]}"


def encoder_rows(entries: Mapping[str, Any], overrides: Mapping[str, Mapping[str, Any]]) -> list[dict[str, object]]:
    """Return one row per encoder of the catalogue that has settings: its name and all of them as JSON."""
    return [
        {
            "encoder": name,
            "settings": json.dumps(
                settings.complete(name, entry["settings"], overrides.get(name, {}), "--model_settings"), sort_keys=True
            ),
        }
        for name, entry in sorted(entries.items())
        if entry.get("settings")
    ]


def _assign_tasks(rows: list[dict[str, object]], models: Mapping[str, Any], units_per_task: int) -> None:
    """Give each row the id of the task it shares: small units travel together, big ones alone."""
    counts: Counter[tuple[object, ...]] = Counter()
    for row in rows:
        batch = models["entries"][row["model"]]["batch"]
        if batch and units_per_task:
            batch = units_per_task
        fold = f"{row['dataset']}.{row['split']}.f{row['fold']}"
        # the curve has tasks of its own, so that asking for it repeats nothing
        part = f".{row['trained_on']}" if row["trained_on"] else ""
        if batch == 1:
            row["task"] = row["unit"]
        elif batch == 0:
            row["task"] = f"{fold}.{str(row['process']).lower()}{part}"
        else:
            key = (fold, row["model"], part)
            row["task"] = f"{fold}.{row['model']}{part}.b{counts[key] // batch + 1}"
            counts[key] += 1


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _choose(kind: str, parameter: str, requested: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    for item in requested:
        if item not in known:
            raise InputError(f"unknown {kind} '{item}'", where=parameter, hint=closest(item, known))
    if not requested:
        raise InputError("empty list", where=parameter, expected=", ".join(known))
    return tuple(dict.fromkeys(requested))


def _seeds(text: str) -> tuple[int, ...]:
    items = _listed(text)
    if not items or not all(item.isdecimal() for item in items):
        raise InputError(
            "not a list of seeds", where="--seeds", found=f"'{text}'", expected="whole numbers, like 0,1,2"
        )
    return tuple(dict.fromkeys(int(item) for item in items))


def learning_curve(text: str) -> tuple[str, ...]:
    """Return the points of a learning curve below all training perturbations, as units name them.

    Items are shares (0.25) or, from 2 on, numbers of training perturbations; a share of 1 is every ordinary unit.
    """
    found = []
    for item in _listed(text):
        try:
            number = float(item)
        except ValueError:
            number = -1.0
        whole = number.is_integer() if number >= 0 else False
        if 0 < number <= 1 and round(number * 1000) >= 1:
            found.append((number, f"{PER_MILLE}{round(number * 1000)}"))
        elif number >= 2 and whole:
            found.append((number, f"{COUNT}{int(number)}"))
        else:
            raise InputError(
                "not a size of a training set", where="--learning_curve", found=item,
                expected="a share above 0 and up to 1, or a number from 2 on",
            )  # fmt: skip
    return tuple(dict.fromkeys(name for number, name in sorted(found) if number != 1))


def main(argv: Sequence[str]) -> None:
    """Check the samplesheet and write `datasets.tsv`, `encoders.tsv` and `plan.tsv`."""
    arguments = cli.parser(
        "Check the samplesheet and list every unit of work (dataset, split, fold, model, encoder, strategy, seed).",
        "example:\n  vcb_plan.py --samplesheet samplesheet.csv --models baselines --encoders onehot --out-dir plan",
    )
    arguments.add_argument("--samplesheet", required=True, help="CSV, one row per dataset (see docs/input.md)")
    arguments.add_argument("--assets", type=Path, default=catalogue.ASSETS, help="folder of the catalogues and schemas")
    arguments.add_argument("--models", default="baselines", help="names or groups of models.yml, comma-separated")
    arguments.add_argument("--encoders", default="controls", help="names or groups of encoders.yml, comma-separated")
    arguments.add_argument("--vectors", default="", help="files of the user's own vectors; only their names are read")
    arguments.add_argument("--predictions", default="", help="files of predictions made elsewhere; only names are read")
    arguments.add_argument("--strategies", default="alt,diff", help=f"any of {', '.join(STRATEGIES)}")
    arguments.add_argument("--splits", default="variant,position", help=f"any of {', '.join(SPLITS)}")
    arguments.add_argument("--folds", type=int, default=3, help="folds of the cross-validation")
    arguments.add_argument("--seeds", default="0", help="training seeds, comma-separated")
    arguments.add_argument(
        "--learning-curve", default="", help="also train on shares (0.25) or numbers (20) of the training perturbations"
    )
    arguments.add_argument(
        "--saturation",
        default="",
        help="model.encoder.strategy that predict all substitutions, comma-separated, or auto",
    )
    arguments.add_argument(
        "--units-per-task", type=int, default=0, help="units per training task (0: as the catalogue says)"
    )
    arguments.add_argument(
        "--encoding-scaling", choices=settings.SCALINGS, default="none", help="how models see vectors (docs/usage.md)"
    )
    arguments.add_argument("--model-settings", help="YAML file {model: {setting: value}}")
    arguments.add_argument(
        "--known-function", default="", help="columns of the annotations, as vcb_explore.py has them"
    )
    arguments.add_argument(
        "--annotations", nargs="*", default=[], type=Path, help="annotations of the datasets, to check --known-function"
    )
    arguments.add_argument("--out-dir", type=Path, default=Path(), help="where plan.tsv and datasets.tsv are written")
    options = arguments.parse_args(argv)
    if options.folds < 2:
        raise InputError("too few folds", where="--folds", found=options.folds, expected="at least 2")
    models, encoders = (catalogue.load(kind, options.assets) for kind in ("models", "encoders"))
    known = {**models["entries"], **encoders["entries"]}
    own = catalogue.own_names(_listed(options.vectors), "--vectors", encoders)
    encoders = catalogue.with_own(encoders, own)
    external = catalogue.external_names(_listed(options.predictions), "--predictions", models)
    chosen = catalogue.resolve("model", _listed(options.models), models, "--models")
    models = catalogue.with_external(models, external)
    request = Request(
        models=(*chosen, *external),
        encoders=tuple(catalogue.resolve("encoder", _listed(options.encoders), encoders, "--encoders")),
        strategies=_choose("strategy", "--strategies", _listed(options.strategies), STRATEGIES),
        splits=_choose("split", "--splits", _listed(options.splits), tuple(SPLITS)),
        folds=options.folds,
        seeds=_seeds(options.seeds),
        units_per_task=options.units_per_task,
        scaling=options.encoding_scaling,
        learning_curve=learning_curve(options.learning_curve),
        saturation=tuple(_listed(options.saturation)),
    )
    datasets = samplesheet.read(options.samplesheet, options.assets / "schema_input.json")
    # Tables that are not here are not judged: a stub run has none, and a missing file is said by PREPARE.
    if sum(bool(dataset["annotations"]) for dataset in datasets) == len(options.annotations):
        known_columns.check(options.known_function, options.annotations)
    check_usable(_listed(options.encoders), datasets, encoders["entries"])
    if unused := [name for name in own if name not in request.encoders]:
        raise InputError(f"'{unused[0]}' is not used", where="--vectors", hint=f"add {unused[0]} to --encoders")
    overrides = settings.read_overrides(options.model_settings, known)
    rows = build(datasets, request, models, encoders, overrides)
    options.out_dir.mkdir(parents=True, exist_ok=True)
    write_tsv(options.out_dir / "datasets.tsv", datasets, list(datasets[0]))
    write_tsv(options.out_dir / "encoders.tsv", encoder_rows(encoders["entries"], overrides), ("encoder", "settings"))
    write_tsv(options.out_dir / "plan.tsv", rows, COLUMNS)

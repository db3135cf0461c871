"""The plan: which units exist, how they share tasks, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vcbench.core import catalogue, plan, samplesheet, settings, tables
from vcbench.core.errors import InputError
from vcbench.core.units import Unit

ASSETS = Path(__file__).resolve().parents[3] / "assets"
MODELS, ENCODERS = catalogue.load("models", ASSETS), catalogue.load("encoders", ASSETS)
VARIANTS = {"dataset": "tp53", "perturbation_type": "variant"}
GENES = {"dataset": "norman", "perturbation_type": "gene"}


def request(**changes: object) -> plan.Request:
    base = {
        "models": ("train_mean", "nearest", "sclambda"),
        "encoders": ("onehot", "physchem"),
        "strategies": ("alt", "diff"),
        "splits": ("variant", "position"),
        "folds": 3,
        "seeds": (0, 1),
    }
    return plan.Request(**{**base, **changes})


def test_every_combination_once_and_encoder_free_models_once() -> None:
    rows = plan.build([VARIANTS], request(), MODELS, ENCODERS, {})
    # 2 splits x 3 folds x 2 seeds x (1 + 2 encoders x 2 strategies x 2 models)
    assert len(rows) == 2 * 3 * 2 * (1 + 2 * 2 * 2)
    assert len({row["unit"] for row in rows}) == len(rows)
    assert {row["encoder"] for row in rows if row["model"] == "train_mean"} == {"none"}
    assert all(Unit.parse(row["unit"]).id == row["unit"] for row in rows)


def test_impossible_combinations_are_not_planned() -> None:
    rows = plan.build([VARIANTS, GENES], request(models=("position_mean", "nearest")), MODELS, ENCODERS, {})
    genes = [row for row in rows if row["dataset"] == "norman"]
    assert {(row["split"], row["model"], row["encoder"]) for row in genes} == {("variant", "nearest", "onehot")}


def test_dataset_without_any_unit_is_an_error() -> None:
    with pytest.raises(InputError, match="no requested split can handle gene"):
        plan.build([GENES], request(splits=("position",)), MODELS, ENCODERS, {})
    with pytest.raises(InputError, match=r"no requested encoder can handle gene.*onehot"):
        plan.build([GENES], request(encoders=("physchem",)), MODELS, ENCODERS, {})


def test_an_encoder_with_a_file_of_its_own_needs_a_dataset_that_it_can_encode() -> None:
    entries = ENCODERS["entries"]
    with pytest.raises(InputError, match=r"gene_sets encodes gene perturbations only.*datasets of variant"):
        plan.check_usable(["onehot", "gene_sets"], [VARIANTS], entries)
    plan.check_usable(["onehot", "gene_sets", "physchem"], [VARIANTS, GENES], entries)
    plan.check_usable(["genes", "position_onehot"], [GENES], entries)


def test_small_units_travel_together_big_ones_alone() -> None:
    rows = plan.build([VARIANTS], request(), MODELS, ENCODERS, {})
    tasks = {row["task"] for row in rows if row["class"] == "baseline"}
    assert tasks == {f"tp53.{split}.f{fold}.baselines" for split in ("variant", "position") for fold in (1, 2, 3)}
    assert all(row["task"] == row["unit"] for row in rows if row["model"] == "sclambda")
    batched = plan.build([VARIANTS], request(units_per_task=3), MODELS, ENCODERS, {})
    sizes = [
        sum(row["task"] == task for row in batched)
        for task in {row["task"] for row in batched if row["model"] == "sclambda"}
    ]
    assert sorted(set(sizes)) == [2, 3]  # 8 units of a fold: 3 + 3 + 2


def test_settings_are_complete_and_checked() -> None:
    rows = plan.build([VARIANTS], request(), MODELS, ENCODERS, {"sclambda": {"epochs": 7}})
    chosen = json.loads(next(row["settings"] for row in rows if row["model"] == "sclambda"))
    assert chosen["epochs"] == 7
    assert set(chosen) == {*MODELS["entries"]["sclambda"]["settings"], "encoding_scaling"}
    for overrides, message in (
        ({"epoch": 7}, "did you mean 'epochs'"),
        ({"epochs": "many"}, "expected integer"),
        ({"epochs": True}, "expected integer"),
        ({"epochs": 0}, "out of range"),
        ({"z_at_predict": "median"}, "one of"),
        ({"bench_compat": ["all of it"]}, "one of"),
    ):
        with pytest.raises(InputError, match=message):
            settings.complete("sclambda", MODELS["entries"]["sclambda"]["settings"], overrides, "file.yml")


def test_scaling_of_vectors_is_a_setting_of_every_model_that_has_any() -> None:
    overrides = {"nearest": {"encoding_scaling": "l2"}}
    rows = plan.build([VARIANTS], request(scaling="zscore"), MODELS, ENCODERS, overrides)
    found = {row["model"]: json.loads(row["settings"]).get("encoding_scaling") for row in rows}
    assert found == {"train_mean": None, "nearest": "l2", "sclambda": "zscore"}
    with pytest.raises(InputError, match=r"wrong value of nearest.encoding_scaling.*found 'minmax'"):
        plan.build([VARIANTS], request(), MODELS, ENCODERS, {"nearest": {"encoding_scaling": "minmax"}})
    with pytest.raises(InputError, match="unknown setting 'encoding_scaling' of train_mean"):
        plan.build([VARIANTS], request(), MODELS, ENCODERS, {"train_mean": {"encoding_scaling": "l2"}})


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("ridge", ["a"], "linear.ridge item.*expected number"),
        ("ridge", [-3], "linear.ridge item is out of range"),
        ("ridge", [], "linear.ridge is empty"),
        ("components", [2.5], "linear.components item.*expected integer"),
        ("components", 5, "expected list"),
    ],
)
def test_items_of_list_settings_are_checked(setting: str, value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        settings.complete("linear", MODELS["entries"]["linear"]["settings"], {setting: value}, "file.yml")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--seeds", "a", "not a list of seeds"),
        ("--folds", "1", "too few folds"),
        ("--samplesheet", "absent.csv", "absent.csv: cannot be read"),
        ("--strategies", "alts", "unknown strategy 'alts'.*did you mean 'alt'"),
    ],
)
def test_wrong_options_by_hand(tmp_path: Path, option: str, value: str, message: str) -> None:
    sheet = tmp_path / "samplesheet.csv"
    sheet.write_text("dataset,h5ad,perturbation_type\na,b.h5ad,gene\n")
    with pytest.raises(InputError, match=message):
        plan.main(["--samplesheet", str(sheet), "--out-dir", str(tmp_path), option, value])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dataset,h5ad,perturbation_type\n", "no dataset"),
        ("", "not a comma-separated table"),
        ("dataset,h5d,perturbation_type\na,b.h5ad,gene\n", "unknown column 'h5d'.*did you mean 'h5ad'"),
        ("dataset,h5ad,perturbation_type\na,b.h5ad\n", "line 2: wrong number of fields"),
        (
            "dataset,h5ad,perturbation_type\na,b.h5ad,genes\n",
            "line 2, column perturbation_type.*found 'genes'.*variant, gene",
        ),
        ("dataset,h5ad,perturbation_type\na.b,b.h5ad,gene\n", "line 2, column dataset.*found 'a.b'"),
        ("dataset,h5ad,perturbation_type\na,b.csv,gene\n", "line 2, column h5ad"),
        ("dataset,h5ad,perturbation_type\na,,gene\n", "line 2: 'h5ad' is missing"),
        ("dataset,h5ad,perturbation_type\na,b.h5ad,variant\n", "line 2: 'proteins' is missing"),
        ("dataset,h5ad,perturbation_type\na,b.h5ad,gene\nA,b.h5ad,gene\n", "line 3: duplicate dataset 'A'.*line 2"),
        ("dataset,h5ad,h5ad,perturbation_type\na,b.h5ad,b.h5ad,gene\n", "duplicate column"),
    ],
)
def test_bad_samplesheets_give_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    sheet = tmp_path / "samplesheet.csv"
    sheet.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        samplesheet.read(sheet, ASSETS / "schema_input.json")
    assert "samplesheet.csv" in str(caught.value) and "\n" not in str(caught.value)


def test_samplesheet_fills_defaults_and_survives_a_byte_order_mark(tmp_path: Path) -> None:
    sheet = tmp_path / "s.csv"
    sheet.write_bytes("\ufeffdataset,h5ad,perturbation_type\r\na, b.h5ad ,gene\r\n".encode())
    (row,) = samplesheet.read(sheet, ASSETS / "schema_input.json")
    assert (row["h5ad"], row["perturbation_column"], row["control_labels"], row["gene"]) == (
        "b.h5ad",
        "perturbation",
        "control",
        "",
    )


def test_tables_round_trip_and_refuse_ragged_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    tables.write_tsv(path, [{"a": 0.1 + 0.2, "b": float("nan")}, {"a": None, "b": '"quoted" \t text'}], ["a", "b"])
    assert path.read_text() == 'a\tb\n0.30000000000000004\t\n\t"quoted" text\n'
    assert tables.read_tsv(path)[1] == {"a": "", "b": '"quoted" text'}
    path.write_text("a\tb\n1\n")
    with pytest.raises(InputError, match=r"line 2: wrong number of fields.*2 tab-separated"):
        tables.read_tsv(path)


def test_own_vectors_are_encoders_of_the_plan(tmp_path: Path) -> None:
    sheet = tmp_path / "samplesheet.csv"
    sheet.write_text("dataset,h5ad,perturbation_type,proteins\ntp53,b.h5ad,variant,p.fasta\nnorman,c.h5ad,gene,\n")
    arguments = ["--samplesheet", str(sheet), "--models", "nearest", "--out-dir", str(tmp_path)]
    own = ["--vectors", "a/my_vectors.h5ad, b.npz"]
    plan.main([*arguments, *own, "--encoders", "physchem,my_vectors,b"])
    rows = tables.read_tsv(tmp_path / "plan.tsv")
    found = {(row["dataset"], row["encoder"]) for row in rows}
    assert found == {
        ("tp53", "physchem"),
        *((data, name) for data in ("tp53", "norman") for name in ("my_vectors", "b")),
    }
    assert "my_vectors" not in {row["encoder"] for row in tables.read_tsv(tmp_path / "encoders.tsv")}
    (tmp_path / "settings.yml").write_text("my_vectors:\n  pooling: mean\n")
    for more, message in (
        ([*own, "--encoders", "physchem,b"], r"--vectors: 'my_vectors' is not used \| add my_vectors to --encoders"),
        ([*own, "--encoders", "my_vector,b"], r"unknown encoder 'my_vector' \| did you mean 'my_vectors'"),
        (["--encoders", "my_vectors"], "unknown encoder 'my_vectors'"),
        (["--vectors", "onehot.npz", "--encoders", "onehot"], "'onehot' is the name of an encoder or group"),
        ([*own, "--encoders", "my_vectors,b", "--model-settings", str(tmp_path / "settings.yml")],
         "unknown model or encoder 'my_vectors'"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            plan.main([*arguments, *more])


def test_predictions_made_elsewhere_are_models_of_every_fold_once() -> None:
    models = catalogue.with_external(MODELS, ["their_model"])
    rows = plan.build([VARIANTS, GENES], request(models=("train_mean", "their_model")), models, ENCODERS, {})
    theirs = [row for row in rows if row["model"] == "their_model"]
    assert {(row["dataset"], row["split"]) for row in theirs} == {
        ("tp53", "variant"), ("tp53", "position"), ("norman", "variant"),
    }  # fmt: skip
    assert len(theirs) == 3 * 3
    assert {(row["seed"], row["encoder"], row["class"], row["process"], row["settings"]) for row in theirs} == {
        (0, "none", "external", "PREDICTIONS_IMPORT", "{}")
    }
    assert all(row["task"] == row["unit"] for row in theirs)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["sclambda.h5ad"], "name of a model or group"),
        (["baselines.h5ad"], "name of a model or group"),
        (["truth.h5ad"], "name of a model or group"),
        (["mine.npz"], "not a file of predictions"),
        (["My-Model.h5ad"], "plain name"),
        (["a/mine.h5ad", "b/mine.h5ad"], "two files of one name"),
    ],
)
def test_names_of_predictions_made_elsewhere(files: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        catalogue.external_names(files, "--predictions", MODELS)
    assert catalogue.external_names(["x/mine.h5ad", "mine_2.h5ad"], "--predictions", MODELS) == ["mine", "mine_2"]


ANNOTATIONS = {
    "a": "label\talphamissense\tclinvar\nR175H\t0.98\tPathogenic\nP72R\t0.1\tBenign\n",
    "b": "label\tseverity\nG12D\tII\n",
}


@pytest.mark.parametrize(
    ("known", "message"),
    [
        (
            "alphamisense",
            r"no annotations table has a column 'alphamisense'.*a.tsv, b.tsv.*did you mean 'alphamissense'",
        ),
        ("-Clinvar", r"no annotations table has a column 'Clinvar'.*found '-Clinvar'.*did you mean 'clinvar'"),
        ("clinvar=pathogenic|bening", r"class 'bening' does not occur in column clinvar; found: Benign, Pathogenic"),
        ("label", r"no annotations table has a column 'label'"),
        ("alphamissense,domain", r"no annotations table has a column 'domain'"),
        ("alphamissense=>1", r"not a rule"),
        ("alphamissense>=0.5,-alphamissense,clinvar=PATHOGENIC,severity=II|ii,consequence=frameshift", ""),
        ("", ""),
    ],
)
def test_known_function_is_checked_at_launch(tmp_path: Path, known: str, message: str) -> None:
    rows = ["dataset,h5ad,proteins,perturbation_type,annotations"]
    for name, text in ANNOTATIONS.items():
        (tmp_path / f"{name}.tsv").write_text(text)
        rows.append(f"{name},{name}.h5ad,{name}.fasta,variant,{name}.tsv")
    (tmp_path / "sheet.csv").write_text("\n".join(rows))
    given = ["--samplesheet", str(tmp_path / "sheet.csv"), "--out-dir", str(tmp_path), f"--known-function={known}"]
    tables_ = ["--annotations", *(str(tmp_path / f"{name}.tsv") for name in ANNOTATIONS)]
    if message:
        with pytest.raises(InputError, match=message) as error:
            plan.main([*given, *tables_])
        assert "\n" not in str(error.value)
    else:
        plan.main([*given, *tables_])
    if "not a rule" not in message:
        plan.main(given)  # tables that are not at hand are not judged


def test_known_function_without_annotations(tmp_path: Path) -> None:
    (tmp_path / "sheet.csv").write_text("dataset,h5ad,proteins,perturbation_type\na,a.h5ad,a.fasta,variant\n")
    with pytest.raises(InputError, match=r"no annotations table has a column 'clinvar'.*column annotations of --input"):
        plan.main(["--samplesheet", str(tmp_path / "sheet.csv"), "--known-function", "clinvar"])

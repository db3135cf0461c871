"""`vcb_explore.py` on small tables written by hand, and the report's section on them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from vcbench.core import catalogue, h5ad
from vcbench.core.errors import InputError
from vcbench.core.tables import read_tsv, write_tsv
from vcbench.explore import command, predictors
from vcbench.metrics import scoring
from vcbench.report import known_function
from vcbench.report.names import Names

NAMES = [f"TP53~R{10 + i}H" for i in range(8)]
IMPACT = {"linear": [8.0, 7, 6, 1, 5, 2, 3, 4], "no_change": [0.0] * 8}
MEASURED = [8.0, 7, 6, 5, 4, 3, 2, 1]
LLR = [-9.0, -1, -8, -7, -2, -3, -4, -5]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two folds of four variants; the first two of each fold are pathogenic."""
    rows = []
    fold = [1, 1, 1, 1, 2, 2, 2, 2]
    for model, values in [*IMPACT.items(), ("truth", MEASURED), ("no_skill", [1.0] * 8)]:
        encoder = "onehot" if model == "linear" else "none"
        collector = scoring.Rows("d", "variant", model, encoder, "alt" if model == "linear" else "none")
        for name, number, value in zip(NAMES, fold, values, strict=True):
            collector.add(number, name, *predictors.IMPACT, value)
        rows += collector.rows
    pq.write_table(scoring.to_table(rows, {}), tmp_path / "scores.parquet")
    plan = [
        {"unit": f"d.variant.f{f}.{m}.{e}.{s}.s0", "dataset": "d", "split": "variant", "fold": f, "model": m,
         "encoder": e, "strategy": s, "seed": 0, "class": "baseline", "state": "ok"}
        for f in (1, 2) for m, e, s in (("linear", "onehot", "alt"), ("no_change", "none", "none"))
    ]  # fmt: skip
    write_tsv(tmp_path / "plan.tsv", plan, list(plan[0]))
    table = [
        {
            "perturbation": name,
            "gene": "TP53",
            "pos": 10 + i,
            "dms": MEASURED[i],
            "clinvar": "Pathogenic" if i % 4 < 2 else "Benign",
        }
        for i, name in enumerate(NAMES)
    ]
    write_tsv(tmp_path / "d.perturbations.tsv", table, list(table[0]))
    obs = pd.DataFrame(index=[*NAMES, "control"])
    for strategy, sign in (("alt", 1), ("diff", -1)):
        vectors = ad.AnnData(sign * np.array([*LLR, 0.0], dtype=np.float32)[:, None], obs=obs)
        h5ad.write(vectors, tmp_path / f"d.esm2_llr.{strategy}.h5ad", {})
    return tmp_path


def explored(run: Path, *extra: str) -> list[dict[str, str]]:
    command.main(["--tables", str(run), "--perturbations", str(run / "d.perturbations.tsv"), "--bootstrap", "50",
                  "--known-function", "clinvar,dms,absent", "--out-dir", str(run / "out"), *extra])  # fmt: skip
    return read_tsv(run / "out" / "known_function.tsv")


@pytest.mark.parametrize("strategy", ["alt", "diff"])
def test_values_by_hand(run: Path, strategy: str) -> None:
    rows = explored(run, "--zero-shot", str(run / f"d.esm2_llr.{strategy}.h5ad"))
    value = {(row["model"], row["statistic"]): row for row in rows}
    assert float(value["measured", "auroc"]["value"]) == 1
    assert float(value["measured", "spearman"]["value"]) == pytest.approx(1)
    # fold 1: 8 and 7 beat 6 and 1; fold 2: 5 beats 3 and 4, 2 beats neither: 6 of 8 pairs
    assert float(value["linear", "auroc"]["value"]) == 6 / 8
    # minus the ratio: 9 beats 8 and 7, 1 neither; 2 and 3 lose against 4 and 5: 2 of 8
    assert float(value["esm2_llr", "auroc"]["value"]) == 2 / 8
    assert float(value["linear", "auroc"]["zero_shot_difference"]) == 4 / 8
    assert float(value["no_change", "auroc"]["value"]) == 0.5
    assert value["no_change", "spearman"]["reason"] == "impacts or known values do not differ within any fold"
    # fold 1: ranks 4321 against 4321; fold 2: 4123 against 4321, 1 - 6 * 8 / 60
    assert float(value["linear", "spearman"]["value"]) == pytest.approx((1 + 0.2) / 2)
    assert value["", ""]["reason"] == "no dataset has an annotation column 'absent'; found: clinvar, dms"
    assert {row["class"] for row in rows} == {"", "zero_shot", "measured", "baseline"}


def test_misspelled_columns_and_classes_are_warnings_and_rows(run: Path, caplog) -> None:
    command.main(["--tables", str(run), "--perturbations", str(run / "d.perturbations.tsv"), "--bootstrap", "20",
                  "--known-function", "clinvr,clinvar=Pathogen,clinvar=pathogenic|likely,clinvar=Pathogenic,gene",
                  "--out-dir", str(run / "out")])  # fmt: skip
    rows = read_tsv(run / "out" / "known_function.tsv")
    column = "no dataset has an annotation column 'clinvr'; found: clinvar, dms"
    wrong = "class 'Pathogen' does not occur in column clinvar; found: Benign, Pathogenic"
    partly = "class 'likely' does not occur in column clinvar; found: Benign, Pathogenic"
    said = {(row["known"], row["reason"]) for row in rows if not row["statistic"]}
    assert said >= {("clinvr", column), ("clinvar=Pathogen", wrong), ("clinvar=pathogenic|likely", partly)}
    value = {(row["known"], row["model"], row["statistic"]): row["value"] for row in rows}
    assert value["clinvar=pathogenic|likely", "linear", "auroc"] == value["clinvar=Pathogenic", "linear", "auroc"] != ""
    assert not any(known == "clinvar=Pathogenic" for known, _ in said)
    warned = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warned == [f"--known-function clinvr: {column}", f"--known-function clinvar=Pathogen: {wrong}",
                      f"--known-function clinvar=pathogenic|likely: {partly}"]  # fmt: skip


def test_a_column_may_hold_the_zero_shot_score(run: Path) -> None:
    table = pd.read_csv(run / "d.perturbations.tsv", sep="\t").assign(zero_shot_llr=LLR)
    table.to_csv(run / "d.perturbations.tsv", sep="\t", index=False)
    value = {(row["model"], row["statistic"]): row for row in explored(run)}
    assert float(value["zero_shot_llr", "auroc"]["value"]) == 2 / 8
    table.assign(zero_shot_llr="high").to_csv(run / "d.perturbations.tsv", sep="\t", index=False)
    with pytest.raises(InputError, match="column zero_shot_llr: not a number"):
        explored(run)


def test_same_bytes_twice_and_whatever_the_order(run: Path) -> None:
    explored(run)
    first = (run / "out" / "known_function.tsv").read_bytes()
    for name in ("plan.tsv", "d.perturbations.tsv"):
        lines = (run / name).read_text().splitlines()
        (run / name).write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    explored(run)
    assert (run / "out" / "known_function.tsv").read_bytes() == first


def test_the_report_shows_every_ranking_and_what_has_no_use(run: Path) -> None:
    rows = explored(run, "--zero-shot", str(run / "d.esm2_llr.alt.h5ad"))
    inputs = SimpleNamespace(explored={"known_function": rows}, names=Names.load(catalogue.ASSETS))
    board, unusable = known_function.sections(inputs)
    for text in ("Measured effect", "Zero-shot score (", "No change", "AUROC", "AUPRC", "Spearman", "<b>0.750</b>",
                 "+0.500", "8 variants, 4 damaging"):  # fmt: skip
        assert text in board.data, text
    assert "no dataset has an annotation column &#x27;absent&#x27;" in unusable.data
    assert known_function.sections(SimpleNamespace(explored={}, names=None)) == []

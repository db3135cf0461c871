"""Every number in the report against pandas computations on the tables."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

PRIMARY = ("dpearson_pm", "expr_nt")
PANELS = [(d, s) for d in ("tp53_screen", "kras_screen") for s in ("variant", "position")]
TITLES = {"nearest": "Nearest neighbours", "linear": "Bilinear ridge", "sclambda": "scLAMBDA",
          "position_mean": "Position mean", "no_change": "No change", "train_mean": "Train mean"}  # fmt: skip
ENCODERS = {"esm2_650m": "ESM2 650M", "onehot": "One-hot residue", "physchem": "Physico-chemical", "random": "Random",
            "constant": "Constant"}  # fmt: skip


def label(row) -> str:
    if row.encoder == "none":
        return TITLES[row.model]
    return f"{TITLES[row.model]} · {ENCODERS[row.encoder]} · {row.strategy}"


def primary_rows(report, name: str, dataset: str, split: str) -> pd.DataFrame:
    table = report.table(name)
    keep = (table["dataset"] == dataset) & (table["split"] == split)
    keep &= (table["metric"] == PRIMARY[0]) & (table["gene_set"] == PRIMARY[1])
    return table[keep]


def cells(html: str) -> list[dict[str, str]]:
    """Read the leaderboard back: text of name, value and gain of each row."""
    found, html = [], html.replace("\u00a0", " ")
    for row in html.split('<div class="vcb-row">')[1:]:
        name, value, gain = (
            re.sub(r"<svg.*?</svg>|<span class=\"vcb-(?:rank|badge).*?</span>|<[^>]+>", "", part, flags=re.S).strip()
            for part in re.findall(r'<div class="vcb-(?:name|value|gain)">(.*?)</div>', row, flags=re.S)
        )
        found.append({"name": name, "value": value, "gain": gain})
    return found


def number(text: str) -> float:
    return float(text.replace("−", "-").replace("+", "").replace(",", ""))


@pytest.mark.parametrize(("dataset", "split"), PANELS)
def test_leaderboard_lists_every_configuration_with_its_numbers(report, dataset, split):
    rows = primary_rows(report, "leaderboard", dataset, split)
    expected = {label(row): row for row in rows.itertuples()}
    found = cells(report.section(f"{dataset}_{split}_leaderboard")["data"])
    assert len(found) == len(expected) == 3 + 3 * 10
    values = []
    for row in found:
        want = expected[row["name"]]
        if want.reasons == "missing_pred":
            assert row["value"] == "no result: 3 blocked"
            continue
        if want.n < want.n_expected:  # undefined predictions count as no skill, and the report says so
            assert number(row["value"].split()[0]) == pytest.approx(want.value_imputed, abs=5.1e-4)
            assert row["value"].endswith(("count as no skill", "counted as no skill"))
            assert want.n == 0 or f"{want.value:.3f} on the {want.n} of {want.n_expected}" in row["value"]
            values.append(want.value_imputed)
            continue
        value, low, high = re.fullmatch(r"(\S+) (\S+) to (\S+)", row["value"]).groups()
        np.testing.assert_allclose(
            [number(value), number(low), number(high)], [want.value, want.ci_low, want.ci_high], atol=5.1e-4
        )
        values.append(want.value)
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize(("dataset", "split"), PANELS)
def test_differences_come_from_the_best_baseline_contrasts(report, dataset, split):
    contrasts = primary_rows(report, "contrasts", dataset, split)
    contrasts = contrasts[contrasts["reference"] == "best_baseline"]
    expected = {label(row): row for row in contrasts.itertuples()}
    checked = 0
    for row in cells(report.section(f"{dataset}_{split}_leaderboard")["data"]):
        if row["name"] not in expected:
            assert row["gain"] == ""
            continue
        want = expected[row["name"]]
        difference, low, high, p = re.fullmatch(r"(\S+) (\S+) to (\S+); (.+)", row["gain"]).groups()
        np.testing.assert_allclose(
            [number(difference), number(low), number(high)], [want.difference, want.ci_low, want.ci_high], atol=5.1e-4
        )
        assert p == f"corrected p = {want.p_holm:.3f}"
        checked += 1
    assert checked == len(expected) > 20


def test_verdicts_agree_with_the_contrasts(report):
    summary = report.section("vcb_result")["data"]
    card = r'<div class="vcb-where">(.*?)</div>(.*?)(?=<div class="vcb-where">|<p class="vcb-note")'
    cards = {
        tuple(re.split(" · | split", where)[:2]): body for where, body in re.findall(card, summary, flags=re.DOTALL)
    }
    assert set(cards) == set(PANELS)
    won = 0
    for panel, body in cards.items():
        contrasts = primary_rows(report, "contrasts", *panel)
        contrasts = contrasts[(contrasts["reference"] == "best_baseline") & (contrasts["model"] == "sclambda")]
        winners = contrasts[(contrasts["p_holm"] < 0.05) & (contrasts["difference"] > 0)]
        best = contrasts.sort_values("difference").iloc[-1]
        if len(winners):
            won += 1
            assert "scLAMBDA beats the best simple baseline" in body
            assert f"{len(winners)} of {len(contrasts)} configurations beat it." in body
        else:
            assert "No model beats the best simple baseline" in body
            assert f"{best.detectable:.3f}" in body
        difference = f"{best.difference:+.3f}".replace("-", "−")
        assert f"<b>{difference}</b>" in body
        assert label(best) in body
    assert won == 2  # the generator gives the model an advantage on one of the two datasets
    assert f"scLAMBDA beats the best simple baseline in {won} of 4 comparisons" in summary


def test_facts_of_the_run(report):
    summary = report.section("vcb_result")["data"]
    frames = [pd.read_csv(path, sep="\t", quoting=3) for path in report.inputs.glob("*.perturbations.tsv")]
    used = sum((frame["n_cells"] > 0).sum() for frame in frames)
    quality = [
        pd.read_csv(p, sep="\t", quoting=3).set_index("metric")["value"] for p in report.inputs.glob("*.quality.tsv")
    ]
    n_cells = sum(int(facts["n_cells"]) for facts in quality)
    states = report.table("plan")["state"].value_counts()
    for text in ("2 datasets", f"{used} variants", f"{n_cells:,} cells", "3 folds each", "6 models", "5 encoders",
                 f"{states['ok']} of {states.sum()} units succeeded", f"{states['blocked']} blocked",
                 f"{states['failed']} failed"):  # fmt: skip
        assert text in summary, text


@pytest.mark.parametrize(("dataset", "split"), PANELS)
def test_metrics_table(report, dataset, split):
    table = report.table("leaderboard")
    table = table[(table["dataset"] == dataset) & (table["split"] == split)]
    section = report.section(f"{dataset}_{split}_metrics")
    data, headers = section["data"], section["headers"]
    assert next(iter(data)).startswith("Ceiling")
    checked = 0
    for row in table.itertuples():
        key = f"{row.metric}__{row.gene_set}"
        if label(row) not in data or key not in headers:
            continue
        found = data[label(row)]
        assert found[key] == pytest.approx(row.value if row.n == row.n_expected else row.value_imputed, rel=1e-12)
        assert ("no skill" in found[f"{key}_interval"]) == (row.n < row.n_expected)
        if row.n:
            assert found[f"{key}_null"].startswith("0.01")
        assert next(iter(data.values()))[key] == row.ceiling
        checked += 1
    assert checked > 200
    # Columns without a heading vanish in MultiQC, numbers without a format lose their decimals.
    assert {column for row in data.values() for column in row} <= set(headers)
    assert all("format" in headers[key] for row in data.values() for key, value in row.items() if type(value) is float)


@pytest.mark.parametrize("strategy", ["alt", "diff"])
def test_heat_map(report, strategy):
    for dataset, split in PANELS:
        rows = primary_rows(report, "leaderboard", dataset, split)
        rows = rows[rows["strategy"] == strategy]
        rows = rows.assign(shown=rows["value"].where(rows["n"] == rows["n_expected"], rows["value_imputed"]))
        rows.loc[rows["reasons"] == "missing_pred", "shown"] = np.nan
        wide = rows.pivot_table(index="model", columns="encoder", values="shown", dropna=False)
        section = report.section(f"{dataset}_{split}_heatmap_{strategy}")
        models = {title: name for name, title in TITLES.items()}
        encoders = {title: name for name, title in ENCODERS.items()}
        assert len(section["data"]) == len(section["ycats"]) == 3
        for title, values in zip(section["ycats"], section["data"], strict=True):
            for encoder, value in zip(section["xcats"], values, strict=True):
                want = wide.get(encoders[encoder], pd.Series(dtype=float)).get(models[title], np.nan)
                assert (value is None and np.isnan(want)) or value == pytest.approx(want, rel=1e-12)
        empty = section["description"].partition("Empty cells")[2]
        assert ("ESM2 650M" in empty) == (dataset == "kras_screen")


def test_perturbation_view(report):
    scores = pd.read_parquet(report.inputs / "tables/scores.parquet")
    scores = scores[(scores["metric"] == PRIMARY[0]) & (scores["gene_set"] == PRIMARY[1])]
    for dataset, split in PANELS:
        contrasts = primary_rows(report, "contrasts", dataset, split)
        contrasts = contrasts[(contrasts["reference"] == "best_baseline") & (contrasts["model"] == "sclambda")]
        best = contrasts.sort_values("difference").iloc[-1]
        keys = ["model", "encoder", "strategy"]
        mine = scores[(scores["dataset"] == dataset) & (scores["split"] == split)]
        wide = mine.pivot_table(index="perturbation", columns=keys, values="value")
        reference = tuple(best[f"reference_{key}"] for key in keys)
        expected = (wide[tuple(best[key] for key in keys)] - wide[reference]).dropna()
        points = [
            point for group in report.section(f"{dataset}_{split}_perturbations")["data"].values() for point in group
        ]
        assert {point["name"]: point["y"] for point in points} == pytest.approx(expected.to_dict(), rel=1e-9)
        severity = pd.read_csv(report.inputs / f"{dataset}.perturbations.tsv", sep="\t", quoting=3)
        means = expected.groupby(severity.set_index("perturbation")["severity"]).mean()
        strata = report.section(f"{dataset}_{split}_strata")["data"]
        for name, mean in means.items():
            row = re.search(rf"<td>{name}</td>.*?</tr>", strata).group()
            assert f"<b>{mean:+.3f}</b>".replace("-", "−") in row
        assert list(report.section(f"{dataset}_{split}_perturbations")["data"]) == [
            "wild-type-like", "intermediate", "severe"]  # fmt: skip


def test_cost_and_folds(report):
    plan = report.table("plan").merge(report.table("cost"), on="unit", validate="one_to_one")
    data = report.section("vcb_cost_table")["data"]
    for model, rows in plan.dropna(subset=["train_seconds"]).groupby("model"):
        found = data[TITLES[model]]
        assert found["train"] == pytest.approx(rows["train_seconds"].mean())
        assert found["predict_total"] == pytest.approx(rows["predict_seconds"].sum())
        assert found["memory"] == rows["peak_memory_mb"].max()
        assert found["units"] == len(rows)
    folds = report.section("vcb_folds_table")["data"]
    assert len(folds) == 12
    assert folds["tp53_screen · variant split · fold 2"]["share_test_position_seen"] == 0.3


def test_every_unit_without_a_result_is_listed_with_its_reason(report):
    plan = report.table("plan")
    html = report.section("vcb_failures")["data"]
    bad = plan[plan["state"] != "ok"]
    assert len(bad) == 36 + 4
    for unit in bad["unit"]:
        assert f"<code>{unit}</code>" in html
    assert "out of memory after 3 attempts (exit 137)" in html
    total = sum(int(n) for n in re.findall(r"<td>(\d+)</td></tr>", html))
    assert total == len(bad)

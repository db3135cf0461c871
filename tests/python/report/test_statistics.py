"""Sections on statistics and trust: every statement against the tables, read by pandas."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from synthetic import Run

PANEL = "tp53_screen_variant"
ONE = {"datasets": {"tp53_screen": "variant"}, "blocked": (), "failed": (), "splits": ("variant",)}


def mine(report, name, dataset="tp53_screen", split="variant"):
    table = report.table(name)
    return table[(table["dataset"] == dataset) & (table["split"] == split)]


def checks(report, panel="tp53_screen · variant split:"):
    """State and answer of the checks of a panel by question."""
    html = report.section("vcb_trust_checks")["data"].replace("\u00a0", " ")
    html = html[html.index(panel) :].split("</details>")[0] if panel else html.split("<details")[0]
    found = re.findall(r'vcb-check-(\w+)"><span[^>]*>.</span><b>(.*?)</b><div>(.*?)</div></div>', html, flags=re.S)
    return {question: (state, re.sub(r"<[^>]+>", "", answer)) for state, question, answer in found}


def edited(make_report, name, change, **run):
    def edit(folder: Path) -> None:
        path = folder / "tables" / f"{name}.tsv"
        table = pd.read_csv(path, sep="\t", quoting=3)
        change(table)
        table.to_csv(path, sep="\t", index=False, quoting=3)

    return make_report(Run(**{**ONE, **run}), edit)


def test_ranks_are_drawn_with_their_data(report):
    ranks = mine(report, "ranks").sort_values("place")
    data = pd.read_csv(report.folder / f"figures/{'tp53_screen_variant'}.ranks.tsv", sep="\t")
    assert data["place"].tolist() == ranks["place"].tolist()
    pd.testing.assert_series_equal(data["mean_rank"], ranks["mean_rank"], check_index=False)
    section = report.section(f"{PANEL}_ranks")["data"]
    assert section.count("<circle") == (ranks["place"] <= 20).sum() + 1  # the best of a model beyond the 20th
    alike = sum(bool(set(str(g).split(";")) & {"1"}) for g in ranks["groups"]) - 1
    assert f"but {alike} other" in section
    assert "75 %" in section


def test_statistics_say_what_the_tables_say(report):
    html = report.section(f"{PANEL}_statistics")["data"]
    selection = mine(report, "selection").set_index("model")
    row = selection.loc["sclambda"]
    assert f"scLAMBDA scores {row['value']:.3f}; picked in hindsight it would look like {row['naive']:.3f}" in html
    assert row["naive"] > row["value"]
    effects = mine(report, "factors")
    size = effects[(effects["effect"] == "model") & effects["level"].isna()]["size"].item()
    assert re.search(rf"the model</b></td>\s*<td>{size:.3f}</td>", html)
    assert "the model (30 % of the variation)." in html
    agreement = mine(report, "agreement")
    agreement = agreement[agreement["compared"] == "metrics"]
    ends = [agreement[["metric", "gene_set"]], agreement[["other_metric", "other_gene_set"]]]
    own = agreement[sum((end.to_numpy() == ("dpearson_pm", "expr_nt")).all(axis=1) for end in ends) > 0]
    assert f"{(own['tau'] >= 0.5).sum()} of {len(own)} other headline metrics" in html
    assert 0 < (own["tau"] >= 0.5).sum() < len(own)


def test_a_model_without_a_choice_is_named(make_report):
    def change(table):
        of = table["model"] == "sclambda"
        table.loc[of, "status"] = "no_validation"
        table.loc[of, ["value", "ci_low", "ci_high", "chosen"]] = None

    text = edited(make_report, "selection", change).section(f"{PANEL}_statistics")["data"]
    assert "at least 6, never trained on" in text
    assert "Without a choice, because no validation perturbation was predicted and has enough cells: scLAMBDA." in text
    assert "Without a choice" not in make_report(Run(**ONE)).section(f"{PANEL}_statistics")["data"]


def test_a_control_that_ranks_first_is_called_one(make_report):
    def change(table):
        first = (table["model"] == "sclambda") & (table["encoder"] == "random") & (table["strategy"] == "alt")
        table["place"] = (~first).cumsum() + 1 - first * (~first).cumsum()
        table.loc[first, "winner_share"] = 0.9

    report = edited(make_report, "ranks", change)
    text = report.section(f"{PANEL}_ranks")["data"]
    assert "scLAMBDA · Random · alt ranks first on average" in text
    assert "It is a negative control" in text
    assert "It is a negative control" not in make_report(Run(**ONE)).section(f"{PANEL}_ranks")["data"]
    families = make_report(Run(**ONE, encoders=("random",), models=("train_mean", "nearest", "position_mean")))
    assert "Position mean leads." in families.section(f"{PANEL}_statistics")["data"]


def test_the_best_model_in_every_metric(report):
    html = report.section(f"{PANEL}_statistics")["data"].replace("\u00a0", " ")
    contrasts = mine(report, "contrasts")
    best = contrasts[(contrasts["reference"] == "best_baseline") & (contrasts["model"] == "sclambda")]
    best = best.sort_values("difference").iloc[-1]
    keys = ["model", "encoder", "strategy"]
    board = mine(report, "leaderboard")
    board = board[(board[keys] == best[keys]).all(axis=1)]
    rows = re.findall(r'<tr><td><span title="[^"]+">.*?</tr>', html, flags=re.S)
    assert len(rows) == len(board) > 8
    primary = board[(board["metric"] == "dpearson_pm") & (board["gene_set"] == "expr_nt")].iloc[0]
    cells = [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<td>(.*?)</td>", rows[0], flags=re.S)]
    assert cells[1] == f"{primary['value']:.3f} ({primary['ci_low']:.3f} to {primary['ci_high']:.3f})"
    assert cells[2].startswith("+5.000 +4.000 to +6.000")  # the train mean of the generator
    assert cells[3].startswith(f"{best['difference']:+.3f} {best['ci_low']:+.3f} to {best['ci_high']:+.3f}; p = 0.002")
    assert cells[4:6] == ["−0.030 to 0.050", "0.820"]
    assert cells[7] == f"{primary['n']} of {primary['n_expected']}"


def test_every_link_to_a_figure_leads_to_a_file(report):
    links = set(re.findall(r'href=\\?"(figures/[^"\\]+)', report.text()))
    files = {str(path.relative_to(report.folder)) for path in report.folder.glob("figures/*")}
    assert links == files
    assert {Path(name).name for name in files} >= {
        f"{PANEL}.{name}.{kind}" for kind in ("svg", "tsv")
        for name in ("leaderboard", "ranks", "selection", "factors", "families", "agreement", "heatmap_alt",
                     "perturbations")
    }  # fmt: skip


def test_checks_are_answered_with_numbers_of_the_run(report):
    found = checks(report)
    contrasts = mine(report, "contrasts")
    best = contrasts[(contrasts["reference"] == "best_baseline") & (contrasts["model"] == "sclambda")]
    best = best.sort_values("difference").iloc[-1]
    state, answer = found["Are there enough perturbations?"]
    assert state == "good"
    assert f"60 perturbations in {best['n_clusters']:.0f} independent groups" in answer
    assert f"A true difference of {best['detectable']:.3f}" in answer
    close = checks(report, "kras_screen · variant split:")["Are there enough perturbations?"]
    rows = mine(report, "contrasts", "kras_screen")
    rows = rows[(rows["reference"] == "best_baseline") & (rows["model"] == "sclambda")]
    other = rows.sort_values("difference").iloc[-1]
    needed = other["n"] * (other["detectable"] / other["difference"]) ** 2
    assert close[0] == "mind"
    assert f"about {needed:,.0f} perturbations would be needed" in close[1]
    assert found["Has training seen the test?"][0] == "mind"
    assert "30 % of test perturbations lie at a residue" in found["Has training seen the test?"][1]
    assert checks(report, "tp53_screen · position split:")["Has training seen the test?"][0] == "good"
    assert found["Could it be chance?"][0] == "good"
    assert "−0.030 to 0.050" in found["Could it be chance?"][1]
    assert checks(report, "")["Did everything that was planned give a result?"][0] == "mind"
    state, answer = checks(report, "")["Do datasets and splits agree on who is better?"]
    assert state == "mind"  # four of six pairs lie across datasets
    assert "0.25 (1 = same order); least alike: kras_screen (position) and tp53_screen (position), 0.25" in answer
    line = re.search(r"Can I trust this number\?</b></a> (.*?)</p>", report.section("vcb_result")["data"]).group(1)
    panels = [f"{d} · {s} split:" for d in ("tp53_screen", "kras_screen") for s in ("variant", "position")]
    good = [state for panel in ("", *panels) for state, _ in checks(report, panel).values()]
    assert line.startswith(f"{good.count('good')} of {len(good)} checks fine")


@pytest.mark.parametrize("verdict", ["better", "unresolved"])
def test_what_the_encoder_adds(make_report, verdict):
    def change(table):
        table.loc[table["reference"] == "control_input", "verdict"] = verdict

    found = checks(edited(make_report, "contrasts", change, encoders=("esm2_650m", "random")))
    state, answer = found["Is it the encoder that helps the best model?"]
    assert state == ("good" if verdict == "better" else "mind")
    words = "gains" if verdict == "better" else "is no better than the same model on Random vectors"
    assert words in answer
    assert words in found["Does the best baseline use its vectors?"][1]


def test_a_metric_that_cannot_discriminate_is_a_problem(make_report):
    def change(table):
        table["discriminates"] = False

    report = edited(make_report, "leaderboard", change)
    state, answer = checks(report)["Can this metric tell good from bad here?"]
    assert state == "bad"
    assert "cannot tell models apart" in answer
    assert "problem: range of the metric" in report.section("vcb_result")["data"]


def test_alt_and_diff_that_are_doubles_are_named(make_report):
    def change(table):
        diff = table["strategy"].eq("diff") & table["encoder"].eq("onehot")
        alt = table[table["strategy"].eq("alt") & table["encoder"].eq("onehot")]
        for column in ("value", "value_imputed"):
            table.loc[diff, column] = alt[column].to_numpy()

    state, answer = checks(edited(make_report, "leaderboard", change))["Is every configuration a different one?"]
    assert state == "mind"
    assert "alt and diff of One-hot residue give the same scores" in answer


def test_shared_proteins_and_chance_are_problems(make_report):
    def change(table):
        table["null_high"] = 0.9

    report = edited(make_report, "leaderboard", change)
    assert checks(report)["Could it be chance?"][0] == "bad"

    def leak(folder: Path) -> None:
        path = folder / "tp53_screen.leakage.tsv"
        path.write_text(re.sub(r"\t0\n", "\t2\n", path.read_text()))

    state, answer = checks(make_report(Run(**ONE), leak))["Has training seen the test?"]
    assert state == "bad"
    assert "6 test proteins also in training" in answer


def test_withheld_scores_have_no_statistics(make_report):
    report = make_report(Run(**ONE, no_ceiling=True))
    assert not report.has(f"{PANEL}_ranks")
    assert not report.has(f"{PANEL}_statistics")
    assert list(checks(report)) == ["Can the scores be judged at all?"]

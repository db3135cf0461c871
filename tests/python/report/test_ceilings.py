"""Sections on ceilings, diagnostics and strata: every statement against the tables they are made from."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from synthetic import HOSTILE, Run

from vcbench.core import catalogue
from vcbench.report import ceilings, diagnostics

ONE = {"datasets": {"tp53_screen": "variant"}, "blocked": (), "failed": (), "splits": ("variant",)}
PLACE = {"dataset": "tp53_screen", "split": "variant"}
METRICS = catalogue.load("metrics")
PRIMARY = {"metric": "dpearson_pm", "gene_set": "expr_nt"}
TRUTH = {"model": "truth", "encoder": "none", "strategy": "none"}


def tables(folder: Path) -> None:
    """Write the three tables: two usable metrics, one of each other status."""
    rows = []
    for i, (metric, genes) in enumerate([("dpearson_pm", "expr_nt"), ("c_acc", "expr_nt"), ("mse", "de20_nt"),
                                         ("ap_de", "expr_nt")]):  # fmt: skip
        status = ("usable", "usable", "low_range", "no_ceiling")[i]
        none = status == "no_ceiling"
        rows.append({**PLACE, "metric": metric, "gene_set": genes, "status": status, "base": "train_mean",
                     "base_value": 0.25, "n_genes_median": 20, "n_genes_min": 7,
                     "tech_duplicate": None if none else 0.71, "full_vs_full": 0.83, "noise_free": 0.91,
                     "interpolated_duplicate": 0.77, "ce2_context_mean": 0.37, "cross_line": 0.44 if i == 0 else None,
                     "cross_line_dataset": HOSTILE if i == 0 else "", "drf": None if none else 0.61 - i,
                     "drf_low": 0.5 - i, "drf_high": 0.7 - i})  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "tables/ceilings.tsv", sep="\t", index=False, quoting=3)

    def row(model, diagnostic, reference, value, low=None, high=None, n=48):
        return {**PLACE, **model, "diagnostic": diagnostic, "reference": reference, "value": value, "low": low,
                "high": high, "n": n}  # fmt: skip

    best = {"model": "sclambda", "encoder": "esm2_650m", "strategy": "alt"}
    board = pd.read_csv(folder / "tables/leaderboard.tsv", sep="\t", quoting=3)
    board = board[(board[["metric", "gene_set", "model"]] == ["dpearson_pm", "expr_nt", "sclambda"]).all(axis=1)]
    best |= board.sort_values("value", ascending=False).iloc[0][["encoder", "strategy"]].to_dict()
    found = [
        row(TRUTH, "diag_sim_to_average", "ctrl", 0.761, 0.65, 0.8), row(TRUTH, "diag_noise_share", "pm", 0.7),
        row(TRUTH, "diag_median_n_de", "ctrl", 18.0, 3.5, 28.25), row(TRUTH, "diag_pathway_ulm", "P53", -7.0),
        row(TRUTH, "diag_pathway_ulm", HOSTILE, 2.0), row(TRUTH, "diag_pathway_shift", "P53", -0.125),
        row(TRUTH, "diag_cells_tau", "dpearson_pm__expr_nt@0.25", 0.35, n=13),
        row(best, "diag_near_train_mean", "", 0.77, 0.63, 0.87), row(best, "diag_pathway_r", "P53", 0.42),
        *(row(best, "diag_cells", f"dpearson_pm__expr_nt@{f}", v) for f, v in (("0.25", 0.11), ("0.5", 0.21),
                                                                               ("1", 0.31))),
    ]  # fmt: skip
    pd.DataFrame(found).to_csv(folder / "tables/diagnostics.tsv", sep="\t", index=False, quoting=3)
    strata = [
        {**PLACE, **best, **PRIMARY, "stratum": "position", "level": level, "value": value, "ci_low": value - 0.1,
         "ci_high": value + 0.1, "n_expected": 24, "ceiling": 0.5}
        for level, value in (("seen", 0.45), ("unseen", 0.15))
    ]  # fmt: skip
    pd.DataFrame(strata).to_csv(folder / "tables/strata.tsv", sep="\t", index=False, quoting=3)


@pytest.fixture(scope="module")
def found(make_report):
    return make_report(Run(**ONE), tables)


def html(report, suffix):
    return report.section(f"tp53_screen_variant_{suffix}")["data"].replace("\u00a0", " ")


def cells(text, row):
    """The cells of the table row that begins with some text."""
    line = next(part for part in text.split("<tr>") if re.sub(r"<[^>]+>", "", part).startswith(row))
    return [re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<td>(.*?)</td>", line, flags=re.S)]


def test_metrics_that_cannot_rank_models_are_named(found):
    text = html(found, "ceilings")
    assert "2 of 4 headline metrics can rank models" in text
    sentence = re.search(r"with care: (.*?)</p>", text).group(1)
    assert "Profile MSE" in sentence and "DE average precision" in sentence and "Centroid" not in sentence
    assert sentence.count(";") == 1  # titles have commas of their own
    usable, low = cells(text, "Delta Pearson vs perturbed mean"), cells(text, "Profile MSE")
    assert usable[1:9] == ["yes", "20 (7)", "0.250 (train mean)", "0.710", "0.830", "0.910", "0.770", "0.370"]
    assert "Mean of the test perturbations (looks at them)" in text
    assert usable[-1].startswith("0.61") and low[-1].startswith("−1.39")
    assert low[1] == ceilings.STATUSES["low_range"]
    assert cells(text, "DE average precision")[4] == "–"
    assert "<script>" not in text and "&lt;script&gt;" in text


def test_a_small_range_of_the_primary_metric_is_something_to_keep_in_mind(make_report, found):
    def low(folder):
        tables(folder)
        path = folder / "tables/ceilings.tsv"
        path.write_text(path.read_text().replace("usable", "low_range").replace("0.61", "0.16"))
        board = folder / "tables/leaderboard.tsv"
        table = pd.read_csv(board, sep="\t", quoting=3)
        table.assign(discriminates=True).to_csv(board, sep="\t", index=False, quoting=3)

    text = make_report(Run(**ONE), low).section("vcb_trust_checks")["data"]
    check = next(part for part in text.split('<div class="vcb-check ') if "tell good from bad here" in part)
    assert check.startswith("vcb-check-mind") and "a replicate covers 16 % of the way" in check
    other = found.section("vcb_trust_checks")["data"]
    assert "a replicate covers" not in other


def test_every_status_of_the_table_has_words():
    from vcbench.stats import ceilings as table

    made = {table.USABLE, table.LOW_RANGE, table.NOT_DISCRIMINATING, table.NO_CEILING, table.NO_BASE,
            table.NO_DIRECTION}  # fmt: skip
    assert made == set(ceilings.STATUSES)


def test_diagnostics_say_what_the_table_says(found):
    text = html(found, "diagnostics")
    assert "cosine 0.761" in text and "70 % of the variance between perturbations is sampling noise" in text
    assert cells(text, "Systematic variation")[2] == "0.76 (0.65 to 0.80)"
    assert cells(text, "Changed genes")[2] == "18 (4 to 28)"
    assert "1 model repeats the train mean for most of them" in text
    assert "the order of 13 configurations agrees with the final one by Kendall's tau 0.35" in text
    fewer = text[text.index("A quarter of the cells") :]
    assert cells(fewer, "scLAMBDA")[1:] == ["0.110", "0.210", "0.310"]
    pathways = text[text.index("t against all other genes") :]
    assert cells(pathways, "P53")[1:] == ["−0.125", "−7.00", "0.42"]
    assert pathways.index("P53") < pathways.index("&lt;script&gt;")  # by size of t
    assert "<script>" not in text


def test_strata_of_the_best_model(found):
    text = html(found, "diagnostics")
    text = text[text.index("By kind of perturbation") :]
    assert cells(text, "Residue in training")[1:5] == ["seen", "24", "0.500", "0.450 (0.350 to 0.550)"]
    assert cells(text, "unseen")[:1] == [""]


def test_without_the_tables_or_with_scores_withheld_there_are_no_such_sections(make_report, report):
    withheld = make_report(Run(**ONE, no_ceiling=True), tables)
    for one in (report, withheld):
        assert not one.has("tp53_screen_variant_ceilings")
        assert not one.has("tp53_screen_variant_diagnostics")


def test_perturbations_with_an_effect_are_a_number_of_all_not_a_share():
    row = {"diagnostic": "diag_n_etest_sig", "reference": "p<0.05", "value": "20", "low": "", "high": "", "n": "24"}
    titles = {row["diagnostic"]: {"title": "Perturbations with a detectable effect", "explain": ""}}
    _, _, body = diagnostics._data([{**row, "model": "truth"}], titles)
    assert "20 of 24" in body and "p &lt; 0.05" in body and "share" not in body

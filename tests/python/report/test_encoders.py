"""The chapter on encoders: what is wrong is said, what is unknown is said, every number is the table's."""

from __future__ import annotations

import json
import re

import pytest
from synthetic import HOSTILE, Run

from vcbench.encoders.qc import cli as qc
from vcbench.encoders.qc import flags as raised
from vcbench.report import encoder_flags, inputs

ENCODERS = ("esm2_650m", "onehot", "physchem", "random", "constant")
DATASETS = ("tp53_screen", "kras_screen")


def quality(dataset: str, encoder: str, strategy: str, **values: object) -> dict[str, object]:
    """Return a row of the quality table without a flag."""
    row = dict.fromkeys(qc.TABLES["quality"], "")
    return row | {
        "dataset": dataset, "encoder": encoder, "strategy": strategy, "n": 60, "dimensions": 1280, "n_duplicates": 0,
        "norm_q05": 9.5, "norm_median": 11.25, "norm_q95": 14.0, "relative_spread": 0.35, "effective_rank": 41.5,
        "effective_rank_max": 59, "pc1_share": 0.22, "not_own_reference": 0.9, "severity_agreement": 0.62,
        "severity_chance": 0.33, "severity_chance_sd": 0.07, "undefined": "domain_agreement: no domain annotated",
    } | values  # fmt: skip


def provenance(encoder: str, **values: object) -> dict[str, object]:
    return dict.fromkeys(qc.TABLES["provenance"], "") | {"encoder": encoder, "noncommercial": "false"} | values


ESM2 = {
    "licence": "MIT", "url": "https://huggingface.co/facebook/esm2", "n_parameters": "652000000",
    "revision": "08e4846e537177426273712802403f7ba8261b6c", "official_size": "true",
    "weights_sha256": json.dumps({"model.safetensors": "ab" * 32}),
    "layer": "33", "after_final_norm": "true", "pooling": "position", "dtype_compute": "float32", "prefix": "<cls>",
    "max_residues": "1022", "n_passes": "61", "device": "cuda",
}  # fmt: skip


def tables(**of_esm2: object) -> dict[str, list[dict[str, object]]]:
    """Return the four tables of the default run; ESM2's quality rows get the given values."""
    pairs = [(d, e, s) for d in DATASETS for e in ENCODERS for s in ("alt", "diff")]
    return {
        "quality": [
            quality(d, e, s, **(of_esm2 if e == "esm2_650m" else {"flags": "constant"} if e == "constant" else {}))
            for d, e, s in pairs
        ],
        "similarity": [
            {"dataset": d, "strategy": s, "encoder_a": a, "encoder_b": b, "n": 60, "estimator": "",
             "cka": "" if "constant" in (a, b) else 0.4321 if (a, b) == ("esm2_650m", "onehot") else 0.01,
             "undefined": "constant: all vectors are the same" if "constant" in (a, b) else ""}
            for d in DATASETS for s in ("alt", "diff") for a in sorted(ENCODERS) for b in sorted(ENCODERS) if a < b
        ],
        "map": [
            {"dataset": d, "encoder": e, "strategy": s, "method": "pca", "perturbation": f"{d[:4].upper()}~R{k + 10}H",
             "x": k / 10, "y": -k / 7, "x_share": 0.31, "y_share": 0.16, "consequence": "synonymous" if k == 5 else
             "missense", "severity": "", "domain": "DBD", "zero_shot_llr": -k / 4 if d == "tp53_screen" else ""}
            for d, e, s in pairs if e != "constant" for k in range(60)
        ],
        "provenance": [provenance("esm2_650m", **ESM2), *(provenance(e, url="") for e in ENCODERS[1:])],
    }  # fmt: skip


@pytest.fixture(scope="module")
def healthy(make_report):
    return make_report(Run(encoder_tables=tables()))


def test_healthy_encoders(healthy) -> None:
    html = healthy.section("vcb_encoders_verdict")["data"]
    assert "No fault found in the vectors of 5 encoders" in html and "vcb-alert" not in html
    assert "Controls are poor on purpose: Constant" in html
    assert "with a fault" not in healthy.section("vcb_result")["data"]


def test_licence_and_weights_are_linked(healthy) -> None:
    html = healthy.section("vcb_encoders_origin")["data"]
    assert '<a href="https://spdx.org/licenses/MIT.html">MIT</a>' in html
    assert 'href="https://huggingface.co/facebook/esm2"' in html and "08e4846e53" in html
    assert "abababababab" in html and "652,000,000 parameters" in html and "published size" in html
    assert "vector of the changed residue; layer 33, after the final norm; float32; prefix &lt;cls&gt;" in html
    assert "61 passes on cuda" in html and "non-commercial" not in html
    assert "One-hot residue, Physico-chemical, Random and Constant are controls" in html


def test_numbers_of_the_table(healthy) -> None:
    html = healthy.section("vcb_encoders_quality")["data"]
    row = re.search(r"<tr><td><b>ESM2 650M</b><br>alt</td>.*?</tr>", html).group().replace("\u00a0", " ")
    for text in ("60 × 1,280", "11.2", "9.50 to 14.0", "35 %", "41.5<br><small>of 59", "22 %", "90 %", "nothing found"):
        assert text in row, text
    assert "<b>62 %</b><br><small>33 ± 7 %" in row  # more than two standard deviations above chance
    assert "Same domain: no domain annotated" in html and "a property of" not in html
    for name in ("Length", "Directions", "Beyond own reference", "Same position, severity, domain"):
        assert f"<dt>{name}</dt>" in html


def test_heat_map_of_cka(healthy) -> None:
    section = healthy.section("vcb_encoders_cka_tp53_screen_alt")
    assert section["xcats"] == section["ycats"] == ["ESM2 650M", "One-hot residue", "Physico-chemical", "Random"]
    assert section["data"][0][:2] == [1.0, 0.4321] and section["data"][1][0] == 0.4321
    assert "Constant: all vectors are the same" in section["description"] and "unbiased" in section["description"]


def test_maps(healthy) -> None:
    section = healthy.section("vcb_encoders_map_tp53_screen_severity")
    labels = [item["name"] for item in section["pconfig"]["data_labels"]]
    assert labels == [
        f"{name}, {s}" for name in ("ESM2 650M", "One-hot residue", "Physico-chemical") for s in ("alt", "diff")
    ]
    assert section["pconfig"]["data_labels"][0]["xlab"] == "First axis (31 % of the variance)"
    (point,) = section["data"][0]["TP53~R17H"]
    assert (point["x"], point["y"]) == (0.7, -1.0) and "intermediate" in point["name"] and "LLR −1.75" in point["name"]
    assert section["data"][0]["TP53~R15H"][0]["marker_symbol"] == "diamond"
    colours = {point["color"] for points in section["data"][0].values() for point in points}
    assert len(colours) == 3
    assert not healthy.has("vcb_encoders_map_tp53_screen_domain")  # one domain only: nothing to colour


def test_llr_by_severity(healthy) -> None:
    html = healthy.section("vcb_encoders_llr_tp53_screen")["data"]
    # severity cycles over the 60 variants k = 0..59 with LLR -k/4: medians at k = 28.5, 29.5, 30.5
    for name, median in (("wild-type-like", "−7.12"), ("intermediate", "−7.38"), ("severe", "−7.62")):
        assert re.search(rf"<td>{name}</td><td>20</td><td><b>{median}</b>", html), name
    assert not healthy.has("vcb_encoders_llr_kras_screen")


def test_faults_stand_on_the_first_screen_and_in_the_chapter(make_report) -> None:
    report = make_report(Run(encoder_tables=tables(flags="zero_vectors;not_published_size;duplicates")))
    html = report.section("vcb_encoders_verdict")["data"]
    alert, rest = html.split("vcb-caveat")
    assert "ESM2 650M: not the published model" in alert and "carries the reference&#x27;s vector" in alert
    assert "ESM2 650M: equal vectors" in rest and "kras_screen: alt and diff; tp53_screen: alt and diff" in rest
    first = report.section("vcb_result")["data"]
    assert (
        "1 encoder with a fault.</b> ESM2 650M: no difference from the reference and not the published model" in first
    )
    assert "Constant" not in alert


def test_every_flag_is_explained() -> None:
    assert set(raised.RULES) == set(encoder_flags.FLAGS)
    for flag in encoder_flags.FLAGS.values():
        assert flag.name and flag.meaning.endswith(".")


def test_report_needs_no_column_that_the_check_does_not_write() -> None:
    assert set(inputs._ENCODER_TABLES) == set(qc.TABLES)
    for name, columns in inputs._ENCODER_TABLES.items():
        assert set(columns) <= set(qc.TABLES[name]), name


def test_without_tables_the_report_says_so(report) -> None:
    assert "The vectors were not checked" in report.section("vcb_encoders_verdict")["data"]
    assert not report.has("vcb_encoders_quality")


def test_run_without_encoders_has_no_chapter(make_report) -> None:
    report = make_report(Run(models=("no_change", "train_mean", "position_mean"), encoders=()))
    assert not report.has("vcb_encoders_verdict")


def test_encoder_without_vectors_is_named(make_report) -> None:
    found = tables()
    found["quality"] = [row for row in found["quality"] if row["encoder"] != "physchem"]
    html = make_report(Run(encoder_tables=found)).section("vcb_encoders_verdict")["data"]
    assert "Physico-chemical has no vectors" in html


def test_licences_caveats_and_hostile_text(make_report) -> None:
    found = tables()
    found["provenance"][0] |= {
        "licence": HOSTILE, "noncommercial": "true", "url": "javascript:alert(1)", "caveat": f"not compared {HOSTILE}",
        "msa": json.dumps({"5e9": {"selection": "no alignment", "depth_used": 1}, "6f0": {"selection": "maxdiv",
                                   "depth_used": 128}}),
        "weights_sha256": json.dumps({f"part-{i}": f"{i}" * 64 for i in range(5)}), "official_size": "",
    }  # fmt: skip
    report = make_report(Run(encoder_tables=found))
    html = report.section("vcb_encoders_origin")["data"]
    assert "ESM2 650M: non-commercial weights." in html and "SHA-256 of 5 files" in html
    assert "alignments of 1 to 128 rows" in html
    assert "<script" not in html and 'href="javascript' not in html
    verdict = report.section("vcb_encoders_verdict")["data"]
    assert "1 of 2 proteins without an alignment" in verdict and "not compared &lt;script" in verdict


def test_many_points_are_thinned_and_counted(make_report, monkeypatch) -> None:
    from vcbench.report import encoder_map

    monkeypatch.setattr(encoder_map, "MOST_POINTS", 20)
    section = make_report(Run(encoder_tables=tables())).section("vcb_encoders_map_tp53_screen_severity")
    assert len(section["data"][0]) == 20 and "20 perturbations of 60 are drawn" in section["description"]

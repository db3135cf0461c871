"""Quality control of encoders: closed forms, constructed data, and files in any order."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vcbench.core import h5ad
from vcbench.core.errors import InputError
from vcbench.core.tables import read_tsv
from vcbench.encoders import derive
from vcbench.encoders.qc import cka, cli, labels, neighbours, norms, rank

RNG = np.random.default_rng(0)


def orthogonal(n: int) -> np.ndarray:
    return np.linalg.qr(RNG.normal(size=(n, n)))[0]


# --- singular values


def test_effective_rank_of_closed_forms() -> None:
    assert rank.effective_rank(np.ones(7)) == pytest.approx(7, abs=1e-12)
    assert rank.effective_rank(np.array([3.0, 0, 0])) == pytest.approx(1, abs=1e-12)
    # two values in the ratio 3:1: exp(-(3/4 ln 3/4 + 1/4 ln 1/4)) = 4 / 3^(3/4)
    assert rank.effective_rank(np.array([6.0, 2.0])) == pytest.approx(4 / 3**0.75, abs=1e-12)
    assert math.isnan(rank.effective_rank(np.empty(0)))


def test_components_are_an_isometric_copy_with_fixed_signs() -> None:
    matrix = RNG.normal(size=(9, 30)) @ np.diag(np.linspace(3, 0.1, 30)) + 100
    parts = rank.decompose(matrix)
    centred = matrix - matrix.mean(axis=0)
    np.testing.assert_allclose(parts.scores @ parts.scores.T, centred @ centred.T, atol=1e-9)
    np.testing.assert_allclose(centred @ parts.axes.T, parts.scores, atol=1e-9)
    assert parts.scores.shape == (9, 8) and parts.shares().sum() == pytest.approx(1)
    assert (parts.scores[np.abs(parts.scores).argmax(axis=0), np.arange(8)] > 0).all()
    np.testing.assert_allclose(rank.decompose(-matrix).singular, parts.singular)


def test_equal_rows_have_no_component_whatever_their_size() -> None:
    for size in (1.0, 1e6, 1e-6):
        assert len(rank.decompose(np.full((50, 20), 0.1 * size)).singular) == 0
    line = np.outer(np.arange(5.0), [1, 2, 2]) + 7
    assert rank.effective_rank(rank.decompose(line).singular) == pytest.approx(1, abs=1e-9)


# --- norms


def test_norms_spread_repeats() -> None:
    matrix = np.array([[3.0, 4.0], [0.0, 0.0], [3.0, 4.0], [-0.0, 0.0]])
    assert norms.quantiles(matrix) == {"min": 0, "q05": 0, "median": 2.5, "q95": 5, "max": 5}
    assert norms.repeats(matrix) == 2 and norms.zeros(matrix) == 2
    # +-1 about 2: mean square 5, spread 1
    assert norms.relative_spread(np.array([[1.0], [3.0]])) == pytest.approx(math.sqrt(1 / 5))
    assert math.isnan(norms.relative_spread(np.zeros((3, 2))))


# --- CKA


def test_cka_of_a_matrix_and_its_copies_is_one() -> None:
    matrix = RNG.normal(size=(20, 6)) * [5, 1, 1, 1, 0.1, 0.1]
    for copy in (matrix, matrix @ orthogonal(6), -3.5 * matrix, matrix + 1000, np.hstack([matrix, np.zeros((20, 9))])):
        assert cka.cka(matrix, copy) == pytest.approx(1, abs=1e-9)
        assert cka.cka(copy, matrix) == pytest.approx(cka.cka(matrix, copy), abs=1e-12)


def test_cka_of_independent_vectors_is_zero_on_average_at_any_width() -> None:
    """The biased estimate of these matrices is about 0.9: width 400 and 30 rows."""
    values = [cka.cka(RNG.normal(size=(30, 400)), RNG.normal(size=(30, 400))) for _ in range(60)]
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(60) and np.std(values) < 0.15
    assert min(values) < 0


def test_hsic_is_the_mean_over_four_different_rows() -> None:
    """Song et al. 2012: HSIC_1 is the U-statistic with kernel of order four."""
    x, y = RNG.normal(size=(7, 3)), RNG.normal(size=(7, 2))
    k, l = x @ x.T, y @ y.T  # noqa: E741
    terms = [k[i, j] * (l[i, j] + l[q, r] - 2 * l[i, q]) for i, j, q, r in itertools.permutations(range(7), 4)]
    assert cka.hsic(x, y) == pytest.approx(np.mean(terms), abs=1e-12)


def test_cka_is_undefined_without_differences() -> None:
    matrix = RNG.normal(size=(8, 3))
    assert math.isnan(cka.cka(matrix, np.full((8, 3), 0.1)))
    assert math.isnan(cka.cka(matrix, np.eye(8)))  # a simplex: every pair is equally far apart
    assert math.isnan(cka.cka(matrix[:3], matrix[:3]))


# --- neighbours


def test_nearest_neighbours_on_a_line_and_with_ties() -> None:
    graph = neighbours.nearest(np.array([[0.0], [1.0], [3.0], [3.5]]) + 1e4)
    assert list(zip(graph.row, graph.neighbour, graph.weight, strict=True)) == [
        (0, 1, 1.0), (1, 0, 1.0), (2, 3, 1.0), (3, 2, 1.0),
    ]  # fmt: skip
    tied = neighbours.nearest(np.array([[0.0], [1.0], [2.0]]))
    assert list(tied.weight[tied.row == 1]) == [0.5, 0.5]


def test_agreement_of_pairs_and_its_bounds() -> None:
    points = np.repeat(np.arange(6.0) * 10, 2)[:, None] + np.tile([0.0, 1.0], 6)[:, None]
    graph = neighbours.nearest(points)
    pairs = [f"p{i // 2}" for i in range(12)]
    found = neighbours.agreement(graph, pairs)
    assert found.share == 1 and found.possible == 1 and found.chance == pytest.approx(1 / 11)
    crossed = neighbours.agreement(graph, ["ab"[i % 2] for i in range(12)])
    assert crossed.share == 0 and crossed.chance == pytest.approx(5 / 11)
    alone = neighbours.agreement(graph, [*pairs[:2], *(f"single {i}" for i in range(10))])
    assert alone.possible == pytest.approx(2 / 12) == alone.share


@pytest.mark.parametrize("kind", ["distinct", "ties", "all equal"])
def test_chance_is_that_of_all_permutations_of_the_labels(kind: str) -> None:
    matrix = {"distinct": RNG.normal(size=(6, 2)), "ties": np.array([[0.0], [0], [0], [1], [1], [5]]),
              "all equal": np.ones((6, 2))}[kind]  # fmt: skip
    graph = neighbours.nearest(matrix)
    names = ["a", "a", "a", "b", "b", "c"]
    shares = [neighbours.agreement(graph, order).share for order in itertools.permutations(names)]
    found = neighbours.agreement(graph, names)
    assert found.chance == pytest.approx(np.mean(shares), abs=1e-12)
    assert found.chance_sd == pytest.approx(np.std(shares), abs=1e-9)


def test_neighbours_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = np.round(RNG.normal(size=(40, 2)), 1)
    whole = neighbours.nearest(matrix)
    monkeypatch.setattr(neighbours, "BLOCK", 7)
    parts = neighbours.nearest(matrix)
    for name in ("row", "neighbour", "weight"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


def test_own_reference() -> None:
    """Variants beside their own REF, beside another variant, and beside the REF of another residue."""
    ref = np.array([[0.0], [0.0], [0.0], [100.0]])
    alt = np.array([[1.0], [20.0], [21.0], [-0.5]])
    own = neighbours.nearest_is_own_reference(alt, ref, ["p1", "p1", "p1", "p2"])
    assert own.tolist() == [True, False, False, False]
    assert neighbours.nearest_is_own_reference(alt, alt + 0.1, list("abcd")).all()
    tie = neighbours.nearest_is_own_reference(np.array([[1.0], [2.0]]), np.array([[0.0], [3.0]]), ["a", "b"])
    assert not tie.any()


def test_classes_of_severity() -> None:
    assert labels.classes(["mild", "", "severe"]) == ["mild", "", "severe"]
    assert labels.classes([str(i) for i in range(9)]) == ["low"] * 3 + ["middle"] * 3 + ["high"] * 3
    assert labels.classes(["0"] * 3 + [str(i) for i in range(1, 8)])[:3] == ["low"] * 3  # equal numbers, one class
    assert labels.classes(["1", "2", "3", ""]) == ["1", "2", "3", ""]


# --- files


def rows_of(names: list[str]) -> list[dict[str, str]]:
    """Return rows of perturbations.tsv of names such as `R5H`; `=` as mutant is synonymous, WT the wild type."""
    rows = []
    for i, name in enumerate(names):
        wild = name == "WT"
        ref, pos, alt = ("", "", "") if wild else (name[0], name[1:-1], name[-1])
        rows.append({
            "perturbation": f"TP53~{name}", "labels": name, "gene": "TP53", "sequence_sha256": "5e9",
            "sequence_length": "393", "hgvs_p": name, "consequence": "wt" if wild else "synonymous" if alt == "=" else
            "missense", "ref": ref, "pos": pos, "alt": alt, "n_cells": "50", "status": "identical_to_ref" if wild or
            alt == "=" else "encoded", "severity": "" if wild else ("mild", "severe")[i % 2], "domain": "DBD",
        })  # fmt: skip
    return rows


NAMES = ["WT", "R5=", *(f"{'ACDEFGHIKL'[p]}{p + 10}{m}" for p in range(10) for m in "RWY")]


def write(folder: Path, alt: dict[str, np.ndarray], ref: dict[str, np.ndarray], strategies=("alt", "diff"), **facts):
    """Write the perturbation table, and encodings with the project's own DERIVE."""
    rows = rows_of(list(alt))
    width = len(next(iter(alt.values())))
    facts = {"encoder_id": "esm2_650m", "licence": "MIT", "n_passes": 31, "sequence_sha256": ["5e9"]} | facts
    stack = [np.array([each[name] for name in alt], dtype=np.float32) for each in (ref, alt)]
    columns = tuple(f"dim_{i}" for i in range(width))
    vectors = derive.Vectors(facts["encoder_id"], *stack, columns, {}, facts, np.zeros(width, np.float32))
    data = derive.Dataset("tp53", tuple(rows), tuple(alt))
    folder.mkdir(parents=True, exist_ok=True)
    derive.write_all(data, vectors, strategies, folder)
    table = folder / "tp53.perturbations.tsv"
    pd.DataFrame(rows).to_csv(table, sep="\t", index=False)
    return table


def drawn(width: int = 12, seed: int = 1) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return ALT and REF as a network gives them: wild type zero, synonymous ALT = REF, one REF per residue."""
    rng = np.random.default_rng(seed)
    of_residue = {name[1:-1]: rng.normal(size=width) for name in NAMES[1:]}
    ref = {name: of_residue.get(name[1:-1], np.zeros(width)) for name in NAMES}
    alt = {
        name: ref[name] if name == "WT" or name.endswith("=") else ref[name] + rng.normal(size=width) for name in NAMES
    }
    return alt, ref


def run(folder: Path, table: Path) -> dict[str, list[dict[str, str]]]:
    out = folder / "qc"
    paths = sorted(map(str, folder.glob("*.h5ad")))
    cli.main(["--encodings", *paths, "--perturbations", str(table), "--out-dir", str(out)])
    return {name: read_tsv(out / f"encoder_{name}.tsv") for name in cli.TABLES}


def test_tables_of_a_healthy_encoder(tmp_path: Path) -> None:
    alt, ref = drawn()
    found = run(
        tmp_path, write(tmp_path, alt, ref, official_size=True, weights_sha256={"model.safetensors": "ab" * 32})
    )
    of_alt, of_diff = found["quality"]
    assert (of_alt["n"], of_alt["n_synonymous"], of_alt["n_wild_type"], of_alt["dimensions"]) == ("30", "1", "1", "12")
    assert of_alt["flags"] == of_diff["flags"] == "" and of_diff["synonymous_diff_zero"] == "true"
    matrix = np.array([alt[name] for name in NAMES[2:]])
    assert float(of_alt["norm_median"]) == pytest.approx(np.median(np.linalg.norm(matrix, axis=1)), rel=1e-5)
    values = np.linalg.svd(matrix - matrix.mean(axis=0), compute_uv=False)
    share = values / values.sum()
    assert float(of_alt["effective_rank"]) == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-5)
    assert float(of_alt["pc1_share"]) == pytest.approx(values[0] ** 2 / (values**2).sum(), rel=1e-5)
    assert 0 < float(of_alt["not_own_reference"]) < 1 and of_alt["own_reference_n"] == "30"
    # vectors of a residue share its REF, so that neighbours share the position; severity is arbitrary here
    assert float(of_alt["position_agreement"]) > float(of_alt["position_chance"]) + 3 * float(
        of_alt["position_chance_sd"]
    )
    assert (
        of_alt["domain_agreement"] == ""
        and "domain_agreement: all perturbations have the same domain" in of_alt["undefined"]
    )
    assert [row["perturbation"] for row in found["map"] if row["strategy"] == "alt"] == sorted(
        f"TP53~{name}" for name in NAMES if name != "WT"
    )
    (provenance,) = found["provenance"]
    assert provenance["licence"] == "MIT" and provenance["official_size"] == "true" and provenance["n_sequences"] == "1"
    assert "ab" * 32 in provenance["weights_sha256"]


def test_a_synonymous_variant_lies_where_no_change_is(tmp_path: Path) -> None:
    """In the map of DIFF it is the origin of the vectors, not of the map."""
    alt, ref = drawn()
    found = run(tmp_path, write(tmp_path, alt, ref))
    diff = np.array([ref[name] - alt[name] for name in NAMES[2:]])
    parts = rank.decompose(diff[np.argsort(NAMES[2:])])
    row = next(row for row in found["map"] if row["perturbation"] == "TP53~R5=" and row["strategy"] == "diff")
    expected = (np.zeros(12) - parts.mean) @ parts.axes[:2].T
    assert [float(row["x"]), float(row["y"])] == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    ("fault", "strategy", "flag"),
    [
        ("wild type under a variant's name", "diff", "zero_vectors"),
        ("the same vector for all", "alt", "constant"),
        ("one vector twice", "alt", "duplicates"),
        ("a speck of difference", "alt", "nearly_constant"),
        ("two directions", "alt", "low_rank"),
        ("beside REF", "alt", "always_own_reference"),
        ("another size", "alt", "not_published_size"),
        ("not finite", "alt", "not_finite"),
    ],
)
def test_each_fault_raises_its_flag_and_no_other(tmp_path: Path, fault: str, strategy: str, flag: str) -> None:
    alt, ref = drawn()
    changed, rng, facts = NAMES[2:], np.random.default_rng(5), {}
    if fault == "wild type under a variant's name":
        alt[changed[3]] = ref[changed[3]]
    elif fault == "the same vector for all":
        alt |= dict.fromkeys(changed, np.ones(12))
    elif fault == "one vector twice":
        alt[changed[0]] = alt[changed[7]]
    elif fault == "a speck of difference":
        alt |= {name: 5 + 0.01 * rng.normal(size=12) for name in changed}
    elif fault == "two directions":
        plane = rng.normal(size=(2, 12))
        alt |= {name: rng.normal(size=2) @ plane for name in changed}
    elif fault == "beside REF":
        ref |= {name: 10 * ref[name] for name in NAMES}
        alt |= {name: ref[name] + 0.1 * rng.normal(size=12) * k for k, name in enumerate(changed, start=10)}
        for k, name in enumerate(changed):  # different directions, so that siblings are further away than REF
            alt[name] = ref[name] + np.eye(12)[k % 12]
    elif fault == "another size":
        facts = {"official_size": False}
    elif fault == "not finite":
        alt[changed[0]] = np.full(12, np.nan)
    if "R5=" in alt:
        alt["R5="] = ref["R5="]
    found = run(tmp_path, write(tmp_path, alt, ref, **facts))
    row = next(row for row in found["quality"] if row["strategy"] == strategy)
    assert row["flags"] == flag
    if fault == "not finite":
        assert row["norm_median"] == "" and "norm_median: values that are not finite" in row["undefined"]
        assert not found["map"]
    if fault == "the same vector for all":
        assert "effective_rank: all vectors are the same" in row["undefined"]


def test_synonymous_diff_is_checked_unless_the_encoder_has_no_reference(tmp_path: Path) -> None:
    alt, ref = drawn()
    write(tmp_path, alt, ref, ("diff",))
    path = tmp_path / "tp53.esm2_650m.diff.h5ad"
    adata = h5ad.read(path)
    values = adata.X.copy()
    values[list(adata.obs_names).index("TP53~R5=")] = 0.5
    adata.X = values
    h5ad.write(adata, path, h5ad.provenance(adata))
    (row,) = run(tmp_path, tmp_path / "tp53.perturbations.tsv")["quality"]
    assert row["flags"] == "synonymous_diff_not_zero" and row["synonymous_diff_zero"] == "false"
    none = {name: np.zeros(12) for name in NAMES}
    other = tmp_path / "other"
    found = run(other, write(other, alt, none, encoder_id="random", n_passes=0))
    assert [row["flags"] for row in found["quality"]] == ["", ""]
    assert "the encoder has no reference vectors" in found["quality"][1]["undefined"]


def test_tables_do_not_depend_on_order(tmp_path: Path) -> None:
    alt, ref = drawn()
    table = write(tmp_path / "a", alt, ref)
    write(tmp_path / "a", *drawn(5, seed=2), encoder_id="physchem")
    (tmp_path / "b").mkdir()
    for path in (tmp_path / "a").glob("*.h5ad"):
        adata = h5ad.read(path)
        mixed = adata[np.random.default_rng(3).permutation(adata.n_obs)].copy()
        h5ad.write(mixed, tmp_path / "b" / path.name, h5ad.provenance(adata))
    run(tmp_path / "a", table)
    paths = sorted(map(str, (tmp_path / "b").glob("*.h5ad")), reverse=True)
    cli.main(["--encodings", *paths, "--perturbations", str(table), "--out-dir", str(tmp_path / "b" / "qc")])
    for name in cli.TABLES:
        one, two = ((tmp_path / each / "qc" / f"encoder_{name}.tsv").read_bytes() for each in "ab")
        assert one == two and one.count(b"\n") > 1, name


def test_similarity_of_encoders(tmp_path: Path) -> None:
    alt, ref = drawn()
    turned = orthogonal(12)
    table = write(tmp_path, alt, ref)
    write(
        tmp_path, {n: v @ turned for n, v in alt.items()}, {n: v @ turned for n, v in ref.items()}, encoder_id="zturned"
    )
    write(tmp_path, {n: np.ones(3) for n in alt}, {n: np.zeros(3) for n in alt}, encoder_id="constant", n_passes=0)
    found = {(r["strategy"], r["encoder_a"], r["encoder_b"]): r for r in run(tmp_path, table)["similarity"]}
    assert len(found) == 6
    for strategy in ("alt", "diff"):
        assert float(found[strategy, "esm2_650m", "zturned"]["cka"]) == pytest.approx(1, abs=1e-5)
        blank = found[strategy, "constant", "esm2_650m"]
        assert blank["cka"] == "" and blank["undefined"] == "constant: all vectors are the same"


def test_strategy_ref_has_one_row_per_residue(tmp_path: Path) -> None:
    found = run(tmp_path, write(tmp_path, *drawn(), strategies=("alt", "ref")))
    of_alt, of_ref = found["quality"]
    assert of_ref["n"] == "10" and of_ref["n_duplicates"] == "0" and of_ref["flags"] == ""
    assert of_alt["own_reference_n"] == "30" and {row["strategy"] for row in found["map"]} == {"alt"}


def test_pooled_variants_of_a_protein_share_one_reference(tmp_path: Path) -> None:
    """Pooling mean: REF is of the protein, not of the residue; ALT vectors around it in all directions."""
    wild = np.full(12, 7.0)
    alt = {name: wild if name.endswith(("=", "WT")) else wild + np.eye(12)[k % 12] * (1 + k / 90) * (-1) ** (k // 12)
           for k, name in enumerate(NAMES)}  # fmt: skip
    found = run(tmp_path, write(tmp_path, alt, dict.fromkeys(NAMES, wild), ("alt", "ref"), pooling="mean"))
    of_alt, of_ref = found["quality"]
    assert of_ref["n"] == "1" and of_ref["flags"] == ""
    assert 0 < float(of_alt["not_own_reference"]) < 0.7 and of_alt["own_reference_n"] == "30"


def test_scores_stand_in_the_map(tmp_path: Path) -> None:
    table = write(tmp_path, *drawn())
    score = {name: np.array([float(k)]) for k, name in enumerate(NAMES)}
    write(tmp_path, score, {name: np.zeros(1) for name in NAMES}, encoder_id=cli.SCORE_ENCODER, n_passes=0)
    found = run(tmp_path, table)
    values = {row["perturbation"]: row["zero_shot_llr"] for row in found["map"] if row["encoder"] == "esm2_650m"}
    assert values == {f"TP53~{name}": str(float(k)) for k, name in enumerate(NAMES) if name != "WT"}
    of_score = next(row for row in found["quality"] if row["encoder"] == cli.SCORE_ENCODER)
    assert of_score["flags"] == "" and of_score["effective_rank"] == "1.0"  # one column cannot have more


def test_the_shuffled_control_is_checked_as_what_it_holds(tmp_path: Path) -> None:
    """A variant that was dealt a synonymous variant's vector is no fault; its neighbours say nothing about position."""
    alt, ref = drawn()
    table = write(tmp_path, alt, ref)
    data = derive.read_dataset(table)
    stack = [np.array([each[row["labels"]] for row in data.rows], dtype=np.float32) for each in (ref, alt)]
    facts = {"encoder_id": "esm2_650m", "n_passes": 31}
    vectors = derive.Vectors("esm2_650m", *stack, tuple(f"dim_{i}" for i in range(12)), {}, facts, np.zeros(12))
    dealt, owners = derive.shuffle(data, vectors, seed=0)
    derive.write_all(data, dealt, ("alt", "diff"), tmp_path, owners)
    quality = {(row["encoder"], row["strategy"]): row for row in run(tmp_path, table)["quality"]}
    for strategy in ("alt", "diff"):
        own, other = quality["esm2_650m", strategy], quality["shuffled", strategy]
        for column in ("n", "n_synonymous", "flags", "effective_rank", "not_own_reference", "synonymous_diff_zero"):
            assert own[column] == other[column], column
        distance = float(other["position_agreement"]) - float(other["position_chance"])
        assert abs(distance) < 4 * float(other["position_chance_sd"])


def test_gene_data(tmp_path: Path) -> None:
    names = [f"GENE{i}" for i in range(12)]
    rows = [
        {"perturbation": name, "gene": name, "sequence_sha256": "", "hgvs_p": "", "consequence": "gene", "ref": "",
         "pos": "", "alt": "", "status": "encoded", "n_cells": "30"} for name in names
    ]  # fmt: skip
    alt = np.eye(12, dtype=np.float32)
    facts = {"encoder_id": "onehot", "n_passes": 0}
    vectors = derive.Vectors("onehot", np.zeros_like(alt), alt, tuple(names), {}, facts, np.zeros(12))
    derive.write_all(derive.Dataset("norman", tuple(rows), tuple(names)), vectors, ("alt", "diff"), tmp_path)
    table = tmp_path / "norman.perturbations.tsv"
    pd.DataFrame(rows).to_csv(table, sep="\t", index=False)
    found = run(tmp_path, table)
    for row in found["quality"]:
        assert row["flags"] == "" and row["n"] == "12"
        assert float(row["effective_rank"]) == pytest.approx(11, abs=1e-4)  # a centred identity has 11 equal values
        assert "gene perturbations have no position" in row["undefined"] and "no severity annotated" in row["undefined"]


def test_wrong_input(tmp_path: Path) -> None:
    table = write(tmp_path, *drawn())
    frame = pd.read_csv(table, sep="\t", dtype=str, keep_default_na=False)
    frame[frame["perturbation"] != "TP53~A10R"].to_csv(table, sep="\t", index=False)
    with pytest.raises(InputError, match=r"1 perturbations are not in the table of tp53.*A10R"):
        run(tmp_path, table)
    (tmp_path / "odd.h5ad").touch()
    with pytest.raises(InputError, match="not the name of an encoding"):
        run(tmp_path, table)

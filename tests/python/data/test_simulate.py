"""The simulated screen: library, truth, counts and files against the numbers of the data spec (sections 6 and 7)."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import spearmanr

from vcbench.core.errors import InputError
from vcbench.core.h5ad import provenance, read
from vcbench.core.tables import read_tsv
from vcbench.data import simulate_counts as counts
from vcbench.data import simulate_design as design
from vcbench.data.simulate import Options, main, simulate
from vcbench.data.simulate_genes import CYCLE_GENES, P53_TARGETS, build_transcriptome
from vcbench.data.simulate_library import LibraryVariant, read_fasta, read_library, subset


@pytest.fixture(scope="module")
def library(project_assets: Path):
    return read_library(project_assets)


@pytest.fixture(scope="module")
def project_assets() -> Path:
    return Path(__file__).resolve().parents[3] / "assets"


def digest(matrix: sp.csr_matrix) -> str:
    """SHA-256 over the three arrays of a CSR matrix."""
    parts = (matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64), matrix.data)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


# --- library -----------------------------------------------------------------------------------------------------


def test_library_has_the_composition_of_the_screen(library) -> None:
    assert Counter(v.kind for v in library) == {"synonymous": 14, "wild_type": 1, "exac": 10, "tumour": 74}
    assert Counter(v.impact for v in library) == {"WT-like": 26, "Impactful I": 13, "Impactful II": 60}
    missense = [v for v in library if not v.is_control]
    assert len({v.position for v in missense}) == 59
    assert Counter(Counter(v.position for v in missense).values()) == {1: 39, 2: 16, 3: 3, 4: 1}
    assert Counter(v.cells_low for v in library) == {
        300: 2, 400: 4, 500: 8, 600: 10, 700: 11, 800: 8, 900: 12, 1000: 44,
    }  # fmt: skip


def test_labels_agree_with_the_protein(library, project_assets) -> None:
    header, *lines = read_fasta(project_assets).splitlines()
    protein = "".join(lines)
    assert header == ">TP53|P04637|R72"
    assert len(protein) == 393 and protein[71] == "R"
    for variant in library:
        if variant.position:
            assert protein[variant.position - 1] == variant.label[0], variant.label


def test_asset_equals_the_real_table(library, shared_data) -> None:
    with open(shared_data / "tp53" / "ursu2022_tp53_variant_table.csv") as handle:
        real = {row["variant"]: row for row in csv.DictReader(handle)}
    assert {v.label for v in library} == set(real) - {"unassigned"}
    for variant in library:
        row = real[variant.label]
        assert float(row["cells_low"]) == variant.cells_low
        for value, column in (
            (variant.d2, "mahalanobis_d2_20pc"),
            (variant.alphamissense, "alphamissense"),
            (variant.dominant_negative, "giac_wt_nutlin"),
        ):
            assert (row[column] == "") == bool(np.isnan(value)), (variant.label, column)
            if row[column]:
                assert value == pytest.approx(float(row[column]), abs=0.051), (variant.label, column)


def test_protein_equals_the_bundled_reference(project_assets, shared_data) -> None:
    record = (shared_data / "tp53" / "reference_proteins.fasta").read_text().split(">P53_HUMAN_R72")[1].split(">")[0]
    assert "".join(read_fasta(project_assets).split("\n")[1:]) == "".join(record.split("\n")[1:])


@pytest.mark.parametrize("n_variants", [3, 6, 12, 40])
def test_subset_keeps_controls_and_every_class(library, n_variants) -> None:
    chosen = subset(library, n_variants)
    missense = [v for v in chosen if not v.is_control]
    assert len(missense) == n_variants and len(chosen) == n_variants + 15
    if n_variants >= 6:
        assert {v.impact for v in missense} == {"WT-like", "Impactful I", "Impactful II"}


# --- truth -------------------------------------------------------------------------------------------------------


def test_each_class_has_the_distances_of_the_real_screen(library) -> None:
    severity = design.severities(library, seed=5)
    distance = {v.label: 0.65 * s**2 for v, s in zip(library, severity, strict=True)}

    def of(impact: str) -> list[float]:
        return [distance[v.label] for v in library if v.impact == impact]

    # Medians of 7.2 (class I: .36 without `unassigned`); the spread is a little narrower than that of noisy estimates.
    assert np.median(of("Impactful II")) == pytest.approx(0.65, abs=0.01)
    assert np.median(of("Impactful I")) == pytest.approx(0.36, abs=0.01)
    for impact, low, high in (("Impactful II", 0.57, 0.75), ("Impactful I", 0.30, 0.47)):
        quartiles = np.quantile(of(impact), [0.25, 0.75])
        assert low < quartiles[0] < quartiles[1] < high
    assert distance["R337C"] == pytest.approx(0.12)
    assert max(distance[v.label] for v in library if v.is_control) <= 0.65 * 0.05**2


def test_sampling_noise_is_taken_off_the_measured_distances() -> None:
    """Distances measured by drawing T2 from a non-central chi-squared get the spread of the true ones back."""
    rng = np.random.default_rng(0)
    cells = 950
    effective = cells * 800 / (cells + 800)
    true = rng.normal(0.65, 0.10, 4000)
    measured = (rng.noncentral_chisquare(20, effective * true) - 20) / effective
    members = [
        LibraryVariant("R175H", 175, "tumour", "Impactful II", cells - 50, value, 0.9, 1.0, 0.0) for value in measured
    ]
    assert np.std(measured) > 0.115
    assert np.std(design.denoised(members)) == pytest.approx(0.10, abs=0.006)
    assert np.mean(design.denoised(members)) == pytest.approx(0.65, abs=0.01)


def test_severity_follows_dominant_negative_scores_in_part(library) -> None:
    missense = [i for i, v in enumerate(library) if not v.is_control]
    impactful = np.array([library[i].impact != "WT-like" for i in missense])
    scores = np.array([[library[i].dominant_negative, library[i].alphamissense] for i in missense])
    overall, within = [], []
    for seed in range(10):
        severity = design.severities(library, seed)[missense]
        overall.append([spearmanr(severity, column).statistic for column in scores.T])
        within.append([spearmanr(severity[impactful], column).statistic for column in scores[impactful].T])
    # Real screen: .53 and .53 over all, .47 and .47 within the impactful ones.
    assert np.mean(overall, 0) == pytest.approx([0.53, 0.53], abs=0.12)
    assert np.mean(within, 0) == pytest.approx([0.47, 0.47], abs=0.15)


def test_protein_features_explain_a_trait_in_part(library) -> None:
    """Variants of one position are alike; a linear fit on substitution features explains some of the variance."""
    missense = [v for v in library if not v.is_control]
    position = np.array([v.position for v in missense])
    same = np.argwhere((position[:, None] == position) & (np.arange(84)[:, None] < np.arange(84)))
    pairs, explained = [], []
    features = np.array([design.substitution(v.label) for v in missense])
    features = np.column_stack([np.ones(84), features])
    for seed in range(20):
        trait = design.trait(missense, seed, "any")
        assert trait.mean() == pytest.approx(0, abs=1e-12) and trait.std() == pytest.approx(1)
        pairs += [trait[a] * trait[b] for a, b in same]
        explained.append(1 - np.var(trait - features @ np.linalg.lstsq(features, trait, rcond=None)[0]))
    assert 0.25 < np.mean(pairs) < 0.75
    assert 0.2 < np.mean(explained) < 0.7  # 5 regressors on 84 points explain .05 of pure noise


def test_null_and_severity_scale_the_truth(library) -> None:
    genes = build_transcriptome(500, seed=1)
    full = design.build_design(library, genes, seed=1)
    half = design.build_design(library, genes, seed=1, severity=0.5)
    none = design.build_design(library, genes, seed=1, null=True)
    np.testing.assert_allclose(half.factor_shift, full.factor_shift / 2)
    others = np.arange(500) != genes.transgene
    np.testing.assert_allclose(np.log(half.gene_fold[:, others]), np.log(full.gene_fold[:, others]) / 2, atol=1e-12)
    np.testing.assert_array_equal(half.gene_fold[:, genes.transgene], full.gene_fold[:, genes.transgene])
    assert not none.factor_shift.any() and (none.gene_fold == 1).all() and not none.severity.any()


def test_transgene_levels_are_those_published(library) -> None:
    fold = {v.label: np.exp(design.transgene_log_fold(v, seed=0)) for v in library}
    assert fold["WT"] == 1
    assert fold["M237I"] == pytest.approx((1 + 4 * 2**-0.69) / 5)
    assert fold["P47P"] == pytest.approx((1 + 4 * 2**0.28) / 5)


def test_cell_numbers_follow_the_table(library) -> None:
    cells = dict(zip([v.label for v in library], design.cells_per_label(library, 0, 950), strict=True))
    for variant in library:
        low, high = (variant.cells_low, variant.cells_low + 100) if variant.cells_low < 1000 else (1000, 2100)
        assert low <= cells[variant.label] <= high
    assert 900 <= np.median(list(cells.values())) <= 1000
    assert set(design.cells_per_label(library, 0, 40, fixed=True)) == {40}
    controlled = design.cells_per_label(library, 0, 40, fixed=True, n_control=1001)
    assert controlled[[v.is_control for v in library]].sum() == 1001


# --- counts ------------------------------------------------------------------------------------------------------


def test_named_genes_are_there_and_abundance_adds_up() -> None:
    small, large = build_transcriptome(200, 0), build_transcriptome(14_000, 0)
    for genes in (small, large):
        assert {"TP53", "CDKN1A", "MDM2", "CCNB1", *P53_TARGETS, *CYCLE_GENES} <= set(genes.symbols)
        assert len(set(genes.symbols)) == len(genes.symbols) == genes.abundance.size
    assert large.abundance.sum() == pytest.approx(1, abs=0.05)
    with pytest.raises(InputError, match="--n-genes: number of genes out of range"):
        build_transcriptome(100, 0)


def test_same_seed_gives_identical_counts_and_another_seed_does_not() -> None:
    options = {"cells_per_variant": 8, "n_genes": 300, "variants": 6}
    first, again, other = (simulate(Options(seed=seed, **options)) for seed in (3, 3, 4))
    assert digest(first.counts) == digest(again.counts) != digest(other.counts)
    assert first.counts.dtype == np.int32 and first.counts.data.min() >= 1
    assert list(first.labels) == list(again.labels)


def test_cells_of_a_variant_depend_on_nothing_else(monkeypatch) -> None:
    common = {"seed": 3, "n_genes": 300, "fixed_cells": True}
    small = simulate(Options(cells_per_variant=6, variants=5, **common))
    large = simulate(Options(cells_per_variant=10, n_control_cells=45, **common))
    monkeypatch.setattr(counts, "BLOCK_ENTRIES", 900)  # blocks of three cells
    blocks = simulate(Options(cells_per_variant=6, variants=5, **common))
    assert digest(blocks.counts) == digest(small.counts)
    for label in small.simulated:
        mine, theirs = small.counts[small.labels == label], large.counts[large.labels == label]
        shared = min(mine.shape[0], theirs.shape[0])
        assert shared >= 3
        assert (mine[:shared] != theirs[:shared]).nnz == 0, label


@pytest.fixture(scope="module")
def plain():
    """A screen without effects: 6,000 control cells of 1,000 genes."""
    return simulate(Options(seed=2, n_genes=1000, null=True, variants=1, cells_per_variant=60, n_control_cells=6000))


def test_depth_zeros_and_doublets(plain) -> None:
    total = np.asarray(plain.counts.sum(1)).ravel()
    genes = build_transcriptome(1000, 2)
    single = total[~plain.doublet]
    assert np.median(single) == pytest.approx(18_600 * genes.abundance.sum(), rel=0.12)  # batches: up to 15 %
    within = [np.log(single[plain.batch[~plain.doublet] == batch]).std() for batch in range(4)]
    assert np.mean(within) == pytest.approx(0.27, abs=0.03)
    assert plain.doublet.mean() == pytest.approx(0.057, abs=0.01)
    assert np.median(total[plain.doublet]) / np.median(single) == pytest.approx(2, abs=0.15)
    assert 1 - plain.counts.nnz / np.prod(plain.counts.shape) == pytest.approx(0.72, abs=0.04)


def test_batches_differ_in_depth_and_genes() -> None:
    genes = build_transcriptome(2000, 0)
    batches = counts.build_batches(genes, 32, seed=0)
    assert 0.85 <= batches.depth.min() < 0.92 and 1.08 < batches.depth.max() <= 1.15
    shifts = np.log(batches.profile / genes.abundance).std(1)
    assert 0.045 < shifts.min() < shifts.max() < 0.105
    np.testing.assert_array_equal(counts.build_batches(genes, 3, seed=0).profile, batches.profile[:3])


def test_counts_are_negative_binomial_with_phi_02(plain) -> None:
    """Moments of genes outside the programs: Var = mu + phi mu^2 with mu = share of the cell's total, per batch."""
    genes = build_transcriptome(1000, 2)
    quiet = np.setdiff1d(np.flatnonzero(genes.abundance * 18_600 > 1), genes.responsive)
    # The most abundant genes move the total themselves.
    quiet = quiet[(genes.abundance[quiet] / genes.abundance.sum() < 0.01) & (quiet != genes.transgene)]
    assert quiet.size > 40
    phi = []
    for batch in range(4):
        rows = (plain.batch == batch) & ~plain.doublet
        matrix = plain.counts[rows].toarray()[:, quiet].astype(np.float64)
        total = np.asarray(plain.counts[rows].sum(1)).ravel()
        mean = total[:, None] * (matrix.sum(0) / total.sum())
        phi.append((((matrix - mean) ** 2 - matrix).sum(0)) / (mean**2).sum(0))
    assert np.median(phi) == pytest.approx(0.2, abs=0.03)


def test_transgene_differs_between_variants_and_so_must_be_masked() -> None:
    screen = simulate(
        Options(seed=0, n_genes=300, fixed_cells=True, cells_per_variant=400, n_control_cells=6000, variants=84)
    )
    transgene = screen.genes.index("TP53")
    share = {
        label: screen.counts[screen.labels == label][:, transgene].sum() / screen.counts[screen.labels == label].sum()
        for label in ("WT", "M237I", "E339K", "Y236C")
    }
    for label, log2_fold in (("M237I", -0.69), ("Y236C", -0.60), ("E339K", 0.22)):
        expected = (1 + 4 * 2**log2_fold) / 5
        assert share[label] / share["WT"] == pytest.approx(expected, rel=0.12), label


def test_confounded_mode_puts_each_variant_into_one_batch() -> None:
    screen = simulate(Options(n_genes=200, cells_per_variant=30, batches=4, confounded=True))
    controls = {v.label for v in screen.design.library if v.is_control}
    per_batch: Counter[int] = Counter()
    for label in screen.simulated:
        used = set(screen.batch[screen.labels == label])
        if label in controls:
            assert len(used) > 1
        else:
            assert len(used) == 1
            per_batch[used.pop()] += 1
    assert set(per_batch.values()) == {21}
    pooled = simulate(Options(n_genes=200, cells_per_variant=60, variants=3, batches=4))
    assert all(len(set(pooled.batch[pooled.labels == label])) == 4 for label in pooled.simulated if label != "P58R")


# --- files -------------------------------------------------------------------------------------------------------


def test_files_are_complete_and_the_samplesheet_is_valid(tmp_path, project_assets) -> None:
    import jsonschema

    main(
        ["--seed", "1", "--cells-per-variant", "10", "--n-genes", "200", "--variants", "6", "--out-dir", str(tmp_path)]
    )
    with open(tmp_path / "samplesheet.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    jsonschema.validate(rows, json.loads((project_assets / "schema_input.json").read_text()))
    (row,) = rows
    adata = read(tmp_path / row["h5ad"])
    facts = provenance(adata)
    assert facts["simulated"] is True and facts["options"]["seed"] == 1
    assert sp.issparse(adata.X) and adata.X.format == "csr"
    assert np.array_equal(adata.X.data, np.rint(adata.X.data)) and adata.X.data.min() >= 1
    assert adata.obs_names.is_unique and adata.var_names.is_unique
    assert set(adata.obs["cell_line"]) == {"A549"} and set(adata.obs["batch"]) <= {f"channel{i}" for i in range(1, 5)}
    controls = row["control_labels"].split(";")
    assert len(controls) == 15 and "WT" in controls and set(controls) < set(adata.obs["variant"])
    table = read_tsv(tmp_path / row["annotations"], ["label", "severity", "domain", "true_severity"])
    assert {line["label"] for line in table} == set(adata.obs["variant"])
    assert {line["domain"] for line in table if line["severity"] == "Impactful II"} <= {"DNA_binding"}
    assert (tmp_path / row["proteins"]).read_text() == read_fasta(project_assets)


def test_second_run_writes_the_same_bytes(tmp_path) -> None:
    arguments = ["--cells-per-variant", "4", "--n-genes", "200", "--variants", "3"]
    for name in ("a", "b"):
        main([*arguments, "--out-dir", str(tmp_path / name)])
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(files) == 4
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n-genes", "20000"], "--n-genes: number of genes out of range | found 20000; expected 200 to 14000"),
        (["--variants", "85"], "--variants: out of range | found 85; expected 0 to 84"),
        (["--severity", "-1"], "--severity: out of range | found -1.0; expected 0 to 5"),
        (["--severity", "nan"], "--severity: out of range | found nan; expected 0 to 5"),
        (["--cells-per-variant", "0"], "--cells-per-variant: out of range | found 0; expected at least 1"),
        (["--n-control-cells", "7"], "--n-control-cells: too few | found 7; expected at least 15"),
        (["--batches", "0"], "--batches: out of range | found 0; expected 1 to 1000"),
        (["--seed", "-1"], "--seed: out of range | found -1; expected at least 0"),
        (["--dataset", "a.b"], "--dataset: not a dataset name | found a.b"),
        (["--assets", "/nowhere"], "/nowhere/simulate/tp53_variants.tsv: variant library not found"),
    ],
)
def test_bad_options_are_one_clear_line(arguments, message, tmp_path) -> None:
    with pytest.raises(InputError) as error:
        main([*arguments, "--out-dir", str(tmp_path)])
    assert str(error.value).startswith(message)
    assert not list(tmp_path.iterdir())

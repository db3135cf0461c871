"""vcb_split.py on files: tables, excluded perturbations, errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from vcbench.core.errors import InputError
from vcbench.core.tables import read_tsv
from vcbench.splits.split_cli import main

HEADER = "perturbation\tgene\tsequence_sha256\tconsequence\tref\tpos\talt\tstatus\treason\tn_cells\n"


def table(path: Path, n: int = 12, extra: str = "") -> Path:
    rows = "".join(f"G~M{p}A\tG\tsha\tmissense\tM\t{p}\tA\tencoded\t\t50\n" for p in range(1, n + 1))
    path.write_text(HEADER + rows + extra)
    return path


EXCLUDED = "G~M50*\tG\tsha\tnonsense\tM\t50\t*\tskipped_nonsense\tno vector\t0\n"
MULTI = "G~M60A;M61C\tG\tsha\tmissense_multi\tM;M\t60;61\tA;C\tencoded\t\t40\n"
WILD = "G~WT\tG\tsha\twt\t\t\t\tidentical_to_ref\t\t40\n"


def run(tmp_path: Path, path: Path, *options: str) -> None:
    main(["--dataset", "toy", "--perturbations", str(path), "--out-dir", str(tmp_path / "out"), *options])


def test_tables(tmp_path: Path) -> None:
    run(tmp_path, table(tmp_path / "p.tsv", extra=EXCLUDED + MULTI + WILD))
    for split in ("variant", "position"):
        rows = read_tsv(tmp_path / "out" / f"toy.{split}.folds.tsv", ("perturbation", "fold", "role", "reason"))
        assert len(rows) == 3 * 15 and {row["fold"] for row in rows} == {"1", "2", "3"}
        excluded = [row for row in rows if row["perturbation"] == "G~M50*"]
        assert {(row["role"], row["reason"]) for row in excluded} == {("excluded", "skipped_nonsense: no vector")}
        tested = [row["perturbation"] for row in rows if row["role"] == "test"]
        assert len(tested) == len(set(tested)) == 14 and {"G~M60A;M61C", "G~WT"} <= set(tested)
    leakage = read_tsv(tmp_path / "out" / "toy.leakage.tsv")
    assert [(row["split"], row["fold"]) for row in leakage] == [(s, f) for s in ("variant", "position") for f in "123"]


def test_same_bytes_whatever_the_order_of_rows(tmp_path: Path) -> None:
    path = table(tmp_path / "p.tsv", extra=EXCLUDED + MULTI)
    run(tmp_path / "a", path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + "".join(reversed(lines[1:])))
    run(tmp_path / "b", path)
    for name in ("toy.variant.folds.tsv", "toy.position.folds.tsv", "toy.leakage.tsv"):
        assert (tmp_path / "a" / "out" / name).read_bytes() == (tmp_path / "b" / "out" / name).read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--splits", "positions"), "unknown split 'positions' | did you mean 'position'?"),
        (("--folds", "1"), "--folds: value out of range"),
        (("--folds", "13"), "more folds than perturbations | found 13 folds, 12 perturbations"),
        (("--dataset", "a.b"), "not a dataset name"),
    ],
)
def test_options(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError) as caught:
        run(tmp_path, table(tmp_path / "p.tsv"), *options)
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_bad_tables(tmp_path: Path) -> None:
    path = tmp_path / "p.tsv"
    row = "G~M1A\tG\tsha\tmissense\tM\t1\tA\tencoded\t\t50\n"
    for extra, message in (
        (row, "line 14: duplicate perturbation 'G~M1A'"),
        (row.replace("M1A", "M99A").replace("\t50", "\tmany"), "line 14, n_cells: not a number of cells"),
        (row.replace("M1A", "M99A").replace("\t1\t", "\t1;2\t"), "line 14: ref, pos and alt do not belong together"),
        (row.replace("M1A", "KLF1").replace("missense", "gene"), "variants and gene perturbations in one table"),
    ):
        with pytest.raises(InputError) as caught:
            run(tmp_path, table(path, extra=extra))
        assert message in str(caught.value) and str(path) in str(caught.value)
    with pytest.raises(InputError, match="file not found"):
        run(tmp_path, tmp_path / "none.tsv")

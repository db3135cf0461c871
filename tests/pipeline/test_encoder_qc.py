"""The encoders' quality control stands between vectors and report, and its failure costs nothing but itself."""

from __future__ import annotations

import harness


def test_tables_and_chapter_of_a_run(small: harness.Run) -> None:
    quality = small.table("encoder_quality.tsv")
    assert {(row["encoder"], row["flags"]) for row in quality} == {("onehot", "duplicates"), ("random", "")}
    assert {row["encoder"] for row in small.table("encoder_provenance.tsv")} == {"onehot", "random"}
    assert len(small.table("encoder_similarity.tsv")) == 1 and len(small.table("encoder_map.tsv")) == 2 * 16
    assert list((small.outdir / "tables").glob("*.de.parquet")), "tables of an earlier step were deleted"
    page = (small.outdir / "report" / "multiqc_report.html").read_text()
    assert "No fault found in the vectors of 2 encoders" in page


def test_its_failure_does_not_lose_the_report(small: harness.Run) -> None:
    """Even an exit that says "wrong input", which stops a run elsewhere."""
    script = small.folder.parent / "project" / "bin" / "vcb_encoder_qc.py"
    text = script.read_text()
    try:
        script.write_text("#!/usr/bin/env python3\nimport sys\n\nsys.exit(65)\n")
        again = harness.run(
            small.folder, *harness.SMALL, "-resume", project=small.folder.parent / "project", outdir="without"
        )
    finally:
        script.write_text(text)
    assert again.code == 0, again.output
    assert again.hashes(harness.RESULTS) == small.hashes(harness.RESULTS)
    assert "The vectors were not checked" in (again.outdir / "report" / "multiqc_report.html").read_text()

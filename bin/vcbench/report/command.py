"""`vcb_report.py`: tables in, MultiQC custom content out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from vcbench.core import catalogue, cli
from vcbench.report import (
    atlas,
    ceilings,
    cost,
    diagnostics,
    encoders,
    failures,
    figure,
    folds,
    glossary,
    heatmap,
    inputs,
    known_function,
    leaderboard,
    learning_curve,
    methods,
    metrics_table,
    names,
    panel,
    perturbations,
    quality,
    section,
    statistics,
    summary,
    text,
    trust,
    versions,
)

#: What each chapter is about; MultiQC would repeat the first section's description otherwise.
MODULES = {
    summary.MODULE: "",
    trust.MODULE: "",
    known_function.MODULE: "Whether predicted impacts say what other sources know of the variants",
    atlas.MODULE: "What models predict of variants that nobody measured",
    learning_curve.MODULE: "Scores of models trained on a part of the perturbations",
    "vcb_failed": "Every unit was planned before the run began; those without a result are listed here",
    "vcb_folds": "What each fold was trained and tested on, and how much of the test set training had a hint of",
    encoders.MODULE: "The vectors models were given: whose they are, and whether something is wrong with them",
    quality.MODULE: "What came in, what was kept, and what was left out",
    cost.MODULE: "What each model cost on the machine of this run",
    glossary.MODULE: "Every metric, model, encoder and split of this run in one line",
    methods.MODULE: "Text and references for a publication, and the facts needed to repeat the run",
}
#: Settings that depend on the run; given to MultiQC after assets/multiqc_config.yml.
RUN_CONFIG = "vcbench_multiqc_config.yml"


def build(data: inputs.Inputs, assets: Path) -> list[section.Section]:
    """Return all sections in reading order."""
    panels = [panel.build(data, dataset, split) for dataset, split in data.panels()]
    primary = data.names.primary()
    compat = data.names.bench_compat((row["metric"], row["gene_set"]) for row in data.leaderboard)
    scores = inputs.perturbation_scores(data.scores, primary.id, primary.gene_set)
    css = (assets / "report.css").read_text()
    found: list[section.Section | None] = [summary.section(data, panels, css), trust.section(data, panels)]
    for item in panels:
        place = (f"vcb_panel_{item.id}", f"{item.dataset} · {item.split} split")
        found += [
            leaderboard.section(item, *place),
            metrics_table.section(item, *place, data.names.headline(), "metrics", "All headline metrics"),
            metrics_table.section(item, *place, compat, "compat", "VariantCellBench's own formulas"),
            ceilings.section(item, data, *place),
            *heatmap.sections(item, *place),
            *perturbations.sections(item, data, scores, *place),
            *statistics.sections(item, data, *place),
            *diagnostics.sections(item, data, *place),
        ]
    found += [
        *known_function.sections(data),
        *learning_curve.sections(data),
        *atlas.sections(data),
        failures.section(data),
        folds.section(data),
        *encoders.sections(data),
        *quality.sections(data),
        *cost.sections(data),
        *glossary.sections(data),
        *methods.sections(data, assets),
    ]
    described = {f"vcb_panel_{item.id}": _panel_description(data, item) for item in panels} | MODULES
    return [replace(item, module_description=described[item.module]) for item in found if item]


def _panel_description(data: inputs.Inputs, item: panel.Panel) -> str:
    """Return what was held out in a panel."""
    meaning = names.SPLITS.get(item.split, "held-out perturbations")
    n = len(data.usable(item.dataset))
    return f"{text.count(n, 'perturbation')}; {meaning}"


def main(argv: Sequence[str]) -> None:
    """Read the tables and write one file per section, the versions and the run's MultiQC settings."""
    parser = cli.parser(
        "Write the report as MultiQC custom content.",
        "example:\n"
        "  vcb_report.py --tables results/tables --quality *.quality.tsv --leakage *.leakage.tsv \\\n"
        "      --perturbations *.perturbations.tsv --encoders encoder_*.tsv --run run.json \\\n"
        "      --versions versions.tsv --out-dir report\n"
        f"  multiqc -c assets/multiqc_config.yml -c report/{RUN_CONFIG} report",
    )
    parser.add_argument(
        "--tables",
        type=Path,
        required=True,
        help="folder with plan.tsv, leaderboard.tsv, contrasts.tsv, scores.parquet",
    )
    parser.add_argument("--quality", type=Path, nargs="*", default=[], help="<dataset>.quality.tsv files")
    parser.add_argument("--leakage", type=Path, nargs="*", default=[], help="<dataset>.leakage.tsv files")
    parser.add_argument("--perturbations", type=Path, nargs="*", default=[], help="<dataset>.perturbations.tsv files")
    parser.add_argument("--encoders", type=Path, nargs="*", default=[], help="encoder_*.tsv of vcb_encoder_qc.py")
    parser.add_argument("--explored", type=Path, nargs="*", default=[], help="tables of vcb_explore.py")
    parser.add_argument("--versions", type=Path, help="TSV of process, software, version")
    parser.add_argument("--run", type=Path, required=True, help="run.json: facts of the run")
    parser.add_argument("--assets", type=Path, default=catalogue.ASSETS, help="folder of the catalogues and templates")
    parser.add_argument("--out-dir", type=Path, default=Path(), help="where the files are written")
    parser.add_argument("--figures", type=Path, help="folder of the figures and their data (default: OUT_DIR/figures)")
    options = parser.parse_args(argv)
    data = inputs.read(
        options.tables,
        options.quality,
        options.leakage,
        options.perturbations,
        options.versions,
        options.run,
        options.assets,
        options.encoders,
        options.explored,
    )
    options.out_dir.mkdir(parents=True, exist_ok=True)
    sections = build(data, options.assets)
    for item in sections:
        item.write(options.out_dir)
        for drawing in item.figures:
            drawing.write(options.figures or options.out_dir / figure.FOLDER)
    versions.write(data, options.out_dir)
    settings = section.order(sections)
    (options.out_dir / RUN_CONFIG).write_text(yaml.safe_dump(settings, sort_keys=False))

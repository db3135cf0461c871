"""One section of the report = one MultiQC custom-content file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vcbench.report.figure import Figure

#: How every heat map of the report is drawn: rows and columns stay in the order given, values are printed in the cells.
HEATMAP = {
    "display_values": True,
    "square": False,
    "xcats_samples": False,
    "ycats_samples": False,
    "series_label": False,
    "cluster_rows": False,
    "cluster_cols": False,
    "save_data_file": False,
}


@dataclass(frozen=True)
class Section:
    """A section: its place (module = heading of the side bar), its text, and what it shows.

    `plot` is a MultiQC plot type (`html`, `table`, `heatmap`, `scatter`, `bargraph`, `box`), `data` its data, `options`
    further keys of the file (`pconfig`, `headers`, `xcats`, ...). Names and descriptions are HTML, already escaped.
    `figures` are written beside the report as SVG and TSV; the section's text shows or links them.
    """

    id: str
    module: str
    module_title: str
    title: str
    plot: str
    data: Any
    description: str = ""
    module_description: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    figures: tuple[Figure, ...] = ()

    def write(self, folder: Path) -> Path:
        """Write ``<id>_mqc.json`` and return its path."""
        content = {
            "id": self.id,
            "parent_id": self.module,
            "parent_name": self.module_title,
            "parent_description": self.module_description,
            "section_name": self.title,
            "description": self.description,
            "plot_type": self.plot,
            **self.options,
            "data": self.data,
        }
        path = folder / f"{self.id}_mqc.json"
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
        return path


def order(sections: list[Section]) -> dict[str, Any]:
    """Return the MultiQC settings that keep modules and sections in this order (MultiQC sorts by name otherwise)."""
    modules = list(dict.fromkeys(section.module for section in sections))
    return {
        "custom_content": {"order": modules},
        "report_section_order": {section.id: {"order": place} for place, section in enumerate(sections, start=1)},
    }


def table(header: list[str], rows: list[list[str]], css: str = "") -> str:
    """Return an HTML table; cells are HTML, already escaped. Wide tables scroll inside their box."""
    head = "".join(f"<th>{cell}</th>" for cell in header)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="vcb-scroll"><table class="vcb-table {css}"><thead><tr>{head}</tr></thead>'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )

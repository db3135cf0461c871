"""Software versions, in the file format of MultiQC's own versions table."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import yaml

from vcbench.report.inputs import Inputs


def write(inputs: Inputs, folder: Path) -> Path | None:
    """Write ``vcbench_mqc_versions.yml`` ({process: {software: version}}), None when there is nothing to write.

    A process that ran with two versions of a software keeps both.
    """
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for row in inputs.versions:
        found[row["process"].rsplit(":", 1)[-1]][row["software"]].add(row["version"])
    for key, software in (("pipeline_version", "variantcellbench"), ("nextflow_version", "Nextflow")):
        if inputs.run.get(key):
            found["Workflow"][software].add(str(inputs.run[key]))
    if not found:
        return None
    content = {
        process: {software: ", ".join(sorted(versions)) for software, versions in sorted(entries.items())}
        for process, entries in sorted(found.items())
    }
    path = folder / "vcbench_mqc_versions.yml"
    path.write_text(yaml.safe_dump(content, sort_keys=True))
    return path

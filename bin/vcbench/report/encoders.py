"""The chapter on encoders: is something wrong with the vectors, whose are they, how alike are they?"""

from __future__ import annotations

from vcbench.report import encoder_flags, encoder_map, encoder_origin, encoder_quality, encoder_similarity
from vcbench.report.inputs import Inputs
from vcbench.report.section import Section
from vcbench.report.text import count, escape, listing

MODULE, TITLE = "vcb_encoders", "Encoders"


def sections(inputs: Inputs) -> list[Section]:
    """Return the sections; none for a run without encoders, one that says so when the quality control gave nothing."""
    used = {row["encoder"] for row in inputs.plan} - {"none"}
    if not used:
        return []
    place = (MODULE, TITLE)
    if not inputs.encoders.get("quality"):
        html = (
            '<div class="vcb-alert"><b>The vectors were not checked.</b> The quality control of the encoders left no '
            "tables (the task ENCODER_QC failed, or these are tables of an older version). Scores above are what the "
            "models reached with vectors about which nothing more is known.</div>"
        )
        return [Section("vcb_encoders_verdict", *place, "Faults and cautions", "html", html)]
    found = [
        Section("vcb_encoders_verdict", *place, "Faults and cautions", "html", verdict(inputs, used)),
        *encoder_origin.sections(inputs, *place),
        *encoder_quality.sections(inputs, *place),
        *encoder_similarity.sections(inputs, *place),
        *encoder_map.sections(inputs, *place),
    ]
    return [item for item in found if item]


def verdict(inputs: Inputs, used: set[str]) -> str:
    """Return what a reader must know before believing a score of an encoder."""
    rows = inputs.encoders["quality"]
    messages = encoder_flags.messages(inputs)
    checked = {row["encoder"] for row in rows}
    faults = [text for flag, text in messages if flag.fault]
    cautions = [text for flag, text in messages if not flag.fault] + encoder_origin.cautions(inputs)
    missing = [inputs.names.encoder(name) for name in sorted(used - checked)]
    if missing:
        verb = "has" if len(missing) == 1 else "have"
        faults.append(
            f"<b>{escape(listing(missing))} {verb} no vectors</b> (see <a href='#vcb_failed'>What failed</a>)."
        )
    html = ""
    if faults:
        html += f'<div class="vcb-alert"><ul class="vcb-plain">{_items(faults)}</ul></div>'
    if cautions:
        html += f'<div class="vcb-caveat"><ul class="vcb-plain">{_items(cautions)}</ul></div>'
    if not faults:
        html += (
            f'<p class="vcb-ok">No fault found in the vectors of {count(len(checked), "encoder")}'
            f"{'; cautions above' if cautions else ''}.</p>"
        )
    on_purpose = sorted(
        {
            inputs.names.encoder(row["encoder"])
            for row in rows
            for _, purpose in encoder_flags.of(row, inputs)
            if purpose
        }
    )
    if on_purpose:
        html += (
            f'<p class="vcb-muted">Controls are poor on purpose: {escape(listing(on_purpose))} '
            f"{'has' if len(on_purpose) == 1 else 'have'} properties that would be faults in another encoder.</p>"
        )
    return html


def _items(texts: list[str]) -> str:
    return "".join(f"<li>{text}</li>" for text in texts)

"""Where vectors come from: weights, licences and how they were computed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from vcbench.report import encoder_flags
from vcbench.report.inputs import Inputs, Row
from vcbench.report.section import Section, table
from vcbench.report.text import NO_VALUE, escape, listing

#: Licences whose text has a page of its own at SPDX.
SPDX = re.compile(r"(MIT|Apache-2\.0|AFL-3\.0|BSD-[23]-Clause|CC-BY(-NC)?(-SA|-ND)?-4\.0|CC0-1\.0)")
POOLINGS = {"position": "vector of the changed residue", "mean": "mean over the residues"}
#: Distinct values of one fact, as encoder_provenance.tsv joins them.
SEVERAL = " | "


def sections(inputs: Inputs, module: str, module_title: str) -> list[Section]:
    """Return the table of the encoders with weights and one line on the controls."""
    rows = inputs.encoders.get("provenance", [])
    ours = [row for row in rows if _computed_here(row, inputs)]
    others = sorted((row for row in rows if row not in ours), key=lambda row: _place(row, inputs))
    html = ""
    if others:
        header = ["Encoder", "Licence", "Source", "Weights", "How the vectors were computed"]
        html += table(header, [_cells(row, inputs) for row in others], "vcb-origin")
        free = [inputs.names.encoder(row["encoder"]) for row in others if row["noncommercial"] == "true"]
        if free:
            html += (
                f"<p><b>{escape(listing(free))}: non-commercial weights.</b> Vectors, models trained on them and their "
                "predictions may fall under the same terms; the licence text decides.</p>"
            )
    if ours:
        named = [_control(row, inputs) for row in sorted(ours, key=lambda row: _place(row, inputs))]
        verb = "is a control that" if len(ours) == 1 else "are controls that"
        html += f"<p>{listing(named)} {verb} this pipeline computes itself, without weights.</p>"
    return [Section("vcb_encoders_origin", module, module_title, "Weights and licences", "html", html)] if html else []


def cautions(inputs: Inputs) -> list[str]:
    """Return HTML sentences on origins that a reader must know: what an encoder says of itself, missing alignments."""
    found = []
    for row in sorted(inputs.encoders.get("provenance", []), key=lambda row: _place(row, inputs)):
        name = escape(inputs.names.encoder(row["encoder"]))
        if row.get("caveat"):
            found.append(f"<b>{name}</b>: {escape(row['caveat'])}.")
        alone = sum(item.get("selection") == "no alignment" for item in alignments(row))
        if alone:
            found.append(
                f"<b>{name}: {alone} of {len(alignments(row))} proteins without an alignment.</b> "
                "An MSA model on a single sequence is a much weaker model."
            )
    return found


def alignments(row: Row) -> list[Mapping[str, Any]]:
    """Return what is known of each alignment; none for encoders of single sequences."""
    found: dict[str, Mapping[str, Any]] = {}
    for text in row.get("msa", "").split(SEVERAL):
        value = _json(text)
        if isinstance(value, dict):
            found |= {name: item for name, item in value.items() if isinstance(item, dict)}
    return list(found.values())


def _place(row: Row, inputs: Inputs) -> tuple[int, str]:
    order = list(inputs.names.encoders)
    return (order.index(row["encoder"]) if row["encoder"] in order else len(order), row["encoder"])


def _computed_here(row: Row, inputs: Inputs) -> bool:
    """Return whether an encoder is a control without weights of its own; the zero-shot score is one with weights."""
    return encoder_flags.is_control(row["encoder"], inputs) and (not row["url"] or bool(row.get("base_encoder")))


def _control(row: Row, inputs: Inputs) -> str:
    name = escape(inputs.names.encoder(row["encoder"]))
    bases = [inputs.names.encoder(base) for base in row.get("base_encoder", "").split(SEVERAL) if base]
    return f"{name} (vectors of {escape(listing(bases))}, dealt to others)" if bases else name


def _cells(row: Row, inputs: Inputs) -> list[str]:
    return [
        f"<b>{escape(inputs.names.encoder(row['encoder']))}</b>",
        _licence(row),
        _source(row),
        _weights(row),
        _how(row),
    ]


def _licence(row: Row) -> str:
    text = row["licence"]
    if not text:
        return "not stated"
    html = escape(text)
    if SPDX.fullmatch(text):
        html = f'<a href="https://spdx.org/licenses/{html}.html">{html}</a>'
    if row["noncommercial"] == "true":
        html += ' <span class="vcb-badge vcb-badge-result">non-commercial</span>'
    return html


def _source(row: Row) -> str:
    url, revision = row["url"], row["revision"]
    if not url:
        return "not stated"
    short = escape(re.sub(r"^https?://(www\.)?", "", url))
    html = f'<a href="{escape(url)}">{short}</a>' if re.match(r"https?://", url) else short
    if revision:
        html += f'<br><small title="{escape(revision)}">expected revision {escape(revision[:10])}</small>'
    return html


def _weights(row: Row) -> str:
    """Return the hash of every file (12 digits; all of it on hover), the number of parameters, the size check."""
    value = _json(row["weights_sha256"])
    files = value if isinstance(value, dict) else {"": row["weights_sha256"]} if row["weights_sha256"] else {}
    lines = [
        f'<small title="{escape(digest)}">{escape(name)} <code>{escape(str(digest)[:12])}</code></small>'
        for name, digest in sorted(files.items())
    ]
    if len(lines) > 3:
        lines = [f"<details><summary>SHA-256 of {len(lines)} files</summary>{'<br>'.join(lines)}</details>"]
    parameters = row.get("n_parameters", "")
    size = f"{float(parameters):,.0f} parameters" if parameters.isdigit() else ""
    if row["official_size"] == "false":
        lines.insert(0, '<span class="vcb-bad"><b>not the published size</b></span>')
    elif row["official_size"] == "true":
        lines.insert(0, "published size")
    return "<br>".join([*lines[:1], *filter(None, [size]), *lines[1:]]) or NO_VALUE


def _how(row: Row) -> str:
    """Return how the vectors were computed, in one sentence."""
    layer = f"layer {row['layer']}" if row.get("layer") else ""
    if layer and row.get("after_final_norm") == "true":
        layer += ", after the final norm"
    depths = sorted({item.get("depth_used") for item in alignments(row)} - {None})
    msa = f"alignments of {depths[0]}{f' to {depths[-1]}' if len(depths) > 1 else ''} rows" if depths else ""
    limit = f"at most {row['max_residues']} residues at a time" if row.get("max_residues") else ""
    prefix = row.get("prefix", "")
    replaced = row.get("residue_replacements", "")
    parts = [
        POOLINGS.get(row.get("pooling", ""), row.get("pooling", "")),
        layer,
        row.get("dtype_compute", ""),
        f"prefix {prefix}" if prefix not in ("", "none") else "",
        f"residues replaced: {replaced}" if replaced not in ("", "none") else "",
        msa,
        limit,
        f"{row['n_passes']} passes on {row.get('device', '')}" if row.get("n_passes", "0") not in ("", "0") else "",
    ]
    return escape("; ".join(filter(None, parts))) + f"<br><small>{escape(row.get('library', ''))}</small>"


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None

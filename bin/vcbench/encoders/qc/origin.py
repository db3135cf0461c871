"""`encoder_provenance.tsv`: where the vectors of each encoder come from, one row per encoder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

#: Facts of `uns["vcbench"]` that are repeated; facts of a single file (dataset, strategy, time of writing) are not.
FACTS = (
    "licence", "noncommercial", "url", "revision", "weights_sha256", "official_size", "n_parameters", "library",
    "torch", "transformers", "dtype_checkpoint", "dtype_compute", "attn_impl", "layer", "after_final_norm", "pooling",
    "diff_sign", "prefix", "residue_replacements", "token_layout", "window_policy", "max_residues", "msa", "n_passes",
    "device", "deterministic", "base_encoder", "shuffle_seed", "settings", "seed", "pipeline_version", "caveat",
)  # fmt: skip
COLUMNS = ("encoder", "datasets", "n_sequences", *FACTS)


def rows(facts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per encoder from the provenance of its files.

    Objects are JSON; values that differ between the files of an encoder are all listed, joined by `` | ``.
    """
    by_encoder: dict[str, list[Mapping[str, Any]]] = {}
    for each in facts:
        by_encoder.setdefault(each["encoder_id"], []).append(each)
    found = []
    for encoder, files in sorted(by_encoder.items()):
        sequences = {digest for each in files for digest in each.get("sequence_sha256") or []}
        row = {
            "encoder": encoder,
            "datasets": ",".join(sorted({each["dataset"] for each in files})),
            "n_sequences": len(sequences),
        }
        for name in FACTS:
            row[name] = " | ".join(sorted({_text(each.get(name)) for each in files} - {""}))
        found.append(row)
    return found


def _text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)

"""The provenance every vector file carries (specs: plm_encoders.md 3.2); every key is there, null = not applicable."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any

import vcbench
from vcbench.core.status import versions

MANDATORY = (
    "encoder_id", "url", "revision", "weights_sha256", "licence", "noncommercial", "library", "torch", "transformers",
    "dtype_compute", "attn_impl", "layer", "after_final_norm", "pooling", "strategy", "diff_sign", "prefix",
    "residue_replacements", "token_layout", "window_policy", "max_residues", "msa", "sequence_sha256", "n_passes",
    "device", "deterministic", "pipeline_version", "created",
)  # fmt: skip

DIFF_SIGN = "ref_minus_alt"


def build(
    name: str,
    entry: Mapping[str, Any],
    facts: Mapping[str, Any],
    sequences: Iterable[str],
    settings: Mapping[str, Any],
    seed: int,
) -> dict[str, Any]:
    """Return the provenance of an encoder's vectors: the catalogue's facts, overlaid with what the encoder reports."""
    weights = entry.get("weights", {})
    base = dict.fromkeys(MANDATORY)
    base |= {
        "encoder_id": name,
        "url": weights.get("source"),
        "revision": weights.get("revision"),
        "licence": entry.get("licence"),
        "noncommercial": entry.get("noncommercial", False),
        "library": f"variantcellbench {vcbench.__version__}",
        "dtype_compute": "float32",
        "pooling": "position",
        "strategy": "ref and alt",
        "diff_sign": DIFF_SIGN,
        "sequence_sha256": sorted(set(sequences)),
        "n_passes": 0,
        "device": "cpu",
        "deterministic": True,
        "pipeline_version": vcbench.__version__,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "modalities": list(entry["modalities"]),
        "settings": dict(settings),
        "seed": seed,
        "versions": loaded_versions(),
    }
    return base | dict(facts)


#: Packages named in the report when an encoder used them, and the modules they are imported as.
PACKAGES = {
    "anndata": "anndata", "fair-esm": "esm", "numpy": "numpy", "safetensors": "safetensors", "torch": "torch",
    "transformers": "transformers",
}  # fmt: skip


def loaded_versions() -> dict[str, str]:
    """Return the versions of Python and of those of :data:`PACKAGES` that this program has loaded."""
    return versions(*(package for package, module in PACKAGES.items() if module in sys.modules))


def library_versions(*packages: str) -> dict[str, str]:
    """Return {package: installed version}."""
    return {package: metadata.version(package) for package in packages}

"""Full-size architectures on the meta device: parameter counts of the published models (specs: plm_encoders.md 2.0)."""

from __future__ import annotations

import pytest
import torch

from vcbench.core.catalogue import load
from vcbench.encoders.plm.weights import family

ENTRIES = {name: entry for name, entry in load("encoders")["entries"].items() if "family" in entry}

#: Parameters run, in millions, and how far rounding or the heads that are not run may move them.
#: ESM2, ESM-MSA, T5-XXL, Ankh3: specs 2.0; ESM C: its name; ProtT5 XL: the encoder of the 3-billion-parameter T5.
PUBLISHED = {
    "esm2_8m": (7.8, 0.06),
    "esm2_35m": (33.9, 0.02),
    "esm2_150m": (148.5, 0.01),
    "esm2_650m": (651, 0.005),
    "esm2_llr": (651, 0.005),
    "esm2_3b": (2841, 0.005),
    "esm2_15b": (15137, 0.005),
    "esm_msa1b": (115.6, 0.02),
    "prott5_xl": (1208, 0.005),
    "prott5_xxl": (4830, 0.005),
    "xtrimopglm_10b": (10690, 0.005),
    "ankh3_large": (1152, 0.005),
    "esmc_300m": (333, 0.01),
    "esmc_600m": (575, 0.01),
}


def count(module: torch.nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", ENTRIES)
def test_parameter_count(name):
    module = family(ENTRIES[name]).full_size(ENTRIES[name])
    assert all(parameter.is_meta for parameter in module.parameters())
    millions, tolerance = PUBLISHED[name]
    assert count(module) / 1e6 == pytest.approx(millions, rel=tolerance)


@pytest.mark.parametrize("name", [name for name in ENTRIES if name.startswith("esm2_")])
def test_esm2_is_fair_esm_without_its_heads(name):
    """To the parameter: what we run, plus the two heads that hidden states do not need, is fair-esm's number."""
    import esm

    sizes = ENTRIES[name]["architecture"]
    width, layers, heads = (sizes[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
    with torch.device("meta"):
        theirs = esm.ESM2(num_layers=layers, embed_dim=width, attention_heads=heads, alphabet="ESM-1b")
    ours = family(ENTRIES[name]).full_size(ENTRIES[name])
    contact, language = layers * heads + 1, width * width + width + 2 * width + 33
    if ENTRIES[name].get("head"):
        language = 0  # is run
    assert count(ours) + contact + language == count(theirs)
    if name == "esm2_650m":
        assert (count(theirs), count(ours)) == (651_043_254, 649_400_320)

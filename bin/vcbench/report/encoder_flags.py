"""What the flags of `encoder_quality.tsv` mean, and for which encoders they are a fault."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vcbench.report.inputs import Inputs, Row
from vcbench.report.text import escape, listing


@dataclass(frozen=True)
class Flag:
    """A flag in words: a short name for tables, and a sentence that says what it means for the results.

    `fault`: something is broken; otherwise a caution. `of_controls`: holds for controls too, which have the other
    properties on purpose.
    """

    name: str
    meaning: str
    fault: bool = False
    of_controls: bool = False


FLAGS = {
    "not_finite": Flag("values not finite", "Models cannot be trained on these vectors.", True, True),
    "zero_vectors": Flag(
        "no difference from the reference",
        "Some vectors are zero: under diff such a variant carries the reference's vector under its own name.",
        True,
    ),
    "synonymous_diff_not_zero": Flag(
        "synonymous variant with a difference",
        "The protein is the same, so that diff must be zero: reference and variant were not encoded alike.",
        True,
        True,
    ),
    "constant": Flag(
        "all vectors the same", "A model on them can only learn the mean: scores say nothing about the encoder.", True
    ),
    "not_published_size": Flag(
        "not the published model",
        "The weights are not of the published size: scores say nothing about the encoder whose name they bear.",
        True,
        True,
    ),
    "nearly_constant": Flag(
        "nearly the same vectors",
        "Vectors differ by less than 1 % of their length: a model that does not rescale its input hardly sees them.",
    ),
    "duplicates": Flag("equal vectors", "Some perturbations have the very same vector: no model can tell them apart."),
    "low_rank": Flag(
        "fewer than 3 directions", "The vectors differ in fewer than three directions, however wide they are."
    ),
    "always_own_reference": Flag(
        "always nearest to the reference",
        "Every variant is nearer to its own reference vector than to any other variant: alt tells where a variant is "
        "rather than what it changes.",
    ),
}  # fmt: skip
UNKNOWN = "A check that this report does not know."


def of(row: Row, inputs: Inputs) -> Iterator[tuple[Flag, bool]]:
    """Yield the flags of a row of the quality table, and whether each is on purpose (a control)."""
    control = is_control(row["encoder"], inputs)
    for name in filter(None, row["flags"].split(";")):
        flag = FLAGS.get(name, Flag(name, UNKNOWN))
        yield flag, control and not flag.of_controls


def is_control(encoder: str, inputs: Inputs) -> bool:
    """Return whether an encoder is one of the pipeline's controls."""
    return inputs.names.encoders.get(encoder, {}).get("class") == "control"


def messages(inputs: Inputs) -> list[tuple[Flag, str]]:
    """Return (flag, HTML sentence that names the encoders) for every flag that is not on purpose, faults first."""
    encoders: dict[Flag, set[str]] = {}
    places: dict[Flag, dict[str, set[str]]] = {}
    for row in inputs.encoders.get("quality", []):
        for flag, on_purpose in of(row, inputs):
            if not on_purpose:
                encoders.setdefault(flag, set()).add(row["encoder"])
                places.setdefault(flag, {}).setdefault(row["dataset"], set()).add(row["strategy"])
    result = []
    for flag in sorted(encoders, key=lambda flag: (not flag.fault, flag.name)):
        names = listing(inputs.names.encoder(name) for name in sorted(encoders[flag]))
        where = "; ".join(f"{dataset}: {listing(sorted(found))}" for dataset, found in sorted(places[flag].items()))
        result.append((flag, f"<b>{escape(names)}: {escape(flag.name)}</b> ({escape(where)}). {escape(flag.meaning)}"))
    return result

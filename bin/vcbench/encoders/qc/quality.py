"""`encoder_quality.tsv`: one row per dataset, encoder and strategy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vcbench.encoders.qc import flags, labels, neighbours, norms, rank
from vcbench.encoders.qc.encodings import ALT, DIFF, REF, Encoding, place, reference

NEIGHBOUR_LABELS = ("position", "severity", "domain")
_AGREEMENT = ("n", "agreement", "chance", "chance_sd", "possible")
#: Fewer rows have no exact spread of chance.
FEWEST_ROWS = 4

COLUMNS = (
    "dataset", "encoder", "strategy", "n", "n_synonymous", "n_wild_type", "dimensions", "n_nonfinite", "n_zero",
    "n_duplicates", *(f"norm_{name}" for name in norms.QUANTILES), "relative_spread", "effective_rank",
    "effective_rank_max", "pc1_share", "synonymous_diff_zero", "not_own_reference", "own_reference_n",
    *(f"{label}_{name}" for label in NEIGHBOUR_LABELS for name in _AGREEMENT),
    "official_size", "flags", "undefined",
)  # fmt: skip

#: Columns with numbers of the vectors, which a value that is not finite makes undefined.
_OF_VECTORS = (*(f"norm_{name}" for name in norms.QUANTILES), "relative_spread", "effective_rank", "pc1_share")


@dataclass(frozen=True)
class Examined:
    """The rows of an encoding that are compared, their principal components, and where the rest lies on them.

    Attributes
    ----------
    encoding
        The encoding.
    used
        (m,) indices of the rows compared: changed perturbations; strategy `ref`: the first of each reference vector.
    parts
        Principal components of these rows; None when a value is not finite or there are no two rows.
    """

    encoding: Encoding
    used: np.ndarray
    parts: rank.Decomposition | None

    @property
    def names(self) -> list[str]:
        """Names of the rows compared: perturbations, for strategy `ref` reference vectors."""
        return [(self.encoding.references[i] if self.encoding.strategy == REF else "") or self.encoding.names[i]
                for i in self.used]  # fmt: skip


def examine(encoding: Encoding) -> Examined:
    """Return the rows to compare and their principal components."""
    used = np.flatnonzero(encoding.changed)
    if encoding.strategy == REF:  # variants of a residue share it by definition
        first: dict[str, int] = {}
        for row in used:
            first.setdefault(encoding.references[row] or encoding.names[row], int(row))
        used = np.array(sorted(first.values()), dtype=int)
    matrix = encoding.matrix[used]
    usable = len(used) > 1 and bool(np.isfinite(matrix).all())
    return Examined(encoding, used, rank.decompose(matrix) if usable else None)


def row(examined: Examined, encodings: Mapping[str, Encoding]) -> dict[str, Any]:
    """Return the row of the table; `encodings` are all strategies of this encoder and dataset."""
    encoding, used = examined.encoding, examined.used
    matrix = encoding.matrix[used]
    facts: dict[str, Any] = dict.fromkeys(COLUMNS, math.nan)
    reasons: dict[str, str] = {}
    facts |= {
        "dataset": encoding.dataset,
        "encoder": encoding.encoder,
        "strategy": encoding.strategy,
        "n": len(used),
        "n_synonymous": int(encoding.silent.sum()),
        "n_wild_type": int((~encoding.changed & ~encoding.silent).sum()),
        "dimensions": encoding.matrix.shape[1],
        "n_nonfinite": int((~np.isfinite(encoding.matrix)).sum()),
        "n_zero": norms.zeros(matrix),
        "n_duplicates": norms.repeats(matrix),
        "effective_rank_max": max(min(len(used) - 1, encoding.matrix.shape[1]), 0),
        "official_size": encoding.facts.get("official_size"),
        "own_reference_n": 0,
        **{f"{label}_n": 0 for label in NEIGHBOUR_LABELS},
    }
    if examined.parts is None:
        why = (
            "values that are not finite"
            if facts["n_nonfinite"]
            else "fewer than two perturbations that change something"
        )
        reasons |= dict.fromkeys((*_OF_VECTORS, "not_own_reference"), why)
        reasons |= {f"{label}_agreement": why for label in NEIGHBOUR_LABELS}
    else:
        facts |= {f"norm_{name}": value for name, value in norms.quantiles(matrix).items()}
        facts["relative_spread"] = norms.relative_spread(matrix)
        reasons["relative_spread"] = "all vectors are zero"
        facts["effective_rank"] = rank.effective_rank(examined.parts.singular)
        facts["pc1_share"] = float(examined.parts.shares()[0]) if len(examined.parts.singular) else math.nan
        reasons |= dict.fromkeys(("effective_rank", "pc1_share"), "all vectors are the same")
        _own_reference(facts, reasons, encoding, encodings)
        _agreements(facts, reasons, examined)
    _synonymous(facts, reasons, encoding, encodings)
    facts["flags"] = flags.flags(facts)
    facts["undefined"] = flags.undefined(facts, reasons)
    return facts


def _synonymous(facts: dict, reasons: dict, encoding: Encoding, encodings: Mapping[str, Encoding]) -> None:
    """Fill in whether the DIFF of every synonymous variant is zero."""
    facts["synonymous_diff_zero"] = None
    silent = encoding.matrix[encoding.silent]
    if encoding.strategy != DIFF:
        reasons["synonymous_diff_zero"] = "a property of diff"
    elif not len(silent):
        reasons["synonymous_diff_zero"] = "no synonymous variant"
    elif not silent.any():
        facts["synonymous_diff_zero"] = True
    else:
        ref = reference(encodings)
        # an encoder that ran a network has a reference, whichever strategies were derived
        has_reference = bool(ref.any()) if ref is not None else bool(encoding.facts.get("n_passes"))
        facts["synonymous_diff_zero"] = False if has_reference else None
        reasons["synonymous_diff_zero"] = "the encoder has no reference vectors"


def _own_reference(facts: dict, reasons: dict, encoding: Encoding, encodings: Mapping[str, Encoding]) -> None:
    """Fill in the share of variants whose ALT is not nearest to its own REF; no row of ALT may be missing for it."""
    name = "not_own_reference"
    ref = reference(encodings)
    if encoding.strategy != ALT:
        reasons[name] = "a property of alt"
    elif ref is None:
        reasons[name] = "needs the strategies alt and diff, or alt and ref"
    elif not ref.any():
        reasons[name] = "the encoder has no reference vectors"
    elif not np.isfinite(ref).all():
        reasons[name] = "values that are not finite"
    else:
        rows = np.flatnonzero(encoding.changed)
        of_row = [encoding.references[i] for i in rows]
        own = neighbours.nearest_is_own_reference(encoding.matrix[rows], ref[rows], of_row)
        facts[name], facts["own_reference_n"] = float(1 - own.mean()), len(rows)


def _agreements(facts: dict, reasons: dict, examined: Examined) -> None:
    """Fill in how often nearest neighbours share position, severity and domain."""
    encoding, used = examined.encoding, examined.used
    own = [encoding.rows[i] for i in used]
    values = {
        "position": [place(each) for each in own],
        "severity": labels.classes([each.get("severity", "") for each in own]),
        "domain": [each.get("domain", "") for each in own],
    }
    for label, names in values.items():
        target = f"{label}_agreement"
        known = [i for i, name in enumerate(names) if name]
        chosen = [names[i] for i in known]
        if encoding.strategy == REF:
            reasons[target] = "the reference vector does not know the variant"
        elif not known:
            reasons[target] = "gene perturbations have no position" if label == "position" else f"no {label} annotated"
        elif len(known) < FEWEST_ROWS:
            reasons[target] = f"fewer than {FEWEST_ROWS} perturbations with a {label}"
        elif len(set(chosen)) == len(chosen):
            reasons[target] = f"no two perturbations share a {label}"
        elif len(set(chosen)) == 1:
            reasons[target] = f"all perturbations have the same {label}"
        elif not len(examined.parts.singular):
            reasons[target] = "all vectors are the same"
        else:
            found = neighbours.agreement(neighbours.nearest(examined.parts.scores[known]), chosen)
            facts |= {
                f"{label}_n": found.n,
                target: found.share,
                f"{label}_chance": found.chance,
                f"{label}_chance_sd": found.chance_sd,
                f"{label}_possible": found.possible,
            }

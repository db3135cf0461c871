"""Which perturbation is trained on, validated with or tested in which fold.

`variant` is the exact rule of VariantCellBench (spec `models_supervised.md` 1.3), oddities included, so that results
can be compared; `position` is the split without a residue in two roles. Both give one role per perturbation and fold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from vcbench.core.errors import InputError
from vcbench.core.seeds import stream
from vcbench.splits.candidates import Candidate, total_cells

TRAIN, VALID, TEST, EXCLUDED = "train", "valid", "test", "excluded"

#: Role of each perturbation, per fold.
Folds = list[dict[str, str]]


def variant_order(candidates: Sequence[Candidate], folds: int, seed: int, trials: int) -> list[Candidate]:
    """Return the candidates in the order A + B + C of the best trial.

    One trial: group by residue (ascending), stable-sort the groups by size, descending. Singletons are B, ascending by
    residue. Larger groups are shuffled; the first member goes to A, the others in front of C. The score is the range of
    summed cells when the order is dealt round-robin; the first smallest wins. One generator serves all trials.
    """
    groups: dict[tuple[str, int], list[Candidate]] = {}
    for candidate in sorted(candidates, key=lambda c: (c.group, c.id)):
        groups.setdefault(candidate.group, []).append(candidate)
    by_size = sorted(groups.values(), key=len, reverse=True)  # stable: equal sizes stay in residue order
    # the rule wants the generator itself, shared and seeded as upstream does, not a named stream
    generator = np.random.default_rng(seed)
    best: list[Candidate] = []
    best_score = None
    for _ in range(trials):
        order = _one_trial(by_size, generator)
        dealt = [total_cells(order[part::folds]) for part in range(folds)]
        score = max(dealt) - min(dealt)
        if best_score is None or score < best_score:
            best, best_score = order, score
        if len(by_size) == len(candidates):
            break  # no group to shuffle: all trials are equal
    return best


def _one_trial(groups: Sequence[Sequence[Candidate]], generator: np.random.Generator) -> list[Candidate]:
    first: list[Candidate] = []
    single: list[Candidate] = []
    rest: list[Candidate] = []
    for group in groups:
        if len(group) == 1:
            single.append(group[0])
            continue
        shuffled = [group[i] for i in generator.permutation(len(group))]
        first.append(shuffled[0])
        rest = shuffled[1:] + rest
    return first + single + rest


def gene_order(candidates: Sequence[Candidate], folds: int, seed: int, trials: int) -> list[Candidate]:
    """Return gene perturbations in a seeded random order (they have no residues to group by)."""
    del folds, trials
    ordered = sorted(candidates, key=lambda candidate: candidate.id)
    return [ordered[i] for i in stream(seed, "gene order").permutation(len(ordered))]


def contiguous(order: Sequence[Candidate], folds: int, where: str) -> Folds:
    """Cut an order into contiguous test blocks; validate with the end of the block before.

    Block f is ``order[floor(f m / k) : floor((f + 1) m / k)]``. In fold 0 the last v = round(0.1 (k - 1) n) of the n in
    the block before (the last block) are validation; in the other folds as many as make the number of training
    perturbations the same. Raises :class:`InputError` when a fold would be left without either.
    """
    m = len(order)
    edges = [fold * m // folds for fold in range(folds + 1)]
    sizes = [b - a for a, b in pairwise(edges)]
    before = [sizes[fold - 1] for fold in range(folds)]
    # equal training sets need v_f = v_0 + n_0 - n_f, which must be 1..n of its block in every fold: in small or finely
    # cut sets v_0 gives way, where the rule as written would leave a fold without validation
    lowest = 1 + max(sizes) - sizes[0]
    highest = min(before[fold] - sizes[0] + sizes[fold] for fold in range(folds))
    first = min(max(round(0.1 * (folds - 1) * before[0]), lowest), highest)
    held = [first + sizes[0] - sizes[fold] for fold in range(folds)]
    if lowest > highest or m - sizes[0] - first < 1:
        raise _too_few(m, folds, where)
    result: Folds = []
    for fold in range(folds):
        roles = {candidate.id: TRAIN for candidate in order}
        end = edges[fold] if fold else m
        roles |= {candidate.id: VALID for candidate in order[end - held[fold] : end]}
        roles |= {candidate.id: TEST for candidate in order[edges[fold] : edges[fold + 1]]}
        result.append(roles)
    return result


def by_position(candidates: Sequence[Candidate], folds: int, seed: int, where: str) -> Folds:
    """Return folds in which no residue has two roles, balanced by perturbations, then by cells.

    Variants that share a residue (directly or through a double) form one group. Groups are dealt largest first to the
    fold with the fewest perturbations, ties to the fewest cells. Validation of fold f is whole groups of the fold
    before, together as near to 0.1 (k - 1) of it as adding groups in random order without overshooting gets.
    """
    groups = residue_groups(candidates)
    if len(groups) < folds:
        raise InputError(
            "more folds than residue positions", where=where, found=f"{folds} folds, {len(groups)} positions"
        )
    shuffled = [groups[i] for i in stream(seed, "position groups").permutation(len(groups))]
    blocks: list[list[list[Candidate]]] = [[] for _ in range(folds)]
    for group in sorted(shuffled, key=lambda g: (len(g), total_cells(g)), reverse=True):
        load = [(sum(map(len, block)), sum(map(total_cells, block)), i) for i, block in enumerate(blocks)]
        blocks[min(load)[2]].append(group)
    result: Folds = []
    for fold, block in enumerate(blocks):
        source = blocks[fold - 1]
        held = _validation_groups(source, folds, stream(seed, "position validation", fold))
        roles = {candidate.id: TRAIN for candidate in candidates}
        roles |= {candidate.id: VALID for group in held for candidate in group}
        roles |= {candidate.id: TEST for group in block for candidate in group}
        if TRAIN not in roles.values():
            raise _too_few(len(groups), folds, where)
        result.append(roles)
    return result


def _validation_groups(
    block: Sequence[list[Candidate]], folds: int, generator: np.random.Generator
) -> list[list[Candidate]]:
    target = max(1, round(0.1 * (folds - 1) * sum(map(len, block))))
    held: list[list[Candidate]] = []
    for i in generator.permutation(len(block)):
        if sum(map(len, held)) + len(block[i]) <= target:
            held.append(block[i])
    return held or [min(block, key=len)]


def residue_groups(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """Return the candidates grouped so that different groups share no residue, in order of their first residue."""
    parent: dict[tuple[str, int], tuple[str, int]] = {}

    def root(residue: tuple[str, int]) -> tuple[str, int]:
        while parent.setdefault(residue, residue) != residue:
            residue = parent[residue]
        return residue

    for candidate in candidates:
        for residue in candidate.residues[1:]:
            low, high = sorted((root(candidate.group), root(residue)))
            parent[high] = low
    groups: dict[tuple[str, int], list[Candidate]] = {}
    for candidate in sorted(candidates, key=lambda c: (c.group, c.id)):
        groups.setdefault(root(candidate.group), []).append(candidate)
    return list(groups.values())


def make(split: str, candidates: Sequence[Candidate], folds: int, seed: int, trials: int, where: str) -> Folds:
    """Return the folds of a split; raises :class:`InputError` when the perturbations do not allow it."""
    if folds < 2:
        raise InputError("value out of range", where="--folds", found=folds, expected="at least 2")
    if not candidates:
        raise InputError("no usable perturbation", where=where)
    if folds > len(candidates):
        raise InputError(
            "more folds than perturbations", where=where, found=f"{folds} folds, {len(candidates)} perturbations"
        )
    is_variant = candidates[0].is_variant
    if split == "position":
        if not is_variant:
            raise InputError(
                "gene perturbations have no residue positions", where="--splits", found=split,
                hint="use the split 'variant'",
            )  # fmt: skip
        return by_position(candidates, folds, seed, where)
    order: Callable[..., list[Candidate]] = variant_order if is_variant else gene_order
    return contiguous(order(candidates, folds, seed, trials), folds, where)


def _too_few(n: int, folds: int, where: str) -> InputError:
    return InputError(
        "too few perturbations for a validation set in every fold",
        where=where, found=f"{n} for {folds} folds", hint="use fewer folds or more perturbations",
    )  # fmt: skip

"""Gene lists of the user's file travel with the dataset, matched by label or condition name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import screens


def test_lists_are_matched_by_label_or_condition_name(tmp_path: Path) -> None:
    data = screens.screen()
    data.obs["condition_name"] = ["TOY_" + label for label in data.obs["variant"]]
    # K2R and p.Lys2Arg mean one variant: the list of the first one that has any counts.
    lists = {"T3A": ["G1", "G2"], "TOY_A4V": ["G3"], "T3": ["G4"], "p.Lys2Arg": ["G5"], "T3S": [1, 2]}
    data.uns["top_non_dropout"] = {name: np.array(genes) for name, genes in lists.items()}
    data.uns["top_non_dropout_de_20"] = {"T3A": np.array(["G9"])}
    run = screens.prepared(tmp_path, data)
    assert run.facts["gene_lists"] == {"TOY~A4V": ["G3"], "TOY~K2R": ["G5"], "TOY~T3A": ["G1", "G2"]}


def test_without_lists_there_are_none(tmp_path: Path) -> None:
    data = screens.screen()
    data.uns["top_non_dropout"] = np.arange(3)
    assert "gene_lists" not in screens.prepared(tmp_path, data).facts

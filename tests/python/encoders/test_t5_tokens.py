"""T5 vocabularies: layouts, offsets, the tokenizer trap of Ankh3, wrong vocabularies (specs: 2.5, 7.3)."""

from __future__ import annotations

import json

import make_t5
import pytest
from transformers import T5Tokenizer

from vcbench.core.errors import InputError, ModelError
from vcbench.encoders.t5 import network, tokens

PROTEIN = "MEEPQSDPSV"
SOURCE = "https://huggingface.co/"


def layout_of(folder, entry, prefix="none") -> tokens.Layout:
    """Return the layout of a checkpoint's vocabulary, through `describe`."""
    config = network.describe(folder, entry).config
    return tokens.layout(config["vocabulary"], tokens.dialect_of(entry), prefix)


def spiece(folder, name, pieces=None, dummy_prefix=None):
    """Write a checkpoint with another spiece.model."""
    make_t5.write(folder, name)
    usual = name.startswith("prott5") if dummy_prefix is None else dummy_prefix
    make_t5.write_spiece(folder / "spiece.model", pieces or make_t5.pieces(name), usual)
    return folder


def fails(folder, entry, error=InputError) -> str:
    """Return the one-line message of a failing `describe`."""
    with pytest.raises(error) as caught:
        network.describe(folder, entry)
    message = str(caught.value)
    assert "\n" not in message and (error is ModelError or SOURCE in message)
    return message


@pytest.mark.parametrize(
    ("name", "prefix", "ids", "offset"),
    [
        ("prott5_xl", "none", [19, 9, 9, 13, 1], 0),
        ("prott5_xxl", "none", [19, 9, 9, 13, 1], 0),
        ("ankh3_large", "[NLU]", [28, 19, 9, 9, 13, 1], 1),
        ("ankh3_large", "[S2S]", [29, 19, 9, 9, 13, 1], 1),
        ("ankh3_large", "none", [19, 9, 9, 13, 1], 0),
    ],
)
def test_offset(tmp_path, entry_of, name, prefix, ids, offset):
    """Exchanging residue p changes exactly one id, at token p - 1 + offset (ProtT5 0, Ankh3 1; 7.8.2)."""
    layout = layout_of(make_t5.write(tmp_path, name), entry_of(name), prefix)
    assert layout.encode("MEEP") == ids
    for position in range(1, len(PROTEIN) + 1):
        mutant = PROTEIN[: position - 1] + "W" + PROTEIN[position:]
        pairs = zip(layout.encode(PROTEIN), layout.encode(mutant), strict=True)
        assert [index for index, (a, b) in enumerate(pairs) if a != b] == [position - 1 + offset]
        assert layout.token_index(position) == position - 1 + offset


def test_prott5_equals_the_stock_tokenizer(tmp_path, entry_of):
    """T5Tokenizer reads the same folder; spaces between residues, rare ones replaced by X, as the authors say."""
    folder = make_t5.write(tmp_path, "prott5_xl")
    layout = layout_of(folder, entry_of("prott5_xl"))
    stock = T5Tokenizer.from_pretrained(str(folder))
    text = " ".join(PROTEIN + "XXXXX")
    assert stock(text)["input_ids"] == layout.encode(PROTEIN + "UZOBX")
    layout.check(stock(" ".join("LAGVSERTIDPKQNFYMHWCXXXXX"))["input_ids"])


def test_stock_tokenizer_shifts_ankh3_and_is_caught(tmp_path, entry_of):
    """transformers 5 puts a token between [NLU] and the first residue: offset +2, which the start-up check refuses."""
    folder = make_t5.write(tmp_path, "ankh3_large")
    layout = layout_of(folder, entry_of("ankh3_large"), "[NLU]")
    stock = T5Tokenizer.from_pretrained(str(folder))
    ids = stock("[NLU]" + PROTEIN)["input_ids"]
    mutant = stock("[NLU]W" + PROTEIN[1:])["input_ids"]
    assert len(ids) == len(PROTEIN) + 3
    assert [index for index, (a, b) in enumerate(zip(ids, mutant, strict=True)) if a != b] == [2]
    assert ids[2:] == layout.encode(PROTEIN)[1:]
    with pytest.raises(ModelError, match="differ from the library's tokenizer"):
        layout.check(ids, PROTEIN)


def test_dummy_prefix_of_ankh3_is_left_out(tmp_path, entry_of):
    """A file that asks for a word marker before every text gives the same ids: residue p stays token p."""
    folder = spiece(tmp_path, "ankh3_large", dummy_prefix=True)
    assert layout_of(folder, entry_of("ankh3_large"), "[NLU]").encode("MEEP") == [28, 19, 9, 9, 13, 1]


def test_pieces_of_several_residues_are_refused(tmp_path, entry_of):
    """SentencePiece would join residues: then a vector per residue does not exist."""
    folder = spiece(tmp_path, "ankh3_large", [*make_t5.pieces("ankh3_large"), ("LA", make_t5.NORMAL)])
    assert "differ from the library's tokenizer" in fails(folder, entry_of("ankh3_large"), ModelError)


def test_task_tokens_may_be_added_tokens(tmp_path, entry_of):
    """[NLU] and [S2S] from tokenizer_config.json when spiece.model lacks them; nowhere is an error naming them."""
    folder = spiece(tmp_path, "ankh3_large", make_t5.pieces("ankh3_large")[:-2])
    assert "no task token [NLU]" in fails(folder, entry_of("ankh3_large"))
    added = {str(100 + number): {"content": name} for number, name in enumerate(("[NLU]", "[S2S]"))}
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}))
    assert layout_of(folder, entry_of("ankh3_large"), "[S2S]").encode("M") == [101, 19, 1]
    # what changes the ids must change the name in the store, which is made from the files of the catalogue
    assert "tokenizer_config.json" in entry_of("ankh3_large")["weights"]["optional"]
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": {"1": "[NLU]"}}))
    assert "not a tokenizer's configuration" in fails(folder, entry_of("ankh3_large"))


@pytest.mark.parametrize("name", list(make_t5.KINDS))
def test_stub_vocabulary(tmp_path, entry_of, name):
    """The 104 tokens transformers 5 makes up without a file, every residue unknown: an error, not vectors."""
    folder = make_t5.write(tmp_path, name)
    (folder / "spiece.model").unlink()
    assert len(T5Tokenizer.from_pretrained(str(folder))) == 104
    assert "spiece.model: vocabulary not found" in fails(folder, entry_of(name))
    extra = [(f"<extra_id_{number}>", make_t5.USER_DEFINED) for number in range(99, -1, -1)]
    spiece(folder, name, [*make_t5.SPECIAL, ("▁", make_t5.NORMAL), *extra], True)
    marker = "▁" if name.startswith("prott5") else ""
    assert f"the vocabulary has no piece {marker}L | found 104 pieces" in fails(folder, entry_of(name))


def test_vocabulary_of_the_other_kind(tmp_path, entry_of):
    """ProtT5's pieces under Ankh3's name and the other way round."""
    for name, other in (("prott5_xl", "ankh3_large"), ("ankh3_large", "prott5_xl")):
        folder = spiece(tmp_path / name, name, make_t5.pieces(other))
        assert "the vocabulary has no" in fails(folder, entry_of(name))


@pytest.mark.parametrize("letter", "AWX")
def test_missing_residue_is_named(tmp_path, entry_of, letter):
    for name, marker in (("prott5_xl", "▁"), ("ankh3_large", "")):
        kept = [piece for piece in make_t5.pieces(name) if piece[0] != marker + letter]
        folder = spiece(tmp_path / name, name, kept)
        assert f"spiece.model: the vocabulary has no piece {marker}{letter} |" in fails(folder, entry_of(name))


def test_rare_residues_an_ankh3_vocabulary_lacks(tmp_path, entry_of):
    """They are optional; a protein that holds one is refused by position, never encoded as unknown."""
    kept = [piece for piece in make_t5.pieces("ankh3_large") if piece[0] != "U"]
    layout = layout_of(spiece(tmp_path, "ankh3_large", kept), entry_of("ankh3_large"), "[NLU]")
    with pytest.raises(InputError, match=r"residue 3 is no amino acid .* found U"):
        layout.encode("MEUP")


def test_other_special_tokens(tmp_path, entry_of):
    swapped = [make_t5.SPECIAL[1], make_t5.SPECIAL[0], *make_t5.pieces("prott5_xl")[2:]]
    message = fails(spiece(tmp_path, "prott5_xl", swapped), entry_of("prott5_xl"))
    assert "not a T5 vocabulary: special tokens" in message and "'pad': 1" in message


def test_more_pieces_than_the_embedding_has(tmp_path, entry_of):
    filler = [(f"<{number}>", make_t5.NORMAL) for number in range(240)]
    pieces = [*make_t5.pieces("ankh3_large")[:3], *filler, *make_t5.pieces("ankh3_large")[3:]]
    message = fails(spiece(tmp_path, "ankh3_large", pieces), entry_of("ankh3_large"))
    assert "the vocabulary does not fit config.json" in message and "below vocab_size 256" in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "not a SentencePiece vocabulary"),
        (b"no vocabulary at all", "not a SentencePiece vocabulary"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 237990\n", "a Git LFS pointer"),
    ],
)
def test_file_that_is_no_vocabulary(tmp_path, entry_of, content, expected):
    folder = make_t5.write(tmp_path, "prott5_xl")
    (folder / "spiece.model").write_bytes(content)
    assert expected in fails(folder, entry_of("prott5_xl"))


def test_unknown_kind_of_tokens(tmp_path, entry_of):
    entry = {**entry_of("prott5_xl"), "tokens": "ank3"}
    with pytest.raises(InputError, match="unknown tokens of ProtT5 XL U50"):
        network.describe(make_t5.write(tmp_path, "prott5_xl"), entry)

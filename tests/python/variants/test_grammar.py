"""Every way to write a variant: tables of plm_encoders.md 1.1 and 1.3, expected values written by hand."""

from __future__ import annotations

import pytest
from mavehgvs import Variant as HgvsVariant

from vcbench.variants.genes import parse_genes
from vcbench.variants.grammar import Grammar, LabelError

TP53 = Grammar(gene="TP53", genes=("TP53", "KRAS"))

#: label -> (canonical id, consequence, HGVS protein name)
READ = {
    # substitutions
    "A276V": ("TP53~A276V", "missense", "p.Ala276Val"),
    "p.A276V": ("TP53~A276V", "missense", "p.Ala276Val"),
    "p.Ala276Val": ("TP53~A276V", "missense", "p.Ala276Val"),
    "Ala276Val": ("TP53~A276V", "missense", "p.Ala276Val"),
    "p.(Ala276Val)": ("TP53~A276V", "missense", "p.Ala276Val"),
    "(A276V)": ("TP53~A276V", "missense", "p.Ala276Val"),
    " A276V ": ("TP53~A276V", "missense", "p.Ala276Val"),
    "A123G": ("TP53~A123G", "missense", "p.Ala123Gly"),  # never DNA
    "A0V": ("TP53~A0V", "missense", "p.Ala0Val"),  # refused by the range check
    "U10C": ("TP53~U10C", "missense", "p.Sec10Cys"),
    "p.Sec10Cys": ("TP53~U10C", "missense", "p.Sec10Cys"),
    "B10A": ("TP53~B10A", "missense", "p.Asx10Ala"),
    # stops
    "Q331*": ("TP53~Q331*", "nonsense", "p.Gln331Ter"),
    "Q331Ter": ("TP53~Q331*", "nonsense", "p.Gln331Ter"),
    "p.Gln331Ter": ("TP53~Q331*", "nonsense", "p.Gln331Ter"),
    "p.Gln331Stop": ("TP53~Q331*", "nonsense", "p.Gln331Ter"),
    "p.Gln331*": ("TP53~Q331*", "nonsense", "p.Gln331Ter"),
    # synonymous and wild type
    "R175R": ("TP53~R175R", "synonymous", "p.Arg175="),
    "p.Arg175Arg": ("TP53~R175R", "synonymous", "p.Arg175="),
    "R175=": ("TP53~R175R", "synonymous", "p.Arg175="),
    "p.Arg175=": ("TP53~R175R", "synonymous", "p.Arg175="),
    "p.(Arg175=)": ("TP53~R175R", "synonymous", "p.Arg175="),
    "p.=": ("TP53~WT", "wt", "p.="),
    "p.(=)": ("TP53~WT", "wt", "p.="),
    "=": ("TP53~WT", "wt", "p.="),
    "WT": ("TP53~WT", "wt", "p.="),
    "wt": ("TP53~WT", "wt", "p.="),
    "REF": ("TP53~WT", "wt", "p.="),
    "TP53~REF": ("TP53~WT", "wt", "p.="),
    # frameshifts, start, extensions, unknown
    "R175fs": ("TP53~R175fs", "frameshift", "p.Arg175fs"),
    "p.Arg175fs": ("TP53~R175fs", "frameshift", "p.Arg175fs"),
    "p.Arg175ProfsTer12": ("TP53~R175Pfs*12", "frameshift", "p.Arg175ProfsTer12"),
    "R175Pfs*12": ("TP53~R175Pfs*12", "frameshift", "p.Arg175ProfsTer12"),
    "p.(Arg175fs*12)": ("TP53~R175fs*12", "frameshift", "p.Arg175fsTer12"),
    "p.Met1?": ("TP53~M1?", "start_lost", "p.Met1?"),
    "M1?": ("TP53~M1?", "start_lost", "p.Met1?"),
    "p.(Met1?)": ("TP53~M1?", "start_lost", "p.Met1?"),
    "p.Ter394GlnextTer17": ("TP53~*394Qext*17", "extension", "p.Ter394GlnextTer17"),
    "p.*394Qext*17": ("TP53~*394Qext*17", "extension", "p.Ter394GlnextTer17"),
    "p.Met1ext-5": ("TP53~M1ext-5", "extension", "p.Met1ext-5"),
    "p.?": ("TP53~?", "unknown", "p.?"),
    # deletions, duplications, insertions
    "R175del": ("TP53~R175del", "inframe_del", "p.Arg175del"),
    "p.Arg175_Glu180del": ("TP53~R175_E180del", "inframe_del", "p.Arg175_Glu180del"),
    "R175_E180del": ("TP53~R175_E180del", "inframe_del", "p.Arg175_Glu180del"),
    "p.Arg175dup": ("TP53~R175dup", "inframe_ins", "p.Arg175dup"),
    "K2_G3insQSK": ("TP53~K2_G3insQSK", "inframe_ins", "p.Lys2_Gly3insGlnSerLys"),
    "p.Lys2_Gly3insGlnSerLys": ("TP53~K2_G3insQSK", "inframe_ins", "p.Lys2_Gly3insGlnSerLys"),
    "p.Arg175_Glu177delinsTrpVal": ("TP53~R175_E177delinsWV", "delins_inframe", "p.Arg175_Glu177delinsTrpVal"),
    "p.Arg175delinsHis": ("TP53~R175H", "missense", "p.Arg175His"),
    # several changes on one protein
    "R175H;R248Q": ("TP53~R175H;R248Q", "missense_multi", "p.[Arg175His;Arg248Gln]"),
    "R248Q,R175H": ("TP53~R175H;R248Q", "missense_multi", "p.[Arg175His;Arg248Gln]"),
    "R175H:R248Q": ("TP53~R175H;R248Q", "missense_multi", "p.[Arg175His;Arg248Gln]"),
    "R175H_R248Q": ("TP53~R175H;R248Q", "missense_multi", "p.[Arg175His;Arg248Gln]"),
    "p.[Arg175His;Arg248Gln]": ("TP53~R175H;R248Q", "missense_multi", "p.[Arg175His;Arg248Gln]"),
    "p.[(Arg175His);(Arg248Gln)]": ("TP53~R175H;R248Q", "missense_multi", "p.[Arg175His;Arg248Gln]"),
    "AG11TD": ("TP53~A11T;G12D", "missense_multi", "p.Ala11_Gly12delinsThrAsp"),
    "p.Ala11_Gly12delinsThrAsp": ("TP53~A11T;G12D", "missense_multi", "p.Ala11_Gly12delinsThrAsp"),
    "AG11AD": ("TP53~G12D", "missense", "p.Gly12Asp"),  # same protein as G12D
    "P36P;R175H": ("TP53~R175H", "missense", "p.Arg175His"),
    "R175H;Q331*": ("TP53~R175H;Q331*", "nonsense", "p.[Arg175His;Gln331Ter]"),
    # prefixes and suffixes
    "TP53~R175H": ("TP53~R175H", "missense", "p.Arg175His"),
    "TP53~R175H+ctrl": ("TP53~R175H", "missense", "p.Arg175His"),
    "ctrl+TP53~R175H": ("TP53~R175H", "missense", "p.Arg175His"),
    "TP53_R175H": ("TP53~R175H", "missense", "p.Arg175His"),
    "TP53_p.R175H": ("TP53~R175H", "missense", "p.Arg175His"),
    "TP53:p.Arg175His": ("TP53~R175H", "missense", "p.Arg175His"),
    "TP53 R175H": ("TP53~R175H", "missense", "p.Arg175His"),
    "KRAS_K5E": ("KRAS~K5E", "missense", "p.Lys5Glu"),
    "C3_R102G": ("C3~R102G", "missense", "p.Arg102Gly"),
    "TP53~R175H;R248Q+ctrl": ("TP53~R175H;R248Q", "missense_multi", "p.[Arg175His;Arg248Gln]"),
}

UNREADABLE = (
    "a276v", "p.ALA276VAL", "A276Val", "X10A", "c.123A>G", "123A>G", "TP53~A~B", "E63K-", "KRAS_p.Thr127Thr.381AG",
    "unassigned", "multiple", "TP53", "R0175H", "p.Glu180_Arg175del", "K2_G5insQ", "R175H;R175C", "R175H;R248Q,G245S",
    "AG11T", "R175", "175H", "J10A", "R175J", "", "+", "R175H+", "WT;R175H", "R175ins", "p.Arg175_Cys176_foo",
)  # fmt: skip


@pytest.mark.parametrize("label", READ)
def test_label_is_read(label: str) -> None:
    (variant,) = TP53.parse(label)
    assert (variant.id, variant.consequence, variant.hgvs_p) == READ[label]


@pytest.mark.parametrize("label", UNREADABLE)
def test_label_is_refused(label: str) -> None:
    with pytest.raises(LabelError) as caught:
        TP53.parse(label)
    assert caught.value.code == "unparsable"


def test_canonical_names_are_read_back_as_themselves() -> None:
    for name, consequence, hgvs in READ.values():
        for text in (name, f"{name.split('~')[0]}~{hgvs}"):
            (variant,) = TP53.parse(text)
            assert (variant.id, variant.consequence, variant.hgvs_p) == (name, consequence, hgvs)


def test_hgvs_names_are_valid_for_an_independent_parser() -> None:
    kinds = {"missense", "synonymous", "missense_multi", "inframe_del", "inframe_ins", "delins_inframe", "nonsense"}
    beyond = ("Asx", "Sec", "Ala0")  # non-standard residues, position 0
    names = [hgvs for _, kind, hgvs in READ.values() if kind in kinds and not any(word in hgvs for word in beyond)]
    checked = [HgvsVariant(hgvs) for hgvs in names]
    assert len(checked) > 30


def test_accession_is_kept_and_leaves_the_gene_open() -> None:
    for label, accession in {
        "NP_000537.3:p.Arg175His": "NP_000537.3",
        "ENSP00000269305.4:p.R175H": "ENSP00000269305.4",
        "P04637-2:R175H": "P04637-2",
        "TP53~P04637:R175H": "P04637",
    }.items():
        (variant,) = TP53.parse(label)
        assert (variant.accession, variant.name) == (accession, "R175H")


def test_several_alleles_of_one_cell_are_not_cut_at_the_plus() -> None:
    alleles = TP53.parse("TP53~Y220C+TP53~Y220D")
    assert [allele.id for allele in alleles] == ["TP53~Y220C", "TP53~Y220D"]


def test_controls_are_no_variant() -> None:
    assert TP53.parse("ctrl") == TP53.parse("ctrl+ctrl") == TP53.parse("control") == ()


def test_options() -> None:
    assert Grammar(gene="G", x_is_stop=True).parse("Q331X")[0].consequence == "nonsense"
    with pytest.raises(LabelError, match="--x-is-stop") as caught:
        TP53.parse("Q331X")
    assert caught.value.code == "nonstandard_residue"
    with pytest.raises(LabelError, match="20 standard"):
        TP53.parse("R175U")
    assert Grammar(gene="G", allow_nonstandard=True).parse("R175U")[0].name == "R175U"
    lower = Grammar(gene="G", ignore_case=True)
    assert [lower.parse(text)[0].name for text in ("a276v", "p.a276v", "ag11td")] == ["A276V", "A276V", "A11T;G12D"]
    with pytest.raises(LabelError):
        lower.parse("ala276val")


def test_a_label_without_gene_needs_one() -> None:
    with pytest.raises(LabelError, match="--gene") as caught:
        Grammar().parse("R175H")
    assert caught.value.code == "gene_missing"


def test_a_known_gene_that_looks_like_a_variant_is_a_prefix() -> None:
    assert Grammar(genes=("A2M",)).parse("A2M_R175H")[0].id == "A2M~R175H"


@pytest.mark.parametrize(
    ("label", "separator", "genes"),
    [
        ("KLF1", "+", ("KLF1",)), ("A+ctrl", "+", ("A",)), ("ctrl+A", "+", ("A",)), ("SET+KLF1", "+", ("KLF1", "SET")),
        ("KLF1_SET", "_", ("KLF1", "SET")), ("KLF1_SET", "+", ("KLF1_SET",)), ("NKX3-1", "+", ("NKX3-1",)),
        ("ctrl", "+", ()), ("control+control", "+", ()), ("A + B", "+", ("A", "B")),
    ],
)  # fmt: skip
def test_gene_labels(label: str, separator: str, genes: tuple[str, ...]) -> None:
    assert parse_genes(label, separator) == genes


@pytest.mark.parametrize("label", ["A+A", "A++B", "TP53~R175H", "A B", "", "A,B"])
def test_gene_labels_refused(label: str) -> None:
    with pytest.raises(LabelError):
        parse_genes(label)

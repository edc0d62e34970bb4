"""Labels that name no gene are told at every door, with the reason and the call that cleans them."""

import re

import anndata
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgnn import PerturbationModel
from kgnn.data import ConditionNames, parse_conditions, read_screen, split
from kgnn.data.labels import doubts, is_like_control, without_guide
from kgnn.errors import InputError
from tests.doors.conftest import GENES, relabelled, told

CASES = {  # labels → what the remedy must name
    "joined": ({"GENE0": "GENE0_GENE1", "GENE1": "GENE0,GENE1"}, r"separator=\[',', '_'\]"),
    "joined otherwise": ({"GENE0": "GENE0|GENE1", "GENE1": "GENE2 GENE3"}, r"separator=\[' ', '\|'\]"),
    "joined to control": ({"GENE0": "GENE0_ctrl", "GENE1": "NegCtrl0_GENE1"}, "separator='_'"),
    "missing": ({"GENE0": "nan", "GENE1": "None", "GENE2": "*"}, r"missing=\['nan', 'None', '\*'\].*drop the cells"),
    "missing otherwise": ({"GENE0": "unassigned", "GENE1": "N/A"}, r"missing=\['unassigned', 'N/A'\]"),
    "guides": ({"GENE6": "GENE7_sg1", "GENE7": "GENE7_sg2"}, "guides=True"),
    "guides otherwise": ({"GENE0": "GENE0-2", "GENE1": "GENE1_P1P2", "GENE2": "sgGENE2", "GENE3": "GENE3(1)"},
                         "guides=True"),
    "spacers": ({"GENE0": "GENE0_ACGTACGTACGTACGTACGT"}, "guides=True"),
    "controls": ({"GENE0": "AAVS1", "GENE1": "NTC", "GENE2": "safe-targeting"},
                 r"controls=\['AAVS1', 'NTC', 'safe-targeting'\]"),
    "numbered controls": ({"GENE0": "non-targeting_00012", "GENE1": "NegCtrl0", "GENE2": "INTERGENIC123"},
                          r"controls=\['non-targeting_00012', 'NegCtrl0', 'INTERGENIC123'\]"),
    "other controls": ({"GENE0": "eGFP", "GENE1": "Scramble_2", "GENE2": "mock", "GENE3": "no_guide"},
                       r"controls=\['eGFP', 'Scramble_2', 'mock', 'no_guide'\]"),
    "case": ({"GENE3": "gene3"}, "genes=adata.var_names"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_reason_and_the_remedy_are_told_once(screen, case):
    labels, remedy = CASES[case]
    (text,) = told(read_screen, relabelled(screen, **labels))
    assert re.search(rf"parse_conditions\(adata.obs\['condition'\], .*{remedy}", text), text
    n = len(labels)
    assert f"{n} names of perturbed genes in {12 * n} cells" in text
    assert all(repr(label) in text for label in labels.values())


@pytest.mark.parametrize("case", CASES)
def test_the_remedy_helps(screen, case):
    """What the warning says, done: no warning is left, and no label that is no gene."""
    adata = relabelled(screen, **CASES[case][0])
    (text,) = told(read_screen, adata)
    call = re.search(r"= kgnn\.data\.(parse_conditions\(.*?\))(, and drop|$)", text).group(1)
    adata.obs["condition"] = eval(call, {"parse_conditions": parse_conditions, "adata": adata})
    adata = adata[adata.obs["condition"].notna()].copy()
    assert told(read_screen, adata) == []
    assert {g for name in split(adata, "random_condition")["train"] for g in name.split("+")} <= set(GENES)


DOORS = ("read_screen", "fit of kg", "fit of gears", "fit of mean", "split", "leave_one_out", "training_cells",
         "evaluate", "noise_ceiling", "explained_share", "ablate", "kgnn train")  # fmt: skip


@pytest.mark.parametrize("door", DOORS)
def test_labels_are_told_at_every_door(screen, doors, door):
    assert set(doors) == set(DOORS)
    extra = screen[:12].copy()
    extra.obs["condition"] = "GENE7_sg1"
    extra.obs_names = [f"extra{i}" for i in range(12)]
    adata = anndata.concat([screen, extra])
    texts = told(doors[door], adata)
    assert any("'GENE7_sg1' (12 cells: a guide of GENE7?)" in text for text in texts), texts
    assert told(doors[door], screen) == []


def test_no_control_at_all_is_refused_with_the_likely_one(screen):
    (text,) = told(read_screen, relabelled(screen, control="NTC"))
    assert text.startswith("refused: no control cells")
    assert text.endswith("give others as control=['NTC']")
    assert read_screen(relabelled(screen, control="NTC"), control="NTC").conditions == [f"GENE{i}" for i in range(8)]


def test_genes_of_the_graph_and_measured_ones_are_no_doubt(screen):
    adata = relabelled(screen, GENE0="HLA-A", GENE1="NKX2-1", GENE2="AAVS1")
    assert told(lambda a: read_screen(a, graph={"HLA-A", "NKX2-1", "AAVS1"}), adata) == []
    assert told(read_screen, relabelled(screen, GENE0="HLA-A", GENE1="NKX2-1", GENE2="MT-CO1")) == []


def test_beside_a_graph_also_what_has_no_likely_reason_is_told():
    """Unless it is most: then the graph's coverage is the matter, and told as such."""
    cells = {"A+B": 3, "B": 4, "C": 2, "control": 9}

    def found(*graph):
        return [(doubt.part, doubt.cells, doubt.option) for doubt in doubts(cells, ConditionNames(), ["A"], *graph)]

    assert found() == []
    assert found({"C", "D"}) == [("B", 7, "")]
    assert found({"D"}) == []


def test_a_gene_that_graph_and_data_lack_is_told_in_fit(screen, kg, parts):
    strange = relabelled(screen, GENE7="QQ77")
    strange.obs["condition"] = strange.obs["condition"].astype(str)
    texts = told(PerturbationModel(kg).fit, strange, parts | {"test": []})
    assert len(texts) == 1
    assert "'QQ77' (12 cells: neither measured nor in the graph)" in texts[0]
    assert told(PerturbationModel(encoder="mean").fit, strange, parts | {"test": []}) == []


@pytest.mark.parametrize(
    ("label", "options", "expected"),
    [
        ("B_A", {"separator": "_"}, "A+B"),
        ("A,B;C", {"separator": [",", ";"]}, "A+B+C"),
        ("A_sg1_B_sg2", {"separator": "_", "guides": True}, "A+B"),
        ("A_sg1", {"separator": "_", "guides": True}, "A"),
        ("HLA-A_2", {"guides": True}, "HLA-A"),
        ("HLA-A-2", {"guides": True, "genes": ["HLA-A"]}, "HLA-A"),
        ("NKX2-1", {"guides": True}, "NKX2-1"),
        ("NKX2-1-1", {"guides": True, "genes": ["NKX2-1", "NKX2"]}, "NKX2-1"),
        ("A.v3", {"guides": r"\.v\d$"}, "A"),
        ("NTC_4", {"controls": "NTC*"}, "control"),
        ("NTC_4+A", {"controls": "NTC*"}, "A"),
        ("NTC_4", {"controls": "NTC", "guides": True}, "control"),
        ("ctrl", {}, "control"),
        ("A+ctrl", {}, "A"),
        ("nan", {"missing": "nan"}, None),
        ("gene3", {"genes": ["GENE3"]}, "GENE3"),
        (float("nan"), {}, None),
        (3.0, {}, "3"),
        ("A+A", {}, "A"),
    ],
)
def test_parsing_by_hand(label, options, expected):
    assert parse_conditions([label], **options).tolist() == [expected]


def test_parsing_keeps_the_index_and_refuses_what_leaves_nothing():
    labels = pd.Series(["A", None], index=["x", "y"], name="condition")
    found = parse_conditions(labels)
    assert (list(found.index), found.name, found.tolist()) == (["x", "y"], "condition", ["A", None])
    with pytest.raises(InputError, match="'_A': nothing is left of a part"):
        parse_conditions(["_A"], separator="_")
    with pytest.raises(InputError, match="no regular expression"):
        parse_conditions(["A"], guides="(")


@given(st.lists(st.sampled_from(GENES), min_size=1, max_size=4, unique=True), st.sampled_from(["_", ",", "|", "-"]),
       st.booleans())  # fmt: skip
def test_any_join_and_guides_come_back(genes, join, guides):
    label = join.join(genes)
    if guides:
        label += "_sg3"
    found = parse_conditions([label], separator=join, guides=guides, genes=GENES).iloc[0]
    assert found == "+".join(sorted(genes))


@pytest.mark.parametrize(
    "word", ["NT5E", "SCRIB", "NEGR1", "SAFB", "WTAP", "EVX1", "GFPT1", "INTS1", "LUC7L", "CTRL1B"]
)
def test_genes_that_look_a_little_like_controls_are_none(word):
    assert not is_like_control(word)


def test_endings_by_hand():
    assert without_guide("A_sg1", ()) == "A"
    assert without_guide("A-1", ()) == "A-1"
    assert without_guide("A-1", {"A"}) == "A"
    assert without_guide("KO_A", {"A"}) == "A"
    assert without_guide("A_KO", ()) == "A"

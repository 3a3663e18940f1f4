"""The name of the disease, and privileged values, in every spelling that keyboards and PDFs make of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mint_core.errors import DataError
from mint_core.plugin import mask_privileged
from mint_gestalt.sources.masking import mask_disease, nearest, resembles
from mint_gestalt.task import RareDisease

SPELLINGS = [
    ("Marfan syndrome", "Marfan's syndrome"), ("Marfan syndrome", "Marfan\u2019s syndrome"),
    ("Marfan syndrome", "MARFANS SYNDROME"), ("Marfan syndrome", "Marfan` s syndrome"),
    ("Marfan's syndrome", "Marfan syndrome"), ("Marfan syndrome", "Marfan syndromes"),
    ("Marfan syndrome", "Mar-\nfan syn-\r\ndrome"), ("Marfan syndrome", "Mar- fan syndrome"),
    ("Marfan syndrome", "Mar\u00adfan syn\u00addrome"), ("Marfan syndrome", "Marfan\u00a0syndrome"),
    ("Marfan syndrome", "Marfan\u202fsyndrome"), ("Marfan syndrome", "Marfan\nsyndrome"),
    ("Marfan syndrome", "Marfansyndrome"), ("Marfan syndrome", "Marfan-syndrome"),
    ("Marfan syndrome", "Mar\u200bfan syndrome"), ("Marfan syndrome", "\uff2d\uff41\uff52\uff46\uff41\uff4e syndrome"),
    ("Marfan syndrome", "Marfan disease"), ("Graves disease", "Graves' disease"), ("Graves disease", "Grave's disease"),
    ("Huntington disease", "Huntington\u2019s disease"), ("Cystic fibrosis", "cystic \ufb01brosis"),
    ("Duchenne muscular dystrophy", "Duchenne muscular dystrophies"), ("Otosclerosis major", "otoscleroses major"),
    ("M\u00e9ni\u00e8re disease", "Meniere's disease"), ("Meniere disease", "Me\u0301nie\u0300re disease"),
    ("M\u00f6bius syndrome", "Moebius syndrome"), ("Moebius syndrome", "M\u00f6bius syndrome"),
    ("Haemophilia B", "hemophilia B"), ("Hemophilia B", "haemophilia B"), ("Wilms tumor", "Wilms' tumour"),
    ("Wolf-Hirschhorn syndrome", "Wolf\u2011Hirschhorn syndrome"),
    ("Wolf-Hirschhorn syndrome", "Wolf \u2013 Hirschhorn syndrome"),
    ("Usher syndrome type II", "Usher syndrome type 2"), ("Usher syndrome type 2", "Usher syndrome, type II"),
    ("KMT2D-related disorder", "KMT-2D related disorder"), ("Trisomy 21", "trisomy21"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "spelt"), SPELLINGS)
def test_every_spelling_of_a_name_is_masked_and_counted(name, spelt):
    assert mask_disease(f"He has {spelt}, and {spelt}.", [name]) == ("He has [disease], and [disease].", 2)


PARENTS = [
    ("Kabuki syndrome 1", "Kabuki syndrome"), ("Marfan syndrome, neonatal", "Marfan syndrome"),
    ("Ehlers-Danlos syndrome, vascular type", "Ehlers-Danlos syndrome"),
    ("Classic Ehlers-Danlos syndrome", "Ehlers\u2013Danlos syndrome"),
    ("Charcot-Marie-Tooth disease, axonal, type 2A", "Charcot Marie Tooth disease"),
    ("Noonan syndrome with multiple lentigines", "Noonan's syndrome"), ("Usher syndrome type 2A", "Usher syndrome"),
    ("Autosomal dominant polycystic kidney disease", "polycystic kidney disease"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "parent"), PARENTS)
def test_the_parent_of_a_subtype_is_masked(name, parent):
    assert mask_disease(f"It is {parent}.", [name]) == ("It is [disease].", 1)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Cutis laxa, autosomal recessive, type IID", "She has cutis laxa."),
        ("Microcephaly and seizures syndrome", "She has microcephaly and no seizure."),
        ("Deafness, autosomal recessive 1A", "Deafness since birth."), ("Marfan syndrome", "Marfanoid habitus."),
        ("Down syndrome", "She lies down."),
    ],
)  # fmt: skip
def test_findings_and_other_words_stay(name, text):
    assert mask_disease(text, [name]) == (text, 0)


SHORT = [
    ("Marfan syndrome", "Marfan"), ("Marfan syndrome, neonatal", "Marfan\u2019s"), ("MARFAN SYNDROME", "Marfan"),
    ("Ehlers-Danlos syndrome, vascular type", "Ehlers Danlos"), ("Ehlers-Danlos syndrome, vascular type", "EDS"),
    ("Cornelia de Lange syndrome 1", "Cornelia de Lange"), ("Hereditary hemorrhagic telangiectasia", "HHT"),
    ("Congenital disorder of glycosylation", "CDG"), ("CHARGE syndrome", "CHARGE"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "short"), SHORT)
def test_an_eponym_alone_and_initials_are_masked(name, short):
    assert mask_disease(f"Maybe {short}, we think.", [name]) == ("Maybe [disease], we think.", 1)


@pytest.mark.parametrize(
    "spelt", ["KMT2D", "KMT-2D", "KMT2-D", "KMT 2D", "kmt2d", "KMT\u20112D", "KMT\u00ad2D", "Kmt2d's"]
)
def test_a_gene_is_masked_however_it_is_written(spelt):
    text, count = mask_privileged(f"A variant in {spelt} was found.", {"gene": "KMT2D"})
    assert (text.replace("]'s", "]"), count) == ("A variant in [gene] was found.", 1)


def test_a_short_gene_takes_nothing_else_away():
    told = "F 12 years, 3 c. and c3; at M."
    assert mask_privileged(told, {"gene": "F12; C3; ATM"}) == (told, 0)
    assert mask_privileged("F12, F-12, C3, NKX2.5", {"gene": "F12; C3; NKX2-5"}).times == 4


# --- in a table


ROWS = "".join(f"{i},A tall boy of {i},Marfan syndrome,FBN1\nz{i},A girl of {i},Turner,SHOX\n" for i in range(9))


def load(tmp_path: Path, *told: str, label: str = "Marfan syndrome", **options):
    rows = "".join(f'n{i},"{text}",{label},FBN1\n' for i, text in enumerate(told))
    (tmp_path / "notes.csv").write_text(f"id,text,label,gene\n{ROWS}{rows}", encoding="utf-8")
    return RareDisease(RareDisease.Config(source="csv", data=tmp_path / "notes.csv", **options)).load()


def test_what_was_masked_is_counted(tmp_path):
    data = load(tmp_path, "Known Marfan\u2019s syndrome, FBN-1; Marfans syndrome.", "Known Marfan syndrome.")
    texts = {sample.id: sample.text for sample in data.samples}
    assert texts["n0"] == "Known [disease], [gene]; [disease]."
    assert data.facts["texts that named the disease"] == 2
    assert data.facts["names of the disease in them"] == 3
    assert data.facts["texts that held a privileged value"] == 1
    assert data.facts["privileged values in them"] == 1
    with pytest.raises(DataError, match="the text holds the name of the disease"):
        load(tmp_path, "Known Marfan\u2019s syndrome.", named_in_text="refuse")


def test_a_label_inside_the_disease_is_its_parent(tmp_path):
    told = ["Sure of Marfan syndrome here."] * 4
    data = load(tmp_path, *told, label="Lethal Marfan syndrome of Smith", privileged=())
    assert {sample.text for sample in data.samples if sample.id[0] == "n"} == {"Sure of [disease] here."}


def test_the_name_of_an_id_is_masked_too(tmp_path):
    rows = "".join(f'{i},"Known Marfan syndrome {"abcdef"[i]}.",MFS as we say,OMIM:154700\n' for i in range(6))
    rows += "".join(f"z{i},A girl of {i},Turner,\n" for i in range(6))
    (tmp_path / "notes.csv").write_text(f"id,text,label,disease_id\n{rows}", encoding="utf-8")
    data = RareDisease(RareDisease.Config(source="csv", data=tmp_path / "notes.csv", privileged=())).load()
    assert all("[disease]" in sample.text for sample in data.samples if sample.label == "MFS as we say")


def test_a_check_samples_the_texts_for_the_truth_under_edit_distance(tmp_path):
    with pytest.warns(UserWarning, match=r"2 of 20 texts .* for example notes.csv, row 20, notes.csv, row 21;"):
        data = load(tmp_path, "Known Marfn syndrome.", "Known Marfan syndrom, Morfan syndrone.")
    assert data.facts["of 20 texts looked at, hold something like the name of their disease"] == 2


def test_the_check_is_silent_where_nothing_is_left(tmp_path):
    assert not [fact for fact in load(tmp_path, "Known Marfan syndrome.").facts if "looked at" in fact]


@pytest.mark.parametrize(
    ("text", "like"),
    [
        ("Marfann syndrome", True),
        ("Mafran syndrome", True),
        ("short stature", False),
        ("a syndrome of some kind", False),
    ],
)
def test_what_resembles_a_name(text, like):
    assert resembles(text, ["Marfan syndrome"]) is like


def test_a_finding_does_not_resemble_the_series_that_is_called_after_it():
    assert not resembles("She has microcephaly.", ["Microcephaly 5, primary, autosomal recessive"])
    assert not resembles("An aspect syndrome.", ["Apert syndrome"])
    assert resembles("An Appert syndrome.", ["Apert syndrome"])


def test_the_least_edit_distance_to_a_part_of_a_text():
    def slow(pattern: str, text: str) -> int:
        row = [0] * (len(text) + 1)
        for i, mark in enumerate(pattern, 1):
            above, row = row, [i]
            for j, other in enumerate(text, 1):
                row.append(min(above[j - 1] + (mark != other), above[j] + 1, row[-1] + 1))
        return min(row)

    texts = ["abracadabra", "xxmarfnyy", "aaaa", "", "bdacbdacb" * 3]
    for pattern in ("abr", "marfan", "ba", "cadb", "dacbdd" * 12):
        for text in texts:
            assert nearest(pattern, text) == slow(pattern, text)

"""Label spaces: from the patients, from files of names, from OMIM; names that collide; diseases that are unknown."""

import json
from collections import Counter
from pathlib import Path

import pytest

from mint_core.errors import DataError
from mint_core.plugin import GivenLabel as Disease
from mint_core.plugin import read_labels
from mint_gestalt import ontology
from mint_gestalt.sources import labels
from mint_gestalt.sources.cases import Case
from mint_gestalt.sources.options import RareDiseaseOptions
from mint_gestalt.task import RareDisease

PUBLISHED = Path(__file__).parents[3].parent / "shared" / "data" / "rare_disease" / "gmdb_label_names.json"
DROP = RareDiseaseOptions(shared_aliases="drop")
REFUSE = RareDiseaseOptions()


def case(name: str, *ids: str, number: int = 0) -> Case:
    names = labels.names_of(name)
    return Case(f"row {number}", str(number), str(number), None, str(number), disease_ids=ids, disease_names=names)


def settled(*diseases: Disease, options=REFUSE):
    facts: Counter[str] = Counter()
    return labels.settle(diseases, options, facts), facts


def loaded(hospital, **options):
    return RareDisease(RareDisease.Config(source="phenopackets", data=hospital, **options)).load()


# --- from the patients


def test_the_most_frequent_spelling_names_the_disease_and_the_others_are_aliases():
    cases = [case("Kabuki syndrome 1", "OMIM:147920")] * 2
    cases += [case("Niikawa-Kuroki syndrome", "OMIM:147920"), case("KABUKI SYNDROME 1", "OMIM:147920")]
    cases += [case("Zeta disease", "OMIM:1"), case("alpha disease", "OMIM:2")]
    space = labels.choose(cases, REFUSE, Counter()).labels
    assert space.names == ("alpha disease", "Kabuki syndrome 1", "Zeta disease")
    assert space.all_names("Kabuki syndrome 1") == ("Kabuki syndrome 1", "Niikawa-Kuroki syndrome")
    assert space.find("kabuki SYNDROME-1") == "Kabuki syndrome 1"


def test_ids_are_no_names():
    space = labels.choose([case("A disease", "OMIM:1"), case("B disease", "OMIM:2")], REFUSE, Counter()).labels
    assert space.find("OMIM:1") is None


def test_without_ids_the_name_decides():
    cases = [case("Alpha disease"), case("alpha  disease"), case("Beta; BET")]
    space = labels.choose(cases, REFUSE, Counter()).labels
    assert space.names == ("Alpha disease", "Beta")
    assert space.find("bet") == "Beta"


def test_no_patient_with_a_disease():
    with pytest.raises(DataError, match="No patient has a disease, so there is nothing to rank"):
        labels.choose([case("")], REFUSE, Counter())


# --- names that collide


def test_two_ids_of_one_name_are_one_label():
    both, facts = settled(Disease("Same", (), ("OMIM:1",)), Disease("SAME", ("S",), ("OMIM:2",)), Disease("Other"))
    assert both.labels.names == ("Same", "Other")
    assert both.find(case("?", "OMIM:1")) == both.find(case("?", "OMIM:2")) == "Same"
    assert facts == {"diseases merged with one of the same name": 1}


COLLIDING = (Disease("Alpha disease", ("MRD-1", "AD")), Disease("Beta disease", ("mrd 1", "BD")))


def test_an_alias_of_two_labels_is_refused_with_both_names():
    with pytest.raises(DataError) as caught:
        settled(*COLLIDING)
    assert str(caught.value) == (
        "The labels 'Alpha disease' and 'Beta disease' share the name 'mrd 1', so an answer could mean either; rename "
        "one, or drop such aliases with --set task.shared_aliases=drop."
    )


def test_an_alias_of_two_labels_can_be_dropped_from_both():
    both, facts = settled(*COLLIDING, options=DROP)
    assert both.labels.aliases == (("AD",), ("BD",))
    assert facts == {"aliases dropped, two diseases share them": 1}


def test_an_alias_that_is_another_disease_is_dropped_and_the_disease_keeps_its_name():
    pair = (Disease("Alpha disease", ("Beta disease", "AD")), Disease("Beta disease"))
    with pytest.raises(DataError, match="'Beta disease' and 'Alpha disease' share the name 'beta disease'"):
        settled(*pair)
    both, _ = settled(*pair, options=DROP)
    assert both.labels.aliases == (("AD",), ())
    assert both.labels.find("beta disease") == "Beta disease"


def test_an_alias_that_repeats_its_own_name_is_no_collision():
    one, facts = settled(Disease("Alpha disease", ("ALPHA DISEASE", "A-1", "a 1")), Disease("Beta"))
    assert one.labels.aliases == (("A-1",), ())
    assert not facts


def test_names_so_long_that_they_may_be_notes_are_not_quoted():
    note = "Patient John Smith of Leeds " + "has a long story " * 9
    with pytest.raises(DataError, match=r"^The labels \(a long name\) and 'Beta' share the name 'x', so"):
        settled(Disease(note, ("x",)), Disease("Beta", ("X",)))
    with pytest.raises(
        DataError, match=r"^The diseases \(a long name\) and \(a long name\) differ in punctuation only"
    ):
        settled(Disease(note + "+"), Disease(note + "-"))


def test_an_id_is_a_name_only_where_there_is_no_other():
    cases = [case("OMIM:1", "OMIM:1"), case("OMIM:1", "OMIM:1"), case("Alpha", "OMIM:1"), case("OMIM:2", "OMIM:2")]
    space = labels.choose(cases, REFUSE, Counter()).labels
    assert space.names == ("Alpha", "OMIM:2")
    assert space.aliases == ((), ())


def test_names_that_differ_in_plus_and_minus_only_are_refused():
    with pytest.raises(DataError, match=r"'HER2\+' and 'HER2-' differ in punctuation only"):
        settled(Disease("HER2+"), Disease("HER2-"))


# --- from files


def written(tmp_path, name: str, text: str) -> Path:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / name


def test_a_json_index_is_read_in_the_order_of_its_numbers(tmp_path):
    path = written(tmp_path, "n.json", '{"1": "BETA SYNDROME; BS; BSY", "0": "Alpha", "2": "x"}')
    read = read_labels(path)
    assert [disease.name for disease in read] == ["Alpha", "BETA SYNDROME", "x"]
    assert read[1].aliases == ("BS", "BSY")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("n.txt", "Alpha; A\n\n  Beta  \n"),
        ("n.json", '["Alpha;A", "Beta"]'),
        ("n.csv", "id,name,aliases\nOMIM:1,Alpha,A\nOMIM:2,Beta,\n"),
    ],
)
def test_other_files_of_names(tmp_path, name, text):
    read = read_labels(written(tmp_path, name, text))
    assert [(disease.name, disease.aliases) for disease in read] == [("Alpha", ("A",)), ("Beta", ())]
    assert [disease.ids for disease in read] == ([("OMIM:1",), ("OMIM:2",)] if name == "n.csv" else [(), ()])


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("n.json", "{", "is not valid JSON"),
        ("n.json", '{"0": "A", "2": "B"}', "must count its labels from 0 without a gap"),
        ("n.json", '{"0": "A", "1": ""}', "an entry is no name"),
        ("n.json", '{"0": 3}', "an entry is no name"),
        ("n.json", "3", "an entry is no name"),
        ("n.txt", "\n \n", "holds no names"),
        ("n.csv", "label\nA\n", "has no column 'name'"),
    ],
)
def test_bad_files_of_names(tmp_path, name, text, sentence):
    with pytest.raises(DataError, match=sentence):
        read_labels(written(tmp_path, name, text))


def test_a_missing_file_of_names(tmp_path):
    with pytest.raises(DataError, match="cannot be read as UTF-8 text"):
        read_labels(tmp_path / "absent.txt")


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="the names of GestaltMML do not lie in ../shared/data")
def test_the_528_names_of_gestaltmml_load_whole_and_in_order():
    facts: Counter[str] = Counter()
    space = labels.settle(read_labels(PUBLISHED), REFUSE, facts).labels
    index = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    assert len(space) == 528
    assert not facts
    assert all(index[str(i)].startswith(name) for i, name in enumerate(space.names))
    assert sum(len(aliases) for aliases in space.aliases) == 380
    assert space.find("wbs") == "WILLIAMS-BEUREN SYNDROME"


def test_omim():
    facts: Counter[str] = Counter()
    known = labels.choose([], RareDiseaseOptions(labels="omim"), facts)
    assert len(known.labels) + facts["diseases merged with one of the same name"] == len(list(ontology.diseases()))
    assert len(known.labels) > 8000
    assert known.find(case("whatever it is called", "OMIM:147920")) == "Kabuki Syndrome 1"


# --- the task


def test_a_disease_outside_a_given_space_is_refused_or_counted(hospital):
    given = ("Alphan syndrome", "Betan syndrom", "Gamman disease")
    with pytest.raises(DataError) as caught:
        loaded(hospital, labels=given)
    assert str(caught.value) == (
        "cohort/PMID_20_a.json: the disease 'Betan syndrome' is not in the label space; did you mean 'Betan syndrom'?; "
        "mend the name, or leave such patients out with --set task.unknown_labels=drop."
    )
    data = loaded(hospital, labels=given, unknown_labels="drop")
    assert data.facts["left out, their disease is not in the label space"] == 20
    assert data.labels.names == given
    assert {sample.label for sample in data.samples} == {"Alphan syndrome", "Gamman disease"}


def test_a_space_that_holds_none_of_the_diseases(hospital):
    with pytest.raises(DataError, match="No patient has a disease of the label space"):
        loaded(hospital, labels=("One", "Two"), unknown_labels="drop")


def test_ids_that_were_found_by_name_find_other_spellings():
    cases = [case("Alphan syndrome", "OMIM:1"), case("quite another name", "OMIM:1")]
    known = labels.choose(cases, RareDiseaseOptions(labels=("ALPHAN SYNDROME", "B")), Counter())
    assert [known.find(one) for one in cases] == ["ALPHAN SYNDROME", "ALPHAN SYNDROME"]


def test_what_may_be_a_note_is_not_quoted(tmp_path):
    path = tmp_path / "notes.csv"
    path.write_text("text,label\nAlpha," + "private word " * 20 + "\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        RareDisease(RareDisease.Config(source="csv", data=path, labels=("A", "B"))).load()
    assert "private" not in str(caught.value)
    assert "notes.csv, row 2: the disease is not in the label space" in str(caught.value)

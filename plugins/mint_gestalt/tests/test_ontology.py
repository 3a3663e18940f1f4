"""HPO and OMIM through hpo3."""

import pytest

from mint_gestalt import ontology


def test_ids_in_force_stay():
    assert ontology.resolve("HP:0000322") == "HP:0000322"
    assert ontology.name("HP:0000322") == "Short philtrum"


def test_obsolete_ids_are_replaced():
    assert ontology.resolve("HP:0000057") == "HP:0008665"


@pytest.mark.parametrize("term", ["HP:9999999", "HP:322", "HP:12", "Seizure", "322", "", "hp:0000322", "HP:0000322 "])
def test_what_is_no_id_is_unknown(term):
    assert ontology.resolve(term) is None


def test_the_hierarchy():
    assert ontology.PHENOTYPE in ontology.ancestors("HP:0000322")
    assert set(ontology.parents("HP:0000322")) <= ontology.ancestors("HP:0000322")
    assert ontology.is_facial("HP:0000322")
    assert not ontology.is_facial("HP:0001250")
    assert ontology.is_facial(ontology.FACE)


def test_the_diseases_of_omim():
    diseases = list(ontology.diseases())
    assert len(diseases) > 8000
    assert [int(d.id[5:]) for d in diseases] == sorted(int(d.id[5:]) for d in diseases)
    kabuki = next(disease for disease in diseases if disease.id == "OMIM:147920")
    assert kabuki.name == "Kabuki Syndrome 1"
    assert "HP:0000637" in kabuki.phenotypes
    assert all(ontology.PHENOTYPE in ontology.ancestors(term) for term in kabuki.phenotypes)

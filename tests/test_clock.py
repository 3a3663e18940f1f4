"""A chat template that writes today's date writes the same on every day: training, answers and new samples alike."""

import datetime as real
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers.utils import chat_template_utils

import mint_core
from mint_core.answering.record import read_record
from mint_core.config import StudentConfig
from mint_core.errors import ConfigError, ModelError
from mint_core.students.encoding import encode_prompt
from mint_core.students.load import load_outline, load_student
from mint_core.students.prompts import render_messages, render_prompt
from mint_core.students.template import pin
from mint_core.types import Message, Prompt
from tests.tiny_students import ARCHITECTURES, build

TOY = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")
ASKED = Prompt((Message("system", "Keep to the format."), Message("user", "Name it.")))
# Llama 3.2: the date in the system line, from the caller, from the clock, or a fixed one.
DATED = (
    '{%- if not date_string is defined %}\n    {%- if strftime_now is defined %}\n'
    '        {%- set date_string = strftime_now("%d %b %Y") %}\n    {%- else %}\n'
    '        {%- set date_string = "26 Jul 2024" %}\n    {%- endif %}\n{%- endif %}\n'
    "{{- bos_token }}{{- '<|start_header_id|>system<|end_header_id|>\n\nToday Date: ' + date_string + '\n' }}"
    "{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' }}"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)  # fmt: skip


def on(monkeypatch: pytest.MonkeyPatch, *when: int) -> None:
    """From now on the renderer of chat templates believes that it is another day."""

    class Then(real.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> real.datetime:
            return cls(*when, tzinfo=tz)

    monkeypatch.setattr(chat_template_utils, "datetime", Then)
    chat_template_utils._compile_jinja_template.cache_clear()


@pytest.fixture(scope="module")
def dated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build("llama", tmp_path_factory.mktemp("dated") / "llama")
    (folder / "chat_template.jinja").write_text(DATED)
    return folder


def rendered(folder: Path, **options: Any) -> str:
    student = load_student(StudentConfig(model=str(folder), device="cpu", **options))
    return render_prompt(ASKED, student.processor, parts=False).text


def test_the_template_follows_the_clock_where_nobody_pins_it(dated: Path, monkeypatch) -> None:
    """What the others would miss, were this clock not the one that templates read."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(dated)
    texts = []
    for day in (1, 2):
        on(monkeypatch, 2031, 5, day)
        texts.append(render_prompt(ASKED, tokenizer, parts=False).text)
    assert "01 May 2031" in texts[0]
    assert "02 May 2031" in texts[1]


def test_a_prompt_is_the_same_on_two_days(dated: Path, monkeypatch) -> None:
    texts, ids, outlines = set(), set(), set()
    for when in ((2031, 5, 1), (2032, 12, 31, 23, 59)):
        on(monkeypatch, *when)
        student = load_student(StudentConfig(model=str(dated), device="cpu"))
        texts.add(render_prompt(ASKED, student.processor, parts=False).text)
        ids.add(tuple(encode_prompt(student, "p", ASKED).tensors["input_ids"][0].tolist()))
        outline = load_outline(StudentConfig(model=str(dated), device="cpu"))
        outlines.add(render_prompt(ASKED, outline.processor, parts=False).text)
    assert texts == outlines
    assert (len(texts), len(ids)) == (1, 1)
    assert "Today Date: 26 Jul 2024\n" in texts.pop()


def test_the_date_can_be_set(dated: Path) -> None:
    assert "Today Date: 03 Feb 2025\n" in rendered(dated, chat_date="2025-02-03")
    assert "Today Date: in spring\n" in rendered(dated, chat_template_kwargs={"date_string": "in spring"})


def test_image_students_too(tmp_path: Path, monkeypatch) -> None:
    """Their processor renders, and what it makes into tokens is the same text."""
    folder = build("qwen2_5_vl", tmp_path / "vl")
    file = folder / "chat_template.jinja"
    file.write_text("{{ strftime_now('%Y-%m-%d %H:%M:%S') }}" + file.read_text())
    found = set()
    for day in (1, 2):
        on(monkeypatch, 2031, 5, day)
        student = load_student(StudentConfig(model=str(folder), device="cpu"))
        found.add(tuple(encode_prompt(student, "p", ASKED).tensors["input_ids"][0].tolist()))
        found.add(tuple(student.tokenizer(render_prompt(ASKED, student.processor, parts=True).text)["input_ids"]))
    assert len(found) == 1
    assert student.tokenizer.decode(found.pop()).startswith("2024-07-26 00:00:00")


class Owner:
    """What carries a chat template."""

    def __init__(self, template: Any) -> None:
        self.chat_template = template

    def text(self, **how: Any) -> str:
        asked = [[{"role": "user", "content": "x"}]]
        return chat_template_utils.render_jinja_template(asked, chat_template=self.chat_template, **how)[0][0]


DIRECTIVES = (
    *("%d %b %Y", "%Y-%m-%d", "%B %d, %Y", "%A", "%a", "%j", "%y", "%m", "%H:%M:%S", "%I %p", "%U %W %V %G %u %w"),
    *("%F", "%T", "%D", "%e", "%-d %-m", "%C", "%h", "%R", "%x", "100 %%", "%c", "%d%m%Y", "no directive", "%n%t"),
)


@pytest.mark.parametrize("date", [(2024, 7, 26), (2025, 1, 5), (1999, 12, 31), (2027, 1, 1)])
@pytest.mark.parametrize("directive", DIRECTIVES)
def test_every_directive_is_what_strftime_writes_at_midnight(directive: str, date: tuple[int, int, int]) -> None:
    owner = Owner("{{ strftime_now(" + json.dumps(directive) + ") }}")
    pin(owner, real.date(*date), {}, "s")
    assert owner.text() == real.datetime(*date).strftime(directive)


@pytest.mark.parametrize(
    "template",
    [
        "{%- macro day() %}[{{ strftime_now('%F') }}]{% endmacro %}{{ day() }}",
        "{% for m in messages %}{{ strftime_now('%F') }}{{ m.content }}{% endfor %}",
        "{% set now = strftime_now %}{{ now('%F') }}",
        "{% set ns = namespace(d=strftime_now('%F')) %}{{ ns.d }}",
        "{{ (strftime_now('%Y') | int) + 1 }}",
        "{{ strftime_now(format='%F') }}",
        "\n\n  {% if strftime_now is defined %}{{ strftime_now('%F') }}{% endif %}\n",
        {"default": "{{ strftime_now('%F') }}"},
    ],
)
def test_however_a_template_gets_at_the_clock(template: Any, monkeypatch) -> None:
    found = set()
    for year in (2031, 2032):
        on(monkeypatch, year, 1, 2)
        owner = Owner(template)
        pin(owner, real.date(2024, 7, 26), {}, "s")
        if isinstance(owner.chat_template, dict):
            owner.chat_template = owner.chat_template["default"]
        found.add(owner.text())
    assert len(found) == 1
    assert "202" in found.pop()


@pytest.mark.parametrize(
    "template", ["x", "  {% if true %}A\n{% endif %}", "\n\nX", "{{ '\\n' }}  {%- if 1 %}\nB{% endif %}"]
)
def test_the_rest_of_a_template_stays_as_it_is(template: str) -> None:
    plain, pinned = Owner(template + "{{ v }}{{ strftime_now('') }}"), Owner(template + "{{ v }}{{ strftime_now('') }}")
    pin(pinned, real.date(2024, 7, 26), {"v": [1, "ä\"'\n", None, True, {"a": 1.5}]}, "s")
    assert pinned.text() == plain.text(v=[1, "ä\"'\n", None, True, {"a": 1.5}])


@pytest.mark.parametrize("name", ["messages", "add_generation_prompt", "strftime_now", "a b", "enable_thinkin"])
def test_a_variable_that_the_template_does_not_take_is_refused(name: str) -> None:
    owner = Owner(
        "{{ messages }}{% if add_generation_prompt %}{{ enable_thinking }}{% endif %}{{ strftime_now('%d') }}"
    )
    with pytest.raises(ConfigError, match=name):
        pin(owner, real.date(2024, 7, 26), {name: 1}, "s")


@pytest.mark.parametrize("chance", ["{{ range(10**5) | random }}", "{{ lipsum() }}"])
def test_a_template_with_chance_in_it_is_refused(dated: Path, tmp_path: Path, chance: str) -> None:
    folder = shutil.copytree(dated, tmp_path / "llama")
    (folder / "chat_template.jinja").write_text(DATED + chance)
    with pytest.raises(ModelError, match="another prompt each time"):
        rendered(folder)


def test_another_day_gives_the_same_adapter_and_the_date_is_recorded(
    install_plugin, dated: Path, tmp_path: Path, monkeypatch
) -> None:
    install_plugin("mint-toy", "toy_plugin_under_test", TOY)
    monkeypatch.chdir(tmp_path)
    config: dict[str, Any] = {
        "task": "toy", "student": {"model": str(dated), "device": "cpu"}, "evaluate": {"bootstrap": 100},
        "aligner": {"name": "orpo", "epochs": 1, "warmup": 0, "lora_rank": 4, "learning_rate": 5e-3},
    }  # fmt: skip
    made = []
    for out, when in (("one", (2031, 5, 1)), ("other", (2031, 5, 2))):
        on(monkeypatch, *when)
        made.append(mint_core.run({**config, "out": out, "name": "t"}, until="predict").path)
    names = sorted(file.name for file in (made[0] / "adapter").iterdir())
    assert {"adapter_config.json", "adapter_model.safetensors", "mint.json", "README.md"} <= set(names)
    for name in (*(f"adapter/{name}" for name in names), "predictions.jsonl"):
        assert (made[0] / name).read_bytes() == (made[1] / name).read_bytes(), name
    assert json.loads((made[0] / "run.json").read_text())["config"]["student"]["chat_date"] == "2024-07-26"
    assert read_record(made[0] / "adapter").student.chat_date == real.date(2024, 7, 26)
    other = {**config["student"], "chat_date": "2025-01-01"}
    moved = mint_core.run({**config, "out": "one", "name": "t", "student": other}, until="align", overwrite=True)
    assert "align" not in moved.reused
    assert read_record(moved.path / "adapter").student.chat_date == real.date(2025, 1, 1)


def test_new_samples_are_asked_under_the_date_of_the_training(
    mint, install_plugin, dated: Path, tmp_path: Path, monkeypatch
) -> None:
    from mint_core.answering.setting import from_adapter

    install_plugin("mint-toy", "toy_plugin_under_test", TOY)
    monkeypatch.chdir(tmp_path)
    config = {
        "task": "toy", "name": "t", "aligner": {"name": "sft", "epochs": 1, "warmup": 0, "lora_rank": 4},
        "student": {"model": str(dated), "device": "cpu", "chat_date": "2025-02-03"},
    }  # fmt: skip
    adapter = mint_core.run(config, until="align").path / "adapter"
    (tmp_path / "notes.jsonl").write_text(json.dumps({"id": "n", "text": "x"}) + "\n")
    place = tmp_path / "notes.jsonl"
    student = from_adapter(adapter, {}, place, tmp_path, None).student
    assert student is not None
    assert student.chat_date == real.date(2025, 2, 3)
    student = from_adapter(adapter, {"student": {"chat_date": "2026-01-01"}}, place, tmp_path, None).student
    assert student is not None
    assert student.chat_date == real.date(2026, 1, 1)
    assert mint("predict", "--adapter", adapter, "--input", place, "--set", "student.chat_date=soon").code == 2


def test_families_render_as_before(students) -> None:
    """No template of the usual families reads a clock: what mint puts in front of one that does is nowhere else."""
    for name in ("llama", "gemma2", "qwen2"):
        student = students(name)
        assert "strftime_now" not in student.processor.chat_template
        assert render_messages(ASKED, student.processor, parts=False)
    assert len(ARCHITECTURES) == 9

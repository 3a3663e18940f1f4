"""The teacher `file`: what somebody else computed, found by id and name, and refused where it is not whole."""

import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mint_core
from mint_core.errors import ConfigError, DataError
from mint_core.files import digest_of_path
from mint_core.interfaces import Context
from mint_core.teachers.file import LABELS_OF, RankingsFile
from mint_core.testing import TEACHER_CHECKS
from mint_core.types import LabelSpace, Sample
from tests.test_run import student, toy  # noqa: F401 - fixtures

LABELS = LabelSpace(("Colon", "Liver", "Skin"), (("Large bowel",), (), ()))
SAMPLES = [Sample(id=name, split="train") for name in ("001", "p2")]
PROBABILITIES = ((0.5, 0.25, 0.25), (0.1, 0.2, 0.7))


def asked(path: Path, **options):
    teacher = RankingsFile(RankingsFile.Config(path=path, **options), Context(labels=LABELS))
    return teacher.log_probs(SAMPLES), teacher.describe()


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("wide.csv", "id,Skin,split,LIVER,large bowel\np2,.7,test,.2,.1\n001,.25,train,.25,.5\nmore,1,x,0,0\n"),
        ("wide.tsv", "sample\tColon\tLiver\tSkin\n001\t.5\t.25\t.25\np2\t.1\t.2\t.7\n"),
        (
            "long.csv",
            "sample,label,score\n001,Colon,.5\np2,Colon,.1\n001,Skin,.25\n001,Liver,.25\np2,Skin,.7\np2,Liver,.2\n",
        ),
    ],
)
def test_rows_are_found_by_id_and_columns_by_name(tmp_path: Path, name: str, text: str) -> None:
    found, facts = asked(write(tmp_path / name, text))
    np.testing.assert_allclose(np.exp(found), PROBABILITIES, rtol=1e-6)
    assert found.dtype == np.float32
    assert facts["scale"] == "probabilities"


def test_logarithms_stay_as_they_are_and_scores_become_probabilities(tmp_path: Path) -> None:
    logs = np.log(np.array(PROBABILITIES)).astype(np.float32)
    wide = pa.table({"id": ["001", "p2"], **{n: logs[:, i] for i, n in enumerate(LABELS.names)}})
    pq.write_table(wide, tmp_path / "logs.parquet")
    found, facts = asked(tmp_path / "logs.parquet")
    assert found.tobytes() == logs.tobytes()
    assert facts["scale"] == "log-probabilities"
    scores = write(tmp_path / "s.csv", "id,Colon,Liver,Skin\n001,3,2,1\np2,0,0,0\n")
    found, _ = asked(scores, scale="scores")
    parts = [math.exp(3), math.exp(2), math.exp(1)]
    np.testing.assert_allclose(np.exp(found[0]), [part / sum(parts) for part in parts], rtol=1e-5)
    with pytest.raises(DataError, match=r"do not add up to a probability .*say --set teacher.scale=scores"):
        asked(scores)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("id,Colon,Liver,Skin\n001,.5,.25,.25\n", "no row for 1 of 2 samples ('p2')"),
        ("id,Colon,Liver,Skin\n001,.5,,.25\np2,.1,.2,.7\n", "'001' none for 'Liver'"),
        ("id,Colon,Liver,Skin\n001,.5,nan,.25\np2,.1,.2,.7\n", "'001' none for 'Liver'"),
        (
            "id,Colon,Liver,Skinn\n001,.5,.25,.25\np2,.1,.2,.7\n",
            "'Skinn' is no label of the task; did you mean 'Skin'?",
        ),
        ("id,Colon,Liver\n001,.5,.5\np2,.5,.5\n", "no numbers for 1 of 3 labels ('Skin')"),
        ("id,Colon,Large bowel,Liver,Skin\n001,.5,.5,0,0\np2,1,0,0,0\n", "'Colon' and 'Large bowel' are one label"),
        ("id,Colon,Liver,Skin\n001,.5,.25,.25\n001,.1,.2,.7\np2,.1,.2,.7\n", "names 1 ids twice ('001')"),
        ("id,Colon,Liver,Skin\n001,high,.25,.25\np2,.1,.2,.7\n", "'Colon' holds something else than numbers"),
        ("name,Colon,Liver,Skin\n001,.5,.25,.25\n", "no column of ids"),
        ("id,label,score\n001,Colon,.5\n001,Colon,.5\n", "two scores for '001' and 'Colon'"),
        ("id,Colon,Liver,Skin\n001,.5,.25,.25\n,.1,.2,.7\n", "a row without an id"),
        ("id\n001\np2\n", "no numbers for 3 of 3 labels"),
        ("", "cannot be read as .csv"),
    ],
)
def test_what_is_not_whole_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        asked(write(tmp_path / "r.csv", text))
    assert sentence in str(caught.value)


def test_no_file_a_folder_and_a_file_of_another_kind(tmp_path: Path) -> None:
    for path, sentence in (
        (None, "needs rankings; name them with --set teacher.path=FILE"),
        (tmp_path, "is a folder"),
        (write(tmp_path / "r.xlsx", "x"), "no .parquet, .csv or .tsv file"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            asked(path)
    with pytest.raises(DataError, match=r"cannot be read as \.parquet"):
        asked(write(tmp_path / "r.parquet", "no table"))


@pytest.mark.parametrize(
    ("labels", "rows"),
    [
        (None, [[-1.0] * 3] * 2),
        (b"no JSON", [[-1.0] * 3] * 2),
        (b'["Colon", "Liver"]', [[-1.0] * 3] * 2),
        (b'["Colon", "Liver", "Skin"]', [[-1.0] * 3, [-1.0]]),
        (b'["Colon", "Liver", "Skin"]', [["a"] * 3] * 2),
        (b'["Colon", "Liver", "Skin"]', [[-1.0, None, -1.0]] * 2),
    ],
)
def test_damaged_rankings_of_a_run_are_one_sentence(tmp_path: Path, labels: bytes | None, rows: list) -> None:
    table = pa.table({"sample": ["001", "p2"], "log_probs": rows})
    pq.write_table(table.replace_schema_metadata({LABELS_OF: labels} if labels else {}), tmp_path / "r.parquet")
    with pytest.raises(DataError, match=r"does not say which labels|are not numbers of the labels|have no number"):
        asked(tmp_path / "r.parquet")


def test_rankings_of_a_run_with_other_labels_or_another_order(tmp_path: Path) -> None:
    def rankings(names: tuple[str, ...], rows: list, ids: tuple[str, ...] = ("p2", "001")) -> Path:
        table = pa.table({"sample": ids, "log_probs": rows})
        table = table.replace_schema_metadata({LABELS_OF: json.dumps(names).encode()})
        pq.write_table(table, tmp_path / "r.parquet")
        return tmp_path / "r.parquet"

    logs = np.log(np.array(PROBABILITIES)).astype(np.float32)
    turned = logs[::-1, [2, 0, 1]].tolist()
    assert asked(rankings(("Skin", "Colon", "Liver"), turned))[0].tobytes() == logs.tobytes()
    with pytest.raises(DataError, match="'Lung' is no label of the task"):
        asked(rankings(("Lung", "Colon", "Liver"), turned))
    with pytest.raises(DataError, match=r"no row for 1 of 2 samples \('001'\)"):
        asked(rankings(("Skin", "Colon", "Liver"), turned, ("p2", "p3")))


def test_it_keeps_the_contract_of_teachers(tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", "id,Colon,Liver,Skin\n001,.5,.25,.25\np2,.1,.2,.7\n")
    teacher = RankingsFile(RankingsFile.Config(path=path), Context(labels=LABELS))
    for check in TEACHER_CHECKS:
        check(teacher, SAMPLES)


def test_rankings_of_one_run_teach_another_with_the_same_adapter(toy, tmp_path: Path) -> None:  # noqa: F811
    first = Path(mint_core.run(toy, until="align").path)
    given = tmp_path / "given.parquet"
    given.write_bytes((first / "rankings" / "rankings.parquet").read_bytes())
    other = {
        **toy,
        "name": "other",
        "out": str(tmp_path / "elsewhere"),
        "teacher": {"name": "file", "path": str(given)},
    }
    second = Path(mint_core.run(other, until="align").path)
    assert (second / "rankings" / "rankings.parquet").read_bytes() == given.read_bytes()
    weights = "adapter/adapter_model.safetensors"
    assert digest_of_path(first / weights) == digest_of_path(second / weights)
    assert json.loads((second / "rankings" / "teacher.json").read_text())["teacher"]["rows"] == 24

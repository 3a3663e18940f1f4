"""Tables that users bring: what stands in a cell where nothing is known."""

import warnings
from pathlib import Path

import pytest

from mint_core.tables import present, split_rows, warn_of_words


@pytest.mark.parametrize(
    "value",
    [None, float("nan"), float("inf"), "", "  ", "nan", "NaN", " NaN ", "<NA>", "NaT", "#N/A", "#REF!", "#VALUE!"],
)
def test_what_programs_write_where_nothing_is_known_is_missing(value: object) -> None:
    assert present(value) == ""


@pytest.mark.parametrize("word", ["NA", "N/A", "null", "None", "-", ".", "0", "nano", "Nan syndrome"])
def test_words_are_missing_where_the_user_says_so(word: str) -> None:
    assert present(f" {word} ") == word
    assert present(f" {word} ", (word,)) == ""
    assert present(word.swapcase(), (word,)) in {word.swapcase()} | ({""} if word == word.swapcase() else set())


def test_one_warning_names_every_column_that_looks_like_it_and_what_to_say() -> None:
    columns = {"gene": ["NA", "FBN1", "NA", "NA"], "label": ["NA", "Alpha", "NA"], "text": ["NA", "na\u00efve"]}
    with pytest.warns(UserWarning, match="holds 'NA' in 3 cells of 'gene', 'NA' in 2 cells of 'label'") as caught:
        warn_of_words("notes.csv", columns, "--set task.missing")
    assert len(caught) == 1
    assert "say --set task.missing='[\"NA\"]'." in str(caught[0].message)
    assert "'text'" not in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_words("notes.csv", {"gene": ["NAT1", "FBN1"], "label": ["NA"]}, "--set task.missing")


def rows_of(text: str) -> list[tuple[str, ...]]:
    table = split_rows(Path("t.csv"), text, "Table", ",")
    return [tuple(table.columns), *(tuple(cells) for _, cells in table.rows)]


def test_row_names_as_r_writes_them_are_a_column_without_a_name() -> None:
    assert rows_of('"id","label"\n"1","a","A"\n"2","b","B"\n') == [
        ("", "id", "label"),
        ("1", "a", "A"),
        ("2", "b", "B"),
    ]
    assert rows_of("id,label\na,A,\nb,B,\n")[0] == ("id", "label")  # a delimiter too many is none
    assert rows_of("id,label\nx,a,A\nx,b,B\n")[0] == ("id", "label")
    assert rows_of("id,label\n1,a,A\nb,B\n")[0] == ("id", "label")

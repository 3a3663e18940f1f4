"""New patches: folders, tables and single files without labels."""

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from mint_core.errors import DataError
from mint_core.interfaces import Unreadable
from mint_plip.task import TissueType


def read(place: Path, facts: Counter | None = None, **options):
    task = TissueType(TissueType.Config(**options))
    return list(task.read_inputs(place, Counter() if facts is None else facts))


def refusal(place: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(place)
    return str(caught.value)


@pytest.fixture
def patches(tmp_path: Path) -> Path:
    """Three images, one of them deeper, beside files of other kinds."""
    root = tmp_path / "patches"
    (root / "slide 2").mkdir(parents=True)
    for number, name in enumerate(("b.png", "a.jpg", "slide 2/c.tif")):
        Image.new("RGB", (8, 8), (40 * number, 10, 90)).save(root / name)
    (root / "notes.txt").write_text("x")
    (root / ".hidden.png").write_text("x")
    return root


def test_all_images_below_a_folder_in_a_stable_order(patches: Path) -> None:
    facts: Counter[str] = Counter()
    found = read(patches, facts)
    assert [one.id for one in found] == ["a.jpg", "b.png", "slide 2/c.tif"]
    assert all((one.label, one.text) == (None, None) for one in found)
    assert found[1].image.open().getpixel((0, 0)) == (0, 10, 90)
    assert facts == {"files of other kinds, not read": 2}
    prompt = TissueType().inference_prompt(found[0].for_student("image"), 3)
    assert prompt.image == found[0].image


def test_links_out_of_the_folder_are_named(patches: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "outside.png")
    (patches / "0.png").symlink_to(tmp_path / "outside.png")
    (patches / "1").symlink_to(tmp_path)
    found = read(patches)
    assert [(one.id, isinstance(one, Unreadable)) for one in found[:3]] == [
        ("0.png", True),
        ("1", True),
        ("a.jpg", False),
    ]
    assert "copy" in found[0].reason


def test_a_table_of_paths_needs_no_labels(patches: Path) -> None:
    table = patches / "new.csv"
    table.write_text("id,image,label\np1,b.png,Colon\np2,gone.png,\n,a.jpg,\np4,../outside.png,\n")
    found = read(table)
    assert [(one.id, isinstance(one, Unreadable)) for one in found] == [
        ("p1", False),
        ("p2", True),
        ("Table new.csv, row 4", True),
        ("p4", True),
    ]
    assert found[0].label is None
    assert "does not exist" in found[1].reason
    assert "lies outside" in found[3].reason
    table.write_text("picture\nb.png\nslide 2/c.tif\n")
    assert [one.id for one in read(table, image_column="picture")] == ["b.png", "slide 2/c.tif"]
    assert "--set task.image_column=NAME" in refusal(table)


def test_one_image_and_what_is_none(patches: Path, tmp_path: Path) -> None:
    assert [one.id for one in read(patches / "b.png")] == ["b.png"]
    assert "check the path after --input" in refusal(tmp_path / "nowhere")
    letter = patches / "letter.docx"
    letter.write_text("x")
    assert "no folder, image, or table" in refusal(letter)


@pytest.mark.parametrize("suffix", ["svs", "heic", "avif"])
def test_images_that_mint_does_not_read_are_named(patches: Path, suffix: str) -> None:
    (patches / f"slide.{suffix}").write_bytes(b"x")
    facts: Counter[str] = Counter()
    (bad,) = [one for one in read(patches, facts) if isinstance(one, Unreadable)]
    assert (bad.id, facts["files of other kinds, not read"]) == (f"slide.{suffix}", 2)
    assert "convert it to PNG or TIFF" in bad.reason


def test_less_usual_suffixes_are_read(patches: Path) -> None:
    Image.new("RGB", (8, 8)).save(patches / "d.jfif", "JPEG")
    assert read(patches)[-2].id == "d.jfif"

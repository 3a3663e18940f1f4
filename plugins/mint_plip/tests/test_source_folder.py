"""Source `folder`: class folders, manifests, and the sentences for what is not as it must be."""

import os
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mint_core.errors import ConfigError, DataError
from mint_core.testing import TASK_CHECKS
from mint_plip.task import TissueType

HISTOLOGY = Path(__file__).parents[3].parent / "shared" / "data" / "histology"


def draw(path: Path, seed: int | None = None) -> Path:
    """A small image; equal seeds give equal files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(sum(map(ord, str(path))) * 1000 + len(str(path)) if seed is None else seed)
    Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(path)
    return path


def load(data: Path, **options):
    return TissueType(TissueType.Config(source="folder", data=data, **options)).load()


def write(root: Path, text: str, name: str = "manifest.csv", encoding: str = "utf-8") -> Path:
    (root / name).write_bytes(text.encode(encoding))
    return root / name


@pytest.fixture
def root(tmp_path):
    for i in range(8):
        draw(tmp_path / f"{i}.png", seed=i)
    return tmp_path


GOOD = "image,label,split\n0.png,Colon,train\n1.png,Lung,train\n2.png,Colon,test\n3.png,Lung,test\n"


# --- what only the report reads


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_further_columns_reach_the_report_alone(root, kind):
    rows = {"image": ["0.png", "1.png"], "label": ["Colon", "Lung"], "split": ["train", "test"],
            "Site": ["A", "B"], "scanner": ["", "x2"]}  # fmt: skip
    if kind == "csv":
        write(root, "\n".join(map(",".join, [list(rows), *zip(*rows.values(), strict=True)])))
    else:
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        further = {"bytes": [b"1", b"2"], "boxes": [[1], [2]]}  # neither is read
        pq.write_table(pa.table({**rows, **further}), root / "manifest.parquet")
    data = load(root)
    assert [sample.subgroups for sample in data.samples] == [{"Site": "A"}, {"Site": "B", "scanner": "x2"}]
    assert data.subgroups == ("Site",)


# --- class folders


def test_one_folder_per_class(tmp_path):
    for label in ("Colon", "Lung"):
        for i in range(10):
            draw(tmp_path / label / f"{i}.{['png', 'jpg', 'TIF'][i % 3]}")
        (tmp_path / label / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden").mkdir()
    data = load(tmp_path)
    assert Counter((s.label, s.split) for s in data.samples) == {
        ("Colon", "train"): 8,
        ("Colon", "test"): 2,
        ("Lung", "train"): 8,
        ("Lung", "test"): 2,
    }
    assert data.samples[0].id == "Colon/0.png"
    assert data.labels.names == ("Colon", "Lung")
    assert "splits by mint, seed 0; no groups given" in data.source
    assert data == load(tmp_path)


def test_folders_per_split_and_class(tmp_path):
    for split, label in [("Train", "Colon"), ("Train", "Lung"), ("valid", "Lung"), ("test", "Colon")]:
        draw(tmp_path / split / label / "a.png")
    data = load(tmp_path)
    assert [(s.id, s.split, s.label) for s in data.samples] == [
        ("Train/Colon/a.png", "train", "Colon"),
        ("Train/Lung/a.png", "train", "Lung"),
        ("test/Colon/a.png", "test", "Colon"),
        ("valid/Lung/a.png", "val", "Lung"),
    ]


def test_class_folders_without_images_are_named(tmp_path):
    draw(tmp_path / "Colon" / "a.png")
    for name in ("Lung", "Skin"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="Class folders without images: Lung, Skin; put images"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        ([], "holds neither manifest.csv nor manifest.parquet nor folders"),
        (["train/Colon", "Lung"], r"mixes folders of splits \('train'\) and of classes \('Lung'\)"),
        (["train/Colon", "val/Colon", "valid/Colon"], "'val' and 'valid', which both mean val"),
        (["train", "test"], "lists no image"),
    ],
)
def test_layouts_that_are_refused(tmp_path, folders, words):
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(DataError, match=words):
        load(tmp_path)


def test_an_image_that_links_out_of_its_class_folder(tmp_path):
    draw(tmp_path / "elsewhere.png")
    draw(tmp_path / "data" / "Lung" / "b.png")
    (tmp_path / "data" / "Colon").mkdir()
    (tmp_path / "data" / "Colon" / "a.png").symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(DataError, match=r"'Colon/a\.png' is a link that leaves"):
        load(tmp_path / "data")


# --- manifests


@pytest.mark.parametrize("check", TASK_CHECKS)
def test_contract(root, check):
    write(root, GOOD)
    check(TissueType(TissueType.Config(source="folder", data=root)))


def test_a_manifest(root):
    write(root, "image,label,group,split,id\n0.png,Colon,p1,train,a\n1.png,Lung,p2,Train,b\n2.png,colon,p3,val,c\n")
    data = load(root)
    assert [(s.id, s.split, s.label, s.group) for s in data.samples] == [
        ("a", "train", "Colon", "p1"),
        ("b", "train", "Lung", "p2"),
        ("c", "val", "Colon", "p3"),
    ]
    assert "no groups" not in data.source
    assert data.samples[0].image.open().size == (6, 6)
    assert [s.id for s in load(root / "manifest.csv").samples] == ["a", "b", "c"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_dialects(root, encoding, delimiter, newline):
    write(root, GOOD.replace(",", delimiter).replace("\n", newline) + newline, encoding=encoding)
    assert [s.id for s in load(root).samples] == ["0.png", "1.png", "2.png", "3.png"]


def test_quoted_delimiters(root):
    write(root, GOOD.replace("Colon", '"Colon, left; right"'))
    assert load(root).labels.names == ("Colon, left; right", "Lung")


def test_parquet(root):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = {"image": ["0.png", "1.png", "2.png"], "label": ["Colon", "Lung", "Colon"], "patient": [7, 8, None]}
    pq.write_table(pa.table(table | {"split": ["train", "train", "test"], "other": [1, 2, 3]}), root / "m.parquet")
    data = load(root / "m.parquet", group_column="patient")
    assert [(s.id, s.group) for s in data.samples] == [("0.png", "7"), ("1.png", "8"), ("2.png", None)]
    with pytest.raises(DataError, match="no column 'labels'; did you mean 'label'"):
        load(root / "m.parquet", label_column="labels")
    pq.write_table(pa.table(table | {"image": [{"bytes": b""}] * 3}), root / "m.parquet")
    with pytest.raises(DataError, match="column 'image' holds nested values"):
        load(root / "m.parquet")
    (root / "m.parquet").write_bytes(b"no table")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        load(root / "m.parquet")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty; it needs a row of column names"),
        ("image,label\n", "lists no image"),
        ("image,lable\n0.png,Colon\n", "no column 'label'; did you mean 'lable'.*--set task.label_column=NAME"),
        ("file,label\n0.png,Colon\n", r"no column 'image' \(available: file, label\)"),
        (
            "file,lable\n0.png,Colon\n",
            r"no columns 'image' and 'label'; did you mean 'lable'\? .*image_column.*label_column",
        ),
        ("image,label,label\n0.png,Colon,Lung\n", "two columns 'label'"),
        (GOOD + "4.png,Colon\n", "row 6: 2 cells under 3 column names"),
        (GOOD + "4.png,Colon,train,more\n", "row 6: 4 cells under 3 column names"),
        (GOOD + '4.png,"Colon,train\n', "near line 6: .*mend the quotes"),
        (GOOD + "4.png,Colon,dev\n", "row 6: split 'dev' is not known; write train, val or test"),
        (GOOD + "4.png,Colon,\n", "row 6: split '' is not known"),
        (GOOD + "4.png,,test\n", "row 6: the label is empty in split 'test'"),
        (GOOD + "0.png,Colon,train\n", r"row 6: image '0\.png' stands in row 2 already"),
        (GOOD + "./0.png,Colon,train\n", r"row 6: image '0\.png' stands in row 2 already"),
        (GOOD + ",Colon,train\n", "row 6: the image is empty"),
        (GOOD + "9.png,Colon,train\n", r"row 6: image '9\.png' does not exist"),
        (GOOD + ".,Colon,train\n", r"row 6: image '\.' does not exist"),
        (GOOD + "../x.png,Colon,train\n", r"row 6: image '\.\./x\.png' lies outside"),
        (GOOD + "..\\x.png,Colon,train\n", "row 6: .* lies outside"),
        (GOOD + "/etc/hostname,Colon,train\n", "row 6: .* lies outside"),
        (GOOD + "C:\\x.png,Colon,train\n", "row 6: .* lies outside"),
        (GOOD + "a\0b.png,Colon,train\n", "row 6: .*not a valid path"),
        (GOOD + "x" * 5000 + ".png,Colon,train\n", "row 6: "),
        (
            GOOD.replace(",label", ",label,id").replace(",Colon", ",Colon,k").replace(",Lung", ",Lung,l"),
            "id 'k' stands",
        ),
        ("image,label,id,split\n0.png,Colon,,train\n", "row 2: the id is empty"),
        ("image,label,split\n0.png,Colon,train\n1.png,Lung,train\n", "'val' and 'test' have 0 samples"),
        ("image,label,split\n0.png,Colon,test\n1.png,Lung,test\n", "'train' has 0 samples"),
        ("image,label,split\n0.png,Colon,train\n1.png,Colon,test\n", "one label only, 'Colon'"),
        ("image,label,split\n0.png,,train\n", "No sample has a label"),
        (
            "image,label,group,split\n0.png,a,g,train\n1.png,b,g,test\n",
            "Group 'g' has samples in 'train' and in 'test'",
        ),
    ],
)
def test_manifests_that_are_refused(root, text, words):
    write(root, text)
    with pytest.raises(DataError, match=words) as caught:
        load(root)
    assert "\n" not in str(caught.value)


def test_a_link_out_of_the_data_folder(root, tmp_path_factory):
    (root / "link.png").symlink_to(draw(tmp_path_factory.mktemp("other") / "x.png"))
    write(root, GOOD + "link.png,Colon,train\n")
    with pytest.raises(DataError, match=r"row 6: image 'link\.png' lies outside"):
        load(root)


def test_other_encodings_and_files(root):
    write(root, GOOD, encoding="utf-16")
    with pytest.raises(DataError, match="not UTF-8 text; save it as 'CSV UTF-8'"):
        load(root)
    with pytest.raises(DataError, match="is no manifest; name a folder"):
        load(root / "0.png")
    with pytest.raises(DataError, match="There is nothing at"):
        load(root / "none")
    (root / "manifest.parquet").touch()
    with pytest.raises(DataError, match=r"holds both manifest\.csv and manifest\.parquet"):
        load(root)


def test_columns_can_be_named(root):
    write(root, "file,class,case,part\n0.png,a,x,train\n1.png,b,y,train\n2.png,b,z,test\n")
    names = {"image_column": "file", "label_column": "class", "group_column": "case", "split_column": "part"}
    assert [s.group for s in load(root, **names).samples] == ["x", "y", "z"]
    with pytest.raises(DataError, match=r"no column 'cases'; did you mean 'case'.*group_column"):
        load(root, **names | {"group_column": "cases"})


def test_labels_can_be_given(root):
    write(root, GOOD)
    names = ["Skin", "LUNG", "Colon"]
    assert load(root, labels=names).labels.names == ("Skin", "LUNG", "Colon")
    assert load(root, labels=names).samples[1].label == "LUNG"
    (root / "names.txt").write_text("\ufeffLung\n\n Colon \nSkin\n", encoding="utf-8")
    assert load(root, labels=root / "names.txt").labels.names == ("Lung", "Colon", "Skin")
    with pytest.raises(DataError, match="row 2: label 'Colon' is not in the label space; did you mean 'Colons'"):
        load(root, labels=["Colons", "Lung"])
    with pytest.raises(DataError, match=r"label file .* cannot be read"):
        load(root, labels=root / "none.txt")


def test_spellings_of_one_label_are_merged(root):
    write(
        root,
        GOOD.replace("2.png,Colon", "2.png,co-lon").replace("Colon", "Co lon")
        + "4.png,CO_LON,train\n5.png,Co lon,val\n",
    )
    assert load(root).labels.names == ("Co lon", "Lung")


def test_labels_that_differ_in_signs_are_not_merged(root):
    write(root, GOOD.replace("Colon", "HER2+").replace("Lung", "HER2-"))
    with pytest.raises(DataError, match=r"'HER2.' and 'HER2.' differ only in punctuation"):
        load(root)
    with pytest.raises(DataError, match="differ only in punctuation"):
        load(root, labels=["HER2+", "other"])


def test_unlabelled_images_may_be_trained_on(root):
    write(root, GOOD + "4.png,,train\n")
    assert load(root).samples[-1].label is None
    write(root, "image,label\n" + "".join(f"{i}.png,{['a', 'b', ''][i % 3]}\n" for i in range(8)))
    data = load(root, test_fraction=0.4)
    assert {s.split for s in data.samples if s.label is None} == {"train"}


def test_mint_splits_by_group(tmp_path):
    rows = [(f"{i}.png", "ab"[i // 4 % 2], f"p{i // 4}") for i in range(80)]
    for i, row in enumerate(rows):
        draw(tmp_path / row[0], seed=i)
    write(tmp_path, "image,label,group\n" + "\n".join(map(",".join, rows)))
    data = load(tmp_path, val_fraction=0.1)
    sides = defaultdict(set)
    for s in data.samples:
        sides[s.group].add(s.split)
    assert max(map(len, sides.values())) == 1
    assert Counter(s.split for s in data.samples) == {"train": 56, "val": 8, "test": 16}
    write(tmp_path, "image,label,group\n" + "\n".join(map(",".join, rows[::-1])))
    assert {s.id: s.split for s in load(tmp_path, val_fraction=0.1).samples} == {s.id: s.split for s in data.samples}
    assert [s.split for s in load(tmp_path, val_fraction=0.1, sample_seed=1).samples] != [s.split for s in data.samples]
    with pytest.raises(ConfigError, match="together must be below 1"):
        load(tmp_path, val_fraction=0.5, test_fraction=0.5)
    with pytest.raises(DataError, match="'val' and 'test' have 0 samples"):
        load(tmp_path, test_fraction=0)


def test_identical_images_become_one_group(tmp_path):
    for i in range(12):
        draw(tmp_path / "ab"[i % 2] / f"{i}.png", seed=i // 4 if i % 2 else 100 + i)
    groups = [s.group for s in load(tmp_path, test_fraction=0.4).samples]
    assert groups[:6] == [None] * 6
    assert sorted(Counter(groups[6:]).items()) == [
        ("copies of b/1.png", 2),
        ("copies of b/11.png", 2),
        ("copies of b/5.png", 2),
    ]


def test_identical_images_in_two_splits(root):
    draw(root / "copy.png", seed=0)
    write(root, GOOD + "copy.png,Colon,test\n")
    with pytest.raises(
        DataError, match=r"'0\.png' \(train\) and 'copy\.png' \(test\) are the same image.*task.duplicates=drop"
    ):
        load(root)
    data = load(root, duplicates="drop")
    assert [s.id for s in data.samples] == ["0.png", "1.png", "2.png", "3.png"]
    assert "1 copies of images in an earlier split left out" in data.source


def test_a_bad_image_is_found_when_loading(root):
    write(root, GOOD)
    (root / "1.png").write_text("<html>")
    with pytest.raises(DataError, match=r"1\.png is a web page"):
        load(root)
    assert len(load(root, check_images=False).samples) == 4
    draw(root / "1.png")
    with pytest.raises(DataError, match="6 x 6 pixels, more than the limit of 35"):
        load(root, max_pixels=35)
    with pytest.raises(DataError, match="6 x 6 pixels"):
        load(root, max_pixels=35, check_images=False).samples[0].image.open()


def test_a_changed_image_changes_its_key(root):
    write(root, GOOD)
    before = [s.image.key for s in load(root).samples]
    draw(root / "1.png", seed=99)
    after = [s.image.key for s in load(root).samples]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True, True]


@pytest.mark.skipif(not HISTOLOGY.is_dir(), reason=f"real patches are not at {HISTOLOGY}")
def test_real_patches():
    data = load(HISTOLOGY)
    assert len(data.samples) == 1936
    assert len(data.labels) == 5
    sides = defaultdict(set)
    for s in data.samples:
        sides[s.group].add(s.split)
    assert len(sides) > 900
    assert max(map(len, sides.values())) == 1
    assert Counter(s.split for s in data.samples) == {"train": 1697, "val": 239}
    assert data.samples[0].image.open().size == (224, 224)


@pytest.mark.parametrize(
    ("one", "other"), [("HER2- x", "HER2 x"), ("5q-", "5q+"), ("T<5", "T>5"), ("Grade -1", "Grade 1"), ("A?", "A")]
)
def test_every_sign_tells_labels_apart(root, one, other):
    write(root, GOOD.replace("Colon", one).replace("Lung", other))
    with pytest.raises(DataError, match="differ only in punctuation") as caught:
        load(root)
    assert f"'{one}'" in str(caught.value) and f"'{other}'" in str(caught.value)


def test_composed_and_decomposed_spellings_are_one_label(root):
    names = ("M\u00e9lanome", "Me\u0301lanome")
    rows = [f"{i}.png,{names[i % 2] if i % 4 < 2 else 'Naevus'},{'test' if i > 3 else 'train'}" for i in range(8)]
    write(root, "image,label,split\n" + "\n".join(rows))
    assert load(root).labels.names == ("M\u00e9lanome", "Naevus")


@pytest.mark.parametrize("mark", ["\n", "\t", "\x0b", "\x85", "\u2028", "\x1b"])
def test_a_label_with_a_break_is_squeezed(root, mark):
    write(root, GOOD.replace("Colon", f'"Squamous{mark}cell"'))
    assert load(root).labels.names == ("Lung", "Squamous cell")
    inside = " " if mark == "\n" else mark
    assert load(root, labels=write(root, f"Lung\r\nSquamous{inside}cell\n", "l.txt")).labels.names[1] == "Squamous cell"


# --- cells where nothing is known


def rows_with(nothing: str) -> str:
    rows = [f"{i}.png,{'ab'[i % 2] if i < 6 else nothing},{nothing if i % 2 else f'p{i}'}" for i in range(8)]
    return "image,label,group\n" + "\n".join(rows)


@pytest.mark.parametrize("nothing", ["", "NaN", "nan", "<NA>", "#N/A"])
def test_what_programs_write_for_nothing_is_no_label_and_no_group(root, nothing):
    write(root, rows_with(nothing))
    data = load(root, test_fraction=0.4)
    assert data.labels.names == ("a", "b")
    assert sum(sample.label is None for sample in data.samples) == 2
    assert nothing not in {sample.group for sample in data.samples}


def test_a_word_for_nothing_is_one_where_the_user_says_so(root):
    write(root, rows_with("NA"))
    assert load(root, test_fraction=0.4, missing=("NA",)).labels.names == ("a", "b")
    with pytest.warns(UserWarning, match="'NA' in 2 cells of 'label', 'NA' in 4 cells of 'group'"):
        assert "NA" in load(root, test_fraction=0.4).labels.names


def test_nan_in_parquet_is_no_label(root):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    labels = pa.array([["a", "b", "NaN", None][i % 4] for i in range(8)])
    groups = pa.array([float("nan") if i % 2 else float(i) for i in range(8)])
    pq.write_table(
        pa.table({"image": [f"{i}.png" for i in range(8)], "label": labels, "group": groups}), root / "m.parquet"
    )
    data = load(root / "m.parquet", test_fraction=0.4)
    assert data.labels.names == ("a", "b")
    assert {sample.group for sample in data.samples} == {None, "0.0", "2.0", "4.0", "6.0"}


# --- class folders with more than images in them


def slides(root: Path, patients: int = 4, images: int = 2) -> Path:
    for place, label in enumerate(("Colon", "Lung")):
        for patient in range(patients):
            for i in range(images):
                seed = 10_000 * len(str(root)) + 1000 * place + 100 * patient + i
                draw(root / label / f"p{patient}" / f"{i}.png", seed)
    return root


def test_images_in_folders_below_class_folders_are_read_and_those_folders_are_groups(tmp_path):
    data = load(slides(tmp_path, patients=8), test_fraction=0.25)
    assert len(data.samples) == 32
    assert data.facts["images in folders below the class folders"] == 32
    assert data.facts["folders below the class folders, taken for patients or slides"] == 8
    sides = defaultdict(set)
    for sample in data.samples:
        sides[sample.group].add(sample.split)
    assert {group: len(split) for group, split in sides.items()} == {f"p{i}": 1 for i in range(8)}
    assert "no groups given" not in data.source


def test_folders_that_are_too_few_to_be_split_are_said(tmp_path):
    data = load(slides(tmp_path, patients=2))
    assert Counter(sample.split for sample in data.samples)["test"] > 0
    assert data.facts["folders below the class folders, too few to be kept apart by the split"] == 2
    assert "no groups given, so patients are not kept apart" in data.source


def test_a_single_folder_below_a_class_is_no_patient(tmp_path):
    data = load(slides(tmp_path, patients=1, images=8))
    assert len(data.samples) == 16
    assert {sample.group for sample in data.samples} == {None}
    assert "no groups given" in data.source
    draw(tmp_path / "Colon" / "loose.png")
    assert len(load(slides(tmp_path, patients=3)).samples) == 25


def test_folders_below_the_classes_of_splits_are_read(tmp_path):
    for split in ("train", "test"):
        slides(tmp_path / split)
    data = load(tmp_path)
    assert Counter(sample.split for sample in data.samples) == {"train": 16, "test": 16}


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "j2k", "jpf", "JFIF", "ppm"])
def test_less_usual_suffixes_are_read(tmp_path, suffix):
    kind = "JPEG" if suffix.lower() in ("jfif", "jpe") else "PPM" if suffix == "ppm" else "JPEG2000"
    for label in ("Colon", "Lung"):
        for i in range(4):
            draw(tmp_path / label / f"{i}.png")
            Image.new("RGB", (6, 6), (i, 9 * i, len(label))).save(tmp_path / label / f"x{i}.{suffix}", kind)
    assert len(load(tmp_path).samples) == 16


def leftover(path: Path, kind: str) -> None:
    if kind == "dangling":
        path.symlink_to(path.parent / "gone.png")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.with_suffix(kind).write_bytes(b"x")


@pytest.mark.parametrize("kind", ["dangling", "fifo", ".svs", ".heic", ".avif", ".fits"])
def test_what_cannot_be_read_is_counted_and_named_and_refused_where_it_is_most(tmp_path, kind):
    for label in ("Colon", "Lung"):
        for i in range(4):
            draw(tmp_path / label / f"{i}.png")
    (tmp_path / "Colon" / "notes.txt").write_text("x")
    leftover(tmp_path / "Colon" / "bad.png", kind)
    facts = load(tmp_path).facts
    name = "Colon/bad.png" if kind in ("dangling", "fifo") else f"Colon/bad{kind}"
    assert facts["images left out, not in a class folder or not readable as images"] == 1
    assert facts[f"left out: {name}"] == 1
    assert facts["files of other kinds, not read"] == 1
    for i in range(5):
        leftover(tmp_path / "Colon" / f"b{i}.png", kind)
    with pytest.raises(DataError, match=r"6 images of .* would be left out, more than are read, 'Colon/b0\.") as caught:
        load(tmp_path)
    assert ".jfif" in str(caught.value)


def test_images_beside_the_class_folders_are_counted_and_refused_where_they_are_most(tmp_path):
    slides(tmp_path)
    draw(tmp_path / "loose.png")
    assert load(tmp_path).facts["left out: loose.png"] == 1
    for i in range(20):
        draw(tmp_path / f"{i}.png")
    with pytest.raises(DataError, match=r"21 images of .* would be left out"):
        load(tmp_path)


def test_a_linked_folder_below_a_class_is_refused(tmp_path):
    slides(tmp_path / "data")
    draw(tmp_path / "other" / "a.png")
    (tmp_path / "data" / "Colon" / "link").symlink_to(tmp_path / "other")
    with pytest.raises(DataError, match="link is a linked folder, which mint does not follow"):
        load(tmp_path / "data")


def test_a_pipe_is_no_data(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="is a pipe or a device"):
        load(tmp_path / "pipe")

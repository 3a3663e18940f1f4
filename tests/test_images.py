"""Opening images: what is refused, in which words, and what the accepted ones look like."""

import pickle
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mint_core import images
from mint_core.errors import DataError
from mint_core.images import ArrayFile, ArrayImage, FileImage, check_image_header, open_image


def png_that_declares(path: Path, width: int, height: int) -> Path:
    """A PNG of some hundred bytes whose header promises more pixels than it holds."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    return path


def save(path: Path, array: np.ndarray, mode: str | None = None, **kwargs) -> Path:
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(path, **kwargs)
    return path


NOISE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(60_000, 60_000), (10_000, 10_000), (9_000, 9_000)])
@pytest.mark.parametrize("filter_", ["error", "ignore"])
def test_a_bomb_is_refused_from_its_header(tmp_path, size, filter_):
    path = png_that_declares(tmp_path / "bomb.png", *size)
    for read in (open_image, check_image_header):
        with warnings.catch_warnings():
            warnings.simplefilter(filter_)  # Pillow warns above 89 Mpx and raises above 179 Mpx
            with pytest.raises(
                DataError, match=r"bomb\.png declares .* pixels, more than the limit of 50,000,000; cut"
            ):
                read(path)


def test_the_limit_can_be_set(tmp_path):
    path = save(tmp_path / "a.png", NOISE)
    assert open_image(path, max_pixels=2400).size == (60, 40)
    with pytest.raises(DataError, match="60 x 40 pixels"):
        open_image(path, max_pixels=2399)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_truncated_files_are_refused(tmp_path, suffix):
    whole = save(tmp_path / f"whole.{suffix}", NOISE).read_bytes()
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=rf"cut\.{suffix} .*; (fetch|convert)"):
        open_image(path)


def test_a_truncated_jpeg_is_called_truncated(tmp_path):
    whole = save(tmp_path / "whole.jpg", NOISE).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[:-300])
    check_image_header(tmp_path / "cut.jpg")  # the header alone cannot tell
    with pytest.raises(DataError, match=r"cut\.jpg is truncated and cannot be decoded; fetch it again"):
        open_image(tmp_path / "cut.jpg")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html>404</html>", "is a web page, not an image"),
        (b"\n <html>", "is a web page, not an image"),
        (b"version https://git-lfs.github.com/spec/v1\n", "run `git lfs pull`"),
        (b"hello", "is not an image that mint reads"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image that mint reads"),
        (b"", "is empty"),
    ],
)
def test_what_is_no_image(tmp_path, content, words):
    path = tmp_path / "x.png"
    path.write_bytes(content)
    for read in (open_image, check_image_header):
        with pytest.raises(DataError, match=words) as caught:
            read(path)
        assert "x.png" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(DataError, match=r"gone\.png does not exist"):
        open_image(tmp_path / "gone.png")
    with pytest.raises(DataError, match="is not a file"):
        open_image(tmp_path)
    for attribute in ("key", "quick_key"):
        with pytest.raises(DataError, match="does not exist"):
            getattr(FileImage(tmp_path / "gone.png"), attribute)


def test_random_damage_never_escapes_as_another_error(tmp_path):
    rng = np.random.default_rng(1)
    for suffix in ("png", "jpg", "tif", "gif", "webp", "bmp"):
        whole = bytearray(save(tmp_path / f"whole.{suffix}", NOISE).read_bytes())
        for _ in range(40):
            damaged = bytearray(whole)
            for place in rng.integers(0, min(len(whole), 400), 4):
                damaged[place] = rng.integers(0, 256)
            path = tmp_path / f"damaged.{suffix}"
            path.write_bytes(damaged)
            try:
                assert open_image(path).mode == "RGB"
            except DataError as error:
                assert "damaged." in str(error)


def test_grey_16_bit_is_scaled(tmp_path):
    grey = np.array([[0, 257 * 100, 65535]], dtype=np.uint16)
    for name in ("a.png", "a.tif"):
        pixels = np.asarray(open_image(save(tmp_path / name, grey)))
        assert pixels.tolist() == [[[0] * 3, [100] * 3, [255] * 3]]


def test_pixels_of_unknown_range_are_refused(tmp_path):
    for dtype in (np.float32, np.int32):
        with pytest.raises(DataError, match="32-bit pixels of unknown range; save it"):
            open_image(save(tmp_path / "a.tif", np.ones((4, 4), dtype=dtype)))


def test_transparency_lies_over_white(tmp_path):
    rgba = np.array([[[255, 0, 0, 255], [0, 0, 0, 0], [0, 0, 0, 128]]], dtype=np.uint8)
    pixels = np.asarray(open_image(save(tmp_path / "a.png", rgba)))
    assert pixels.tolist() == [[[255, 0, 0], [255] * 3, [127] * 3]]
    grey_alpha = np.array([[[10, 255], [10, 0]]], dtype=np.uint8)
    assert np.asarray(open_image(save(tmp_path / "b.png", grey_alpha)))[0].tolist() == [[10] * 3, [255] * 3]


def test_palette_with_and_without_transparency(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([200, 10, 20, 1, 2, 3])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png")
    assert np.asarray(open_image(tmp_path / "a.png"))[0].tolist() == [[200, 10, 20], [1, 2, 3]]
    image.save(tmp_path / "b.png", transparency=1)
    assert np.asarray(open_image(tmp_path / "b.png"))[0].tolist() == [[200, 10, 20], [255] * 3]


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.tif")
    assert np.asarray(open_image(tmp_path / "a.tif"))[0, 0].tolist() == [255, 0, 0]


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise to show
    pixels = np.zeros((40, 60, 3), dtype=np.uint8)
    pixels[:, :30] = 255  # the left half is white; shown upright it is the top half
    shown = np.asarray(open_image(save(tmp_path / "a.png", pixels, exif=exif)))
    assert shown.shape == (60, 40, 3)
    assert shown[:30].min() == 255
    assert shown[30:].max() == 0


def test_the_first_page_counts(tmp_path):
    pages = [Image.new("RGB", (5, 5), colour) for colour in ("red", "blue")]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert open_image(tmp_path / "a.tif").getpixel((0, 0)) == (255, 0, 0)


def test_file_keys_name_the_content(tmp_path):
    a, b = save(tmp_path / "a.png", NOISE), save(tmp_path / "b.png", NOISE)
    c = save(tmp_path / "c.png", NOISE[::-1])
    assert FileImage(a).key == FileImage(b).key == FileImage(a).content_key
    assert FileImage(a).key != FileImage(c).key
    assert FileImage(a, key="given").key == "given"
    assert np.array_equal(np.asarray(FileImage(a).open()), NOISE)
    before = FileImage(a).key
    save(a, NOISE[:, ::-1])
    assert FileImage(a).key != before


def test_the_key_is_computed_once(tmp_path):
    image = FileImage(save(tmp_path / "a.png", NOISE))
    key = image.key
    (tmp_path / "a.png").unlink()
    assert image.key == key


def patches(path: Path, dtype: str = "uint8") -> Path:
    rng = np.random.default_rng(2)
    np.save(path, rng.integers(0, 256, (3, 16, 16, 3)).astype(dtype))
    return path


@pytest.mark.parametrize("dtype", ["uint8", "float64", "float32"])
def test_array_rows_are_mapped_not_read(tmp_path, dtype):
    file = ArrayFile(patches(tmp_path / "images.npy", dtype))
    assert isinstance(file.array, np.memmap)
    image = ArrayImage(file, 1).open()
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), np.load(tmp_path / "images.npy")[1].astype(np.uint8))


def test_array_keys(tmp_path):
    path = patches(tmp_path / "images.npy")
    first = [ArrayImage(ArrayFile(path), row).key for row in range(3)]
    assert len(set(first)) == 3
    assert first == [ArrayImage(ArrayFile(path), row).key for row in range(3)]
    changed = np.load(path)
    changed[2, 0, 0, 0] ^= 1
    np.save(path, changed)
    assert not set(first) & {ArrayImage(ArrayFile(path), row).key for row in range(3)}


def test_an_array_image_crosses_processes_as_a_path(tmp_path):
    path = tmp_path / "images.npy"
    np.save(path, np.zeros((50, 64, 64, 3), dtype=np.uint8))
    image = ArrayImage(ArrayFile(path), 49)
    sent = pickle.dumps(image)
    assert len(sent) < 1000
    back = pickle.loads(sent)  # noqa: S301
    assert back.key == image.key
    assert back.open().size == (64, 64)


@pytest.mark.parametrize("value", [-1.0, 256.0, np.nan])
def test_array_values_out_of_range(tmp_path, value):
    array = np.zeros((1, 4, 4, 3))
    array[0, 1, 1, 1] = value
    np.save(tmp_path / "images.npy", array)
    with pytest.raises(DataError, match=r"images\.npy, row 0: pixel values outside 0\.\.255"):
        ArrayImage(ArrayFile(tmp_path / "images.npy"), 0).open()


def test_bad_array_files(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.array(["Colon", None], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"holds Python objects, which mint never unpickles; .*np\.save"):
        ArrayFile(path)
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(DataError, match=r"is not a \.npy file"):
        ArrayFile(path)
    whole = patches(path).read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(DataError, match="damaged or cut short"):
        ArrayFile(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="is empty"):
        ArrayFile(path)
    with pytest.raises(DataError, match="does not exist"):
        ArrayFile(tmp_path / "none.npy")


# --- 16-bit files that use fewer bits


@pytest.fixture
def untold(monkeypatch):
    monkeypatch.setattr(images, "_TOLD", set())


def png_16(path: Path, values: np.ndarray) -> Path:
    """A PNG with 16 bits per channel, which Pillow does not write in colour."""
    kind = {1: 0, 3: 2, 4: 6}[values.shape[2]]

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    return path


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_that_uses_fewer_bits_is_scaled_by_them_with_a_warning(tmp_path, untold, bits, suffix):
    most = 2**bits - 1
    Image.fromarray(np.array([[0, most // 2, most]], np.uint16)).save(tmp_path / f"a.{suffix}")
    with pytest.warns(UserWarning, match=f"use {bits} of their 16 bits"):
        grey = np.asarray(open_image(tmp_path / f"a.{suffix}"))
    assert grey[0, :, 0].tolist() == [0, 127, 255]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_image(tmp_path / f"a.{suffix}")  # said once


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_colours_that_use_fewer_bits_are_scaled_by_them_with_a_warning(tmp_path, untold, channels, bits):
    most = 2**bits - 1
    values = np.zeros((1, 3, channels), np.uint16)
    values[0, :, 0], values[0, :, 1] = [0, most // 2, most], [most, 0, most // 2]
    if channels == 4:
        values[..., 3] = 65535 if bits == 12 else most  # opaque
    path = png_16(tmp_path / "a.png", values)
    with pytest.warns(UserWarning, match=f"use {bits} of their 16 bits"):
        found = np.asarray(open_image(path))
    assert found[0, :, 0].tolist() == [0, 127, 255]
    assert found[0, :, 1].tolist() == [255, 0, 127]


def test_colours_of_16_bits_are_read_as_before(tmp_path):
    values = np.array([[[0, 257 * 100, 65535]], [[4095, 512, 0]]], np.uint16)
    found = np.asarray(open_image(png_16(tmp_path / "a.png", values)))
    assert found[0, 0].tolist() == [0, 100, 255]
    assert found[1, 0].tolist() == [15, 2, 0]


def test_a_black_image_stays_black_without_a_word(tmp_path):
    Image.fromarray(np.zeros((2, 2), np.uint16)).save(tmp_path / "a.png")
    assert not np.asarray(open_image(tmp_path / "a.png")).any()
    assert not np.asarray(open_image(png_16(tmp_path / "b.png", np.zeros((2, 2, 3), np.uint16)))).any()


@pytest.mark.parametrize(
    ("suffix", "file_format"),
    [(".jfif", "JPEG"), (".jpe", "JPEG"), (".JPG", "JPEG"), (".apng", "PNG"), (".ppm", "PPM"), (".pgm", "PPM")]
    + [(suffix, "JPEG2000") for suffix in (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx")],
)
def test_every_suffix_of_a_format_is_an_image(tmp_path, suffix, file_format):
    path = tmp_path / f"a{suffix}"
    Image.new("RGB", (4, 4), (90, 90, 90)).convert("L" if suffix == ".pgm" else "RGB").save(path, file_format)
    assert suffix.lower() in images.SUFFIXES
    assert open_image(path).getpixel((0, 0)) == pytest.approx((90, 90, 90), abs=2)


def test_no_suffix_is_read_and_not_read():
    assert not images.SUFFIXES & images.UNREAD_SUFFIXES
    Image.init()
    read = {suffix for suffix, known in Image.EXTENSION.items() if known in images.FORMATS}
    assert read - images.SUFFIXES == {".pfm"}  # values without a known range


# --- DICOM


def dicom(path: Path, values: np.ndarray, **header: object) -> Path:
    """A small radiograph as a scanner writes it."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = "1.2.3"
    made.PatientName = "SECRET^NAME"
    made.Rows, made.Columns = values.shape[:2]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 12, 11, 0
    made.PixelData = values.astype("<u2").tobytes()
    for name, value in header.items():
        setattr(made, name, value)
    made.save_as(path, enforce_file_format=True)
    return path


GREY = np.array([[0, 1000, 2000], [3000, 4000, 4095]])


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({}, [0, 62, 125, 187, 249, 255]),  # x / 4095 * 255
        ({"WindowCenter": 2000.5, "WindowWidth": 2001}, [0, 0, 128, 255, 255, 255]),  # from 1000 to 3000
        ({"WindowCenter": ["2000.5", "40"], "WindowWidth": ["2001", "80"]}, [0, 0, 128, 255, 255, 255]),
        ({"PhotometricInterpretation": "MONOCHROME1"}, [255, 193, 130, 68, 6, 0]),
        (
            {"RescaleSlope": 1, "RescaleIntercept": -1000, "WindowCenter": 1000.5, "WindowWidth": 2001},
            [0, 0, 128, 255, 255, 255],
        ),
    ],
)
def test_dicom_is_windowed_as_its_header_says(tmp_path, header, expected):
    """The window's formula of DICOM PS3.3, C.11.2.1.2; without a window the range of the values."""
    path = dicom(tmp_path / "a.dcm", GREY, **header)
    check_image_header(path)
    found = np.asarray(FileImage(path).open())
    assert found[..., 0].ravel().tolist() == expected
    assert (found[..., 0] == found[..., 1]).all()


def test_dicom_without_an_ending_is_known_by_its_content(tmp_path):
    assert open_image(dicom(tmp_path / "IM0001", GREY)).size == (3, 2)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "is damaged"),
        (lambda path: path.write_bytes(b"nothing of the kind"), "without an image"),
        (lambda path: dicom(path, GREY, Rows=30_000, Columns=30_000), "declares 30000 x 30000 pixels"),
        (lambda path: dicom(path, GREY, Rows=0), "without an image"),
    ],
)
def test_a_dicom_that_is_no_image_is_refused_without_its_header(tmp_path, spoil, sentence):
    path = dicom(tmp_path / "a.dcm", GREY)
    spoil(path)
    with pytest.raises(DataError, match=sentence) as caught:
        open_image(path)
    assert "SECRET" not in str(caught.value)


def test_dicom_without_pydicom_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("mint_core.dicom.find_spec", lambda _: None)
    with pytest.raises(DataError, match=r"mint-core\[dicom\]"):
        check_image_header(dicom(tmp_path / "a.dcm", GREY))

"""Masks from disk: label maps, COCO run lengths plain and packed, arrays; in folders and zips; faults named with their file."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from types import SimpleNamespace

import numpy as np
import pytest

from pc3d.errors import ConfigError, FileError, FormatError
from pc3d.lift.segmenters import MaskFolder, make_segmenter
from pc3d.lift.segmenters.disk import decode_rle

Image = pytest.importorskip("PIL.Image")

MAP = np.zeros((6, 8), np.uint16)
MAP[1:4, 1:3], MAP[3:, 5:] = 4, 300


def frame(name="0001"):
    return SimpleNamespace(name=name)


def run_lengths(mask) -> list[int]:
    flat = mask.T.ravel().astype(int)
    edges = np.flatnonzero(np.diff(flat, prepend=0)).tolist()
    return np.diff([0, *edges, len(flat)]).tolist()


def packed(counts) -> str:
    """COCO's text of run lengths."""
    text = ""
    for i, count in enumerate(counts):
        value = count - (counts[i - 2] if i > 2 else 0)
        more = True
        while more:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            text += chr((bits | 32 * more) + 48)
    return text


def record(number, *, as_text=False, **more) -> dict:
    counts = run_lengths(number == MAP)
    return {"segmentation": {"size": [6, 8], "counts": packed(counts) if as_text else counts}, **more}


def check(masks):
    assert np.array_equal(masks.ids[0] == 1, MAP == 4)
    assert np.array_equal(masks.ids[0] == 2, MAP == 300)


def test_a_label_map_of_16_bits_with_what_is_known_of_it(tmp_path):
    Image.fromarray(MAP).save(tmp_path / "0001.png")
    check(MaskFolder(tmp_path)(frame()))
    (tmp_path / "0001.json").write_text(json.dumps([{"id": 300, "score": 0.5, "label": "chair", "track": 9}]))
    masks = MaskFolder(tmp_path)(frame())
    check(masks)
    assert masks.classes == ("chair",)
    assert masks.labels.tolist() == [-1, 0]
    assert masks.scores.tolist() == [1.0, 0.5]
    assert masks.tracks.tolist() == [-1, 9]


@pytest.mark.parametrize("as_text", [False, True])
def test_coco_run_lengths_as_sam_writes_them(tmp_path, as_text):
    records = [record(4, as_text=as_text, predicted_iou=0.9), record(300, as_text=as_text, predicted_iou=1.01)]
    (tmp_path / "0001.json").write_text(json.dumps(records))
    masks = MaskFolder(tmp_path)(frame())
    check(masks)
    np.testing.assert_allclose(masks.scores, [0.9, 1.0])


def test_packed_run_lengths_are_those_of_coco():
    """Letters from COCO's own tool for a 5x7 mask with a 2x3 block."""
    mask = np.zeros((5, 7), bool)
    mask[1:3, 2:5] = True
    assert np.array_equal(decode_rle({"size": [5, 7], "counts": packed(run_lengths(mask))}), mask)
    assert packed([11, 2, 3, 2, 3, 2, 12]) == ";230009"


def test_arrays_of_masks_or_ids(tmp_path):
    masks = np.stack([MAP == 4, MAP == 300])
    np.savez(tmp_path / "0001.npz", masks=masks, scores=np.array([0.3, 0.4]), tracks=np.array([1, 2]))
    masks = MaskFolder(tmp_path)(frame())
    check(masks)
    assert masks.tracks.tolist() == [1, 2]
    np.savez(tmp_path / "0001.npz", ids=MAP, tracks=np.array([3, 4]))
    masks = MaskFolder(tmp_path)(frame())
    check(masks)
    assert masks.tracks.tolist() == [3, 4]


def test_many_masks_of_a_large_image_pack_well_and_are_read(tmp_path):
    masks = np.zeros((40, 1440, 1920), bool)
    for i, mask in enumerate(masks):
        mask[20 * i:20 * i + 15, 100:900] = True
    np.savez_compressed(tmp_path / "0001.npz", masks=masks)
    assert masks.nbytes > 100 * (tmp_path / "0001.npz").stat().st_size
    assert len(MaskFolder(tmp_path)(frame())) == 40


def test_a_zip_as_scannet_ships_it(tmp_path):
    Image.fromarray(MAP.astype(np.uint8)).save(tmp_path / "1.png")
    with zipfile.ZipFile(tmp_path / "scene_2d-instance-filt.zip", "w") as archive:
        archive.write(tmp_path / "1.png", "instance-filt/1.png")
    masks = make_segmenter(f"masks:{tmp_path / 'scene_2d-instance-filt.zip'}")(frame("1"))
    assert len(masks) == 2


def test_what_a_json_file_leaves_open_is_as_if_it_were_not_there(tmp_path):
    (tmp_path / "0001.json").write_text(json.dumps([record(4, score=None, label=None, track=None), record(300, label="chair")]))
    masks = MaskFolder(tmp_path)(frame())
    check(masks)
    assert (masks.scores.tolist(), masks.labels.tolist(), masks.tracks.tolist()) == ([1, 1], [-1, 0], [-1, -1])


def write_json(*records):
    return lambda p: (p / "0001.json").write_text(json.dumps(records))


def cut_array(path):
    """An archive whose one array lacks its end."""
    whole = io.BytesIO()
    np.save(whole, MAP)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ids.npy", whole.getvalue()[:-9])


def bomb(path, name) -> None:
    """An archive whose one file says that it unpacks to 2 GiB."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, bytes(1000))
        archive.infolist()[0].file_size = 2**31


def huge_png() -> bytes:
    """The head of an image that Pillow takes for a bomb."""
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)) + chunk(b"IDAT", b"")


FAULTS = {
    "no file for the frame": (lambda p: Image.fromarray(MAP).save(p / "0002.png"), FileError, "0001: no masks for the"),
    "no json": (lambda p: (p / "0001.json").write_text("{"), FormatError, "0001.json: the file is not valid json"),
    "deep json": (lambda p: (p / "0001.json").write_text("[" * 100_000), FormatError, "0001.json: the file is not valid json"),
    "a bomb": (lambda p: bomb(p / "0001.npz", "ids.npy"), FormatError,
               "0001.npz: the archive would unpack to far more than it holds; got 2147483648 bytes"),
    "endless runs": (write_json({"segmentation": {"size": [2**20, 2**20], "counts": [2**40]}}), FormatError,
                     "0001.json: the mask is larger than any image; got 1048576 x 1048576 pixels"),
    "objects": (lambda p: np.savez(p / "0001.npz", ids=np.array([{}])), FormatError, "0001.npz:ids.npy: .*Python objects"),
    "a huge image": (lambda p: (p / "0001.png").write_bytes(huge_png()), FormatError, "0001.png: the label map cannot be read"),
    "no list": (lambda p: (p / "0001.json").write_text("{}"), FormatError, "no list of masks"),
    "short runs": (lambda p: (p / "0001.json").write_text('[{"segmentation": {"size": [6, 8], "counts": [3]}}]'), FormatError,
                   "do not fill the image; got 3; expected 48"),
    "no runs": (lambda p: (p / "0001.json").write_text('[{"segmentation": 3}]'), FormatError, "no COCO run lengths"),
    "no image": (lambda p: (p / "0001.png").write_bytes(b"x"), FormatError, "the label map cannot be read"),
    "colours": (lambda p: Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(p / "0001.png"), FormatError, "one channel"),
    "other arrays": (lambda p: np.savez(p / "0001.npz", a=MAP), FormatError, "no masks in the archive"),
    "other sizes": (write_json(record(4), {"segmentation": {"size": [2, 2], "counts": [4]}}), FormatError, "0001: .*same sh"),
    "negative size": (write_json({"segmentation": {"size": [-6, -8], "counts": [48]}}), FormatError, "0001: .*makes no sense"),
    "a score in words": (write_json(record(4, score="good")), FormatError, "0001: .*makes no sense; got could not convert"),
    "a score of nan": (write_json(record(4, score=float("nan"))), FormatError, "0001: mask scores must be in"),
    "a label without class": (write_json(record(4, label=7)), FormatError, "0001: a mask label has no class; got 7 to 7"),
    "a score of two": (lambda p: np.savez(p / "0001.npz", ids=MAP, scores=[1, 2]), FormatError, "0001: mask scores must be in"),
    "labels in words": (lambda p: np.savez(p / "0001.npz", ids=MAP, labels=["a", "b"]), FormatError, "0001: .*makes no sense"),
    "an empty archive": (lambda p: (p / "0001.npz").write_bytes(b""), FormatError, "0001.npz: the archive cannot be unpacked"),
    "a cut array": (lambda p: cut_array(p / "0001.npz"), FormatError, "0001.npz:ids.npy: .* the size its header promises"),
    "no archive": (lambda p: (p / "0001.npz").write_bytes(b"PK"), FormatError, "0001.npz: the archive cannot be unpacked"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_broken_file_is_refused_with_its_name(name, tmp_path):
    write, error, words = FAULTS[name]
    write(tmp_path)
    with pytest.raises(error, match=words):
        MaskFolder(tmp_path)(frame())


def test_a_broken_file_costs_its_own_frame_alone(tmp_path):
    (tmp_path / "0001.json").write_text(json.dumps([record(4, label="chair"), record(300)]))
    (tmp_path / "0002.json").write_text("{")
    masks = MaskFolder(tmp_path)
    check(masks(frame()))
    assert masks.classes == ("chair",)
    with pytest.raises(FormatError, match=r"0002\.json: the file is not valid json"):
        masks(frame("0002"))


@pytest.mark.parametrize(("classes", "words"), [
    ('{"chair": 1}', "is no list of names"), ('"chair"', "is no list of names"), ("3", "is no list of names"),
    ("[", "not valid json"), ("[" * 100_000, "not valid json")], ids=["object", "text", "number", "cut", "deep"])
def test_classes_that_are_no_list_are_refused(classes, words, tmp_path):
    (tmp_path / "classes.json").write_text(classes)
    (tmp_path / "0001.json").write_text("[]")
    with pytest.raises(FormatError, match=rf"classes\.json:? .*{words}"):
        MaskFolder(tmp_path)


def test_a_damaged_member_of_a_zip_is_refused_with_its_name(tmp_path):
    path = tmp_path / "masks.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("0001.npz", b"0123456789")
    path.write_bytes(path.read_bytes().replace(b"0123456789", b"0123456798"))
    with pytest.raises(FormatError, match=r"masks\.zip:0001\.npz: the file cannot be unpacked; got Bad CRC-32"):
        MaskFolder(path)(frame())


def test_a_bomb_in_a_zip_is_refused_with_its_name(tmp_path):
    bomb(tmp_path / "masks.zip", "0001.png")
    with pytest.raises(FormatError, match=r"masks\.zip:0001\.png: the archive would unpack to far more than it holds"):
        MaskFolder(tmp_path / "masks.zip")(frame())


def test_two_files_for_a_frame_are_refused(tmp_path):
    for kind in ("instance", "label"):
        (tmp_path / kind).mkdir()
        Image.fromarray(MAP).save(tmp_path / kind / "0001.png")
    with pytest.raises(FormatError, match=r"0001: two files .* instance/0001\.png and label/0001\.png"):
        MaskFolder(tmp_path)(frame())
    assert len(MaskFolder(tmp_path / "label")(frame())) == 2


@pytest.mark.parametrize("zipped", [False, True])
def test_masks_of_several_cameras_are_told_apart_by_their_folders(tmp_path, zipped):
    for i, camera in enumerate(("cam0", "cam1", "xcam1")):
        (tmp_path / "masks" / camera).mkdir(parents=True)
        Image.fromarray(np.where(MAP > 4, 0, MAP) if i else MAP).save(tmp_path / "masks" / camera / "0001.png")
        (tmp_path / "masks" / camera / "0001.json").write_text(json.dumps([{"id": 4, "score": 0.1 * i}]))
    if zipped:
        with zipfile.ZipFile(tmp_path / "masks.zip", "w") as archive:
            for path in (tmp_path / "masks").rglob("*.*"):
                archive.write(path, path.relative_to(tmp_path / "masks"))
    masks = make_segmenter(f"masks:{tmp_path / ('masks.zip' if zipped else 'masks')}")
    assert masks(frame("cam0/0001")).scores.tolist() == [0, 1]
    assert masks(frame("cam1/0001")).scores.tolist() == pytest.approx([0.1])
    with pytest.raises(FormatError, match="two files hold the masks of one frame"):
        masks(frame("0001"))
    with pytest.raises(FileError, match="cam2/0001: no masks for the frame"):
        masks(frame("cam2/0001"))


def test_of_masks_with_one_name_those_at_the_top_are_the_frames(tmp_path):
    (tmp_path / "cam0").mkdir()
    Image.fromarray(MAP).save(tmp_path / "0001.png")
    Image.fromarray(np.where(MAP > 4, 0, MAP)).save(tmp_path / "cam0/0001.png")
    masks = MaskFolder(tmp_path)
    assert [len(masks(frame(name))) for name in ("0001", "cam0/0001")] == [2, 1]


def test_sources_that_are_none_are_refused(tmp_path):
    with pytest.raises(FileError, match="there are no masks; expected <frame>"):
        MaskFolder(tmp_path)
    with pytest.raises(FileError, match="no such folder of masks"):
        MaskFolder(tmp_path / "x")
    with pytest.raises(ConfigError, match="unknown source of masks; got 'dog:x'"):
        make_segmenter("dog:x")
    with pytest.raises(ConfigError, match=r"nothing says where .*; got 'sam2'; expected sam2: and a folder of its weights"):
        make_segmenter("sam2")
    with pytest.raises(ConfigError, match=r"the option 'score' is a share; got 2\.0; expected 1 at most"):
        make_segmenter("mask2former:mask2former-synth?score=2")

"""PNG files, captions, colours, panels and curves."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pc3d.errors import BackendError, DataError, FileError
from pc3d.io import read_result, write, write_result
from pc3d.io.ply import read_ply
from pc3d.structures import Instances, PointCloud
from pc3d.viz import class_colors, distinct_colors, draw_curves, draw_panels, draw_run, encode_png, show, view, write_png
from pc3d.viz.canvas import blank, draw_text
from pc3d.viz.curves import _over_layers, nice_ticks
from pc3d.viz.font import fit_text, text_mask, text_width
from pc3d.viz.panels import make_layers, match_colors
from pc3d.viz.viewer import paint_modes

CLASSES = ("chair", "table", "shower curtain")


@pytest.mark.parametrize("shape", [(7, 5), (7, 5, 3), (1, 1, 3), (6, 9, 4)])
def test_png_decodes_to_the_same_pixels(shape, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    path = write_png(tmp_path / "a.png", image)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), image)


def test_what_is_no_picture_is_refused(tmp_path):
    for image in (np.zeros((4, 4, 3)), np.zeros((4, 4, 2), dtype=np.uint8), np.zeros((0, 4, 3), dtype=np.uint8)):
        with pytest.raises(DataError, match="not a picture"):
            encode_png(image)
    write_png(tmp_path / "old.png", np.ones((2, 2), dtype=np.uint8))
    with pytest.raises(DataError):
        write_png(tmp_path / "old.png", np.zeros((2, 2)))
    assert np.asarray(Image.open(tmp_path / "old.png")).all()
    assert [path.name for path in tmp_path.iterdir()] == ["old.png"]
    with pytest.raises(FileError, match="cannot be written"):
        write_png(tmp_path / "missing" / "a.png", np.zeros((2, 2, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [8.0, 11.0, 22.0])
def test_captions_fit(size):
    text = "shower curtain ×12 0.93 (otherfurniture) refrigerator"
    for width in (30, 90, 200):
        short = fit_text(text, size, width)
        assert text_width(short, size) <= width
    assert fit_text(text, size, 1e6) == text
    mask, baseline = text_mask(text, size)
    assert mask[:, [0, -1]].max() == mask[[0, -1]].max() == 0   # nothing is cut off
    assert mask[:baseline].sum() > 5 * mask[baseline:].sum()


def test_every_printable_letter_has_a_glyph_of_its_own():
    letters = [chr(code) for code in range(33, 127) if chr(code) not in "$@^`{}~"]
    drawn = {letter: text_mask(letter, 24)[0].tobytes() for letter in letters}
    assert len(set(drawn.values())) == len(letters)
    assert all(text_mask(letter, 24)[0].any() for letter in letters)


def test_text_off_the_border_is_cut_not_a_crash():
    image = blank(40, 20, (255, 255, 255))
    for x, y in ((-30, 10), (35, 10), (5, -3), (5, 40), (500, 500)):
        draw_text(image, "sofa", x, y, halo=(0, 0, 0))
    assert (image < 255).any()


def test_colours_are_distinct_and_do_not_depend_on_how_many_there_are():
    colors = distinct_colors(30).astype(int)
    np.testing.assert_array_equal(distinct_colors(7), colors[:7])
    gaps = np.abs(colors[:, None] - colors).sum(axis=2) + 999 * np.eye(30, dtype=int)
    assert gaps.min() > 24
    assert gaps[:12, :12].min() > 45
    assert class_colors(CLASSES)[0].tolist() == [188, 189, 34]
    assert class_colors(("piano", "lamp")).shape == (2, 3)


def small_result(num_points=600):
    rng = np.random.default_rng(0)
    ids = rng.integers(-1, 3, num_points)
    xyz = rng.uniform(0, 1, (num_points, 3)) + np.array([[0, 0, 0], [3, 0, 0], [0, 3, 0], [3, 3, 0]])[ids]
    labels = np.where(ids >= 0, np.array([0, 1, 2, 0])[ids], -1)
    rgb = rng.integers(0, 255, (num_points, 3), dtype=np.uint8)
    cloud = PointCloud(xyz.astype(np.float32), rgb=rgb, labels=labels, instances=ids)
    masks = np.stack([ids == 2, ids == 0, rng.random(num_points) < 0.02])
    return cloud, Instances.from_masks(masks, [2, 0, 1], [0.9, 0.8, 0.05], CLASSES)


def test_a_true_object_takes_the_colour_of_its_prediction():
    cloud, found = small_result()
    truth, prediction = make_layers(cloud, found)
    assert truth.names == ["chair", "table", "shower curtain"]
    assert prediction.names == ["shower curtain", "chair", "table"]
    np.testing.assert_array_equal(prediction.colors[:2], truth.colors[[2, 0]])
    np.testing.assert_array_equal(match_colors(np.array([0, 0, 1, 1]), np.array([1, 1, 0, -1]), 3, first_new=9), [1, 0, 9])
    assert match_colors(np.array([-1, -1]), np.array([0, -1]), 1, first_new=0).tolist() == [0]


def test_an_instance_has_one_colour_in_file_panels_and_window(tmp_path):
    cloud, found = small_result()
    found = found[[2, 0, 1]]
    write_result(tmp_path, cloud, found)
    painted, shown = read_ply(tmp_path / "instances.ply"), paint_modes(cloud, found)["2"]
    for row in (0, 1, 2):
        mine = found.to_labels()[0] == row
        np.testing.assert_array_equal(painted.rgb[mine], shown[mine])
        assert (shown[mine] == make_layers(cloud, found)[1].colors[row]).all()


@pytest.mark.parametrize("color_by", ["instances", "classes"])
def test_panels_are_as_wide_as_asked_with_and_without_truth_and_prediction(color_by):
    cloud, found = small_result()
    bare = PointCloud(cloud.xyz)
    for scan, prediction in ((cloud, found), (bare, found), (cloud, None), (bare, None), (cloud, found[:0])):
        image = draw_panels(scan, prediction, width=420, color_by=color_by)
        assert image.shape[1:] == (420, 3)
        assert image.std() > 5
    empty = PointCloud(np.zeros((0, 3), dtype=np.float32))
    assert draw_panels(empty, Instances.from_masks(np.zeros((0, 0), bool), [], [], CLASSES), width=300).shape[1] == 300


def test_a_result_folder_is_drawn_without_a_display(tmp_path, monkeypatch):
    cloud, found = small_result()
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    write_result(tmp_path / "out", cloud, found)
    assert view(tmp_path / "out", png=tmp_path / "a.png") == tmp_path / "a.png"
    assert Image.open(tmp_path / "a.png").width == 1500
    write(cloud, tmp_path / "scan.ply")
    assert Image.open(io.BytesIO(view(tmp_path / "scan.ply", png=tmp_path / "b.png").read_bytes())).width == 1500
    with pytest.raises(BackendError, match="--png"):
        show(cloud, found)


@pytest.mark.parametrize(("evidence", "named"), [
    ({}, True), ({"label_votes": 3}, False), ({"label_votes": 3, "source": 0}, True)])
def test_true_objects_bear_the_names_of_a_network_but_not_of_lifted_masks(evidence, named, tmp_path, monkeypatch):
    """What was lifted says so by its votes; what network and masks found together is named by the network."""
    cloud, found = small_result()
    assert cloud.labels is not None
    extra = {name: np.zeros((len(found), width) if width else len(found), np.float32) for name, width in evidence.items()}
    write_result(tmp_path / "out", cloud, replace(found, evidence=extra))
    drawn = []
    monkeypatch.setattr("pc3d.viz.panels.make_layers", lambda *args, make=make_layers, **more: drawn.append(
        make(*args, **more)) or drawn[-1])
    view(tmp_path / "out", png=tmp_path / "a.png")
    truth = next(layer for layer in drawn[0] if layer.title == "Truth")
    assert (set(truth.names) == {"object"}) != named
    assert np.array_equal(read_result(tmp_path / "out")[0].labels, cloud.labels)    # and stay in the file


def test_each_key_of_the_viewer_has_colours():
    cloud, found = small_result()
    paints = paint_modes(cloud, found)
    assert sorted(paints) == ["1", "2", "3", "4"]
    assert all(colors.shape == cloud.xyz.shape and colors.dtype == np.uint8 for colors in paints.values())
    assert sorted(paint_modes(PointCloud(cloud.xyz), None)) == ["1"]


def test_curves_rise_to_the_upper_right():
    image = draw_curves({"AP": ([0, 1, 2, 3], [0.0, 1.0, np.nan, 3.0])}, width=300, height=200)
    mine = np.abs(image.astype(int) - distinct_colors(1)[0]).sum(axis=2) < 30
    mine[:70] &= np.arange(300) > 150         # not the legend
    rows, columns = np.nonzero(mine)
    assert np.corrcoef(rows, columns)[0, 1] < -0.95
    assert draw_curves({}, width=200, height=150).shape == (150, 200, 3)
    single = draw_curves({"flat": ([1], [0.0])}, width=200, height=150)
    assert (np.abs(single[60:].astype(int) - distinct_colors(1)[0]).sum(axis=2) < 30).any()


def test_a_long_legend_takes_more_rows():
    names = [f"a long name {k}" for k in range(8)]
    image = draw_curves({name: ([], []) for name in names}, width=400, height=300)
    for color in distinct_colors(8):
        assert (image == color).all(axis=2).any()


def test_ticks_are_round_and_enclose_the_values():
    np.testing.assert_allclose(nice_ticks(np.array([0.03, 0.97])), [0, 0.2, 0.4, 0.6, 0.8, 1.0])
    ticks = nice_ticks(np.array([-13.0, 211.0]))
    assert ticks[0] <= -13 < 211 <= ticks[-1]
    assert len(ticks) < 9
    np.testing.assert_allclose(nice_ticks(np.array([0.0])), [0, 0.2, 0.4, 0.6, 0.8, 1.0])     # an AP of 0, not of -0.5 to 0.5
    np.testing.assert_allclose(nice_ticks(np.array([1.0, 2.0]), finest=1), [1, 2])            # there is no epoch 1.2
    assert nice_ticks(np.array([7.0]))[[0, -1]].tolist() == [0, 8]
    assert nice_ticks(np.array([-7.0]))[[0, -1]].tolist() == [-8, 0]


def test_a_training_run_is_drawn_from_its_log(tmp_path):
    with pytest.raises(FileError, match="no log"):
        draw_run(tmp_path)
    lines = [{"kind": "train", "time": 0, "epoch": k, "lr": 1, "seconds": 9.5, "loss": 5 - k} for k in range(3)]
    lines += [{"kind": "val", "time": 0, "epoch": 2, "ap": 0.1, "ap50": None, "ap25": 0.3, "ap/chair": 0.1}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    picture = draw_run(tmp_path, width=400)
    assert picture.shape[1] == 400
    timed = [{**line, "lr": 7, "step": 900, "data_seconds": 80.0} for line in lines]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in timed))
    np.testing.assert_array_equal(draw_run(tmp_path, width=400), picture)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "tra')  # a run that is writing, or was killed at it
    np.testing.assert_array_equal(draw_run(tmp_path, width=400), picture)


def test_the_layers_of_a_loss_are_one_curve():
    summed = _over_layers({"kind": "train", "epoch": 1, "loss": 9.0, "layer0.cls": 1.0, "layer1.cls": 2.0, "layer1.dice": 4.0})
    assert summed == {"kind": "train", "epoch": 1, "loss": 9.0, "cls": 3.0, "dice": 4.0}


def test_pictures_show_every_instance_they_are_given():
    cloud, found = small_result()
    unsure = replace(found, scores=np.full(len(found), 0.01, dtype=np.float32))
    layer = next(layer for layer in make_layers(cloud, unsure) if layer.title == "Prediction")
    assert set(layer.owner[layer.owner >= 0]) == set(found.to_labels()[0]) - {-1}

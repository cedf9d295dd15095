"""Files of the next frames are read in the background: in order, a few at a time, faults in their turn."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from pc3d.errors import DataError, FormatError
from pc3d.lift import FrameMasks, lift
from pc3d.lift.ahead import held, read_ahead


def test_results_come_in_order_though_the_first_takes_longest():
    def slow(item):
        time.sleep(0.05 * (item == 0))
        return item
    assert list(read_ahead(range(20), slow, workers=3)) == list(range(20))


def test_a_few_are_read_in_advance_and_not_all():
    asked = []
    def items():
        for item in range(100):
            asked.append(item)
            yield item
    reader = read_ahead(items(), lambda item: item, workers=2)
    assert next(reader) == 0
    assert len(asked) == 5
    reader.close()
    assert len(asked) == 5


def test_what_reading_raises_is_raised_in_its_turn_and_the_rest_is_given_up():
    started = []
    def read(item):
        started.append(item)
        if item == 3:
            raise DataError("item 3")
        time.sleep(0.01)
        return item
    reader = read_ahead(range(100), read, workers=1)
    assert [next(reader) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DataError, match="item 3"):
        next(reader)
    assert len(started) < 10


def test_an_interrupt_leaves_no_thread_behind(scene):
    """Ctrl-C arrives in the main thread, wherever it is: here between two frames."""
    def frames():
        yield from scene.frames[:8]
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        lift(scene.cloud, frames(), Masks(scene, []))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read_ahead")]


def test_an_error_is_held_until_the_value_is_asked_for():
    def broken():
        raise FormatError("0001.png: cut")
    give = held(broken)
    for _ in range(2):
        with pytest.raises(FormatError, match=r"0001\.png: cut"):
            give()
    assert held(lambda: 3)() == 3


class Masks:
    """The truth, and which thread asked for each frame."""

    def __init__(self, scene, asked, ahead=None):
        self.scene, self.asked = scene, asked
        if ahead is not None:
            self.ahead = ahead

    def __call__(self, frame):
        self.asked.append((frame.name, threading.current_thread() is threading.main_thread()))
        if frame.name == "0005":
            raise FormatError("masks/0005.png: the label map cannot be read; got x")
        return FrameMasks.from_label_map(self.scene.seen[int(frame.name)], none=-1)


@pytest.mark.parametrize("ahead", [None, "image", "masks"])
def test_every_source_gives_the_same_and_faults_are_those_of_their_frame(scene, ahead):
    def broken():
        raise FormatError("0002.png: the image cannot be read; got cut")
    frames = list(scene.frames)
    frames[2] = replace(frames[2], read_depth=broken)
    asked = []
    found, lifter = lift(scene.cloud, frames, Masks(scene, asked, ahead))
    expected, other = lift(scene.cloud, frames, Masks(scene, []))
    assert lifter.skipped == other.skipped == {"0002": "unreadable depth", "0005": "no masks: the label map cannot be read"}
    assert (lifter.votes().counts != other.votes().counts).nnz == 0
    assert np.array_equal(found.bits, expected.bits)
    assert {name for name, _ in asked} >= {frame.name for frame in frames} - {"0002"}
    assert {main for _, main in asked} == {ahead != "masks"}


def test_images_are_read_once_in_the_background_and_only_where_they_are_wanted(scene):
    def counted(frame, reads):
        def rgb():
            reads.append((frame.name, threading.current_thread() is threading.main_thread()))
            return np.zeros((60, 80, 3), np.uint8)
        return replace(frame, read_rgb=rgb)
    for ahead, expected in (("image", [(frame.name, False) for frame in scene.frames]), ("masks", []), (None, [])):
        reads: list = []
        masks = Masks(scene, [], ahead)
        def segmenter(frame, masks=masks, ahead=ahead):
            if ahead == "image":
                assert frame.rgb is frame.rgb
            return masks(frame)
        segmenter.ahead = ahead
        lift(scene.cloud, [counted(frame, reads) for frame in scene.frames], segmenter)
        assert sorted(reads) == expected

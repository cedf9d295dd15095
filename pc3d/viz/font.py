"""A small stroke font: letters are lines and arcs, so captions are crisp at any size and need no font file.

Units: the baseline is 0, small letters are 10 high, capitals 14, and tails reach to -4.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_CAP = 14.0
_GAP = 3.4      # between letters
_WORD = 5.5     # width of a space
_TOP, _BOTTOM = 16.0, -5.0

Stroke = NDArray[np.float64]  # (K, 2) x to the right, y up


def text_width(text: str, size: float) -> float:
    """Return the width in pixels of one line of text whose capitals are ``size`` pixels high."""
    advance = sum(_advance(letter) for letter in text)
    return max(0.0, (advance - _GAP) * size / _CAP) if text else 0.0


def fit_text(text: str, size: float, width: float) -> str:
    """Shorten text with an ellipsis until it fits into ``width`` pixels."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + "...", size) > width:
        text = text[:-1]
    return text.rstrip() + "..." if text else ""


def text_mask(text: str, size: float, weight: float = 0.13) -> tuple[NDArray[np.float32], int]:
    """Draw one line of text; returns its coverage (h, w) in [0, 1] and the row of the baseline.

    ``size`` is the height of capitals in pixels, ``weight`` the stroke width as a share of it.
    """
    unit = size / _CAP
    pad = int(np.ceil(size * weight)) + 1
    baseline = int(np.ceil(_TOP * unit)) + pad
    mask = np.zeros((baseline + int(np.ceil(-_BOTTOM * unit)) + pad, int(np.ceil(text_width(text, size))) + 2 * pad + 1),
                    dtype=np.float32)
    pen = 0.0
    for letter in text:
        for stroke in _strokes(letter):
            points = np.column_stack([pad + (pen + stroke[:, 0]) * unit, baseline - stroke[:, 1] * unit])
            cover_polyline(mask, points, max(size * weight, 1.0))
        pen += _advance(letter)
    return mask, baseline


def cover_polyline(mask: NDArray[np.float32], points: NDArray[np.floating], width: float) -> None:
    """Draw an anti-aliased line through points (K, 2) (column, row; pixel centres at +0.5) into a coverage mask, in place."""
    reach = width / 2 + 1
    for a, b in pairwise(points):
        low = np.maximum(np.floor(np.minimum(a, b) - reach).astype(int), 0)
        high = np.minimum(np.ceil(np.maximum(a, b) + reach).astype(int) + 1, mask.shape[::-1])
        if (high <= low).any():
            continue
        x = np.arange(low[0], high[0]) + 0.5 - a[0]
        y = (np.arange(low[1], high[1]) + 0.5 - a[1])[:, None]
        run = b - a
        along = np.clip((x * run[0] + y * run[1]) / max(float(run @ run), 1e-9), 0.0, 1.0)
        distance = np.hypot(x - along * run[0], y - along * run[1])
        window = mask[low[1]:high[1], low[0]:high[0]]
        np.maximum(window, np.clip(width / 2 - distance + 0.5, 0.0, 1.0), out=window, casting="same_kind")


def _line(*xy: float) -> Stroke:
    return np.array(xy, dtype=np.float64).reshape(-1, 2)


def _arc(x: float, y: float, rx: float, ry: float, start_deg: float, stop_deg: float) -> Stroke:
    angles = np.radians(np.linspace(start_deg, stop_deg, max(4, int(abs(stop_deg - start_deg) / 15) + 1)))
    return np.column_stack([x + rx * np.cos(angles), y + ry * np.sin(angles)])


def _dot(x: float, y: float) -> Stroke:
    return _line(x, y, x, y + 0.01)


def _join(*strokes: Stroke) -> Stroke:
    return np.concatenate(strokes)


@lru_cache(maxsize=256)
def _strokes(letter: str) -> tuple[Stroke, ...]:
    return _glyphs().get(letter, () if letter.isspace() else _glyphs()["?"])


@lru_cache(maxsize=256)
def _advance(letter: str) -> float:
    if letter.isdigit():  # as wide as each other, so columns of numbers align
        return 8.8 + _GAP
    strokes = _strokes(letter)
    return max(float(stroke[:, 0].max()) for stroke in strokes) + _GAP if strokes else _WORD


@lru_cache(maxsize=1)
def _glyphs() -> dict[str, tuple[Stroke, ...]]:
    return {**_small_letters(), **_capitals(), **_digits(), **_signs()}


def _small_letters() -> dict[str, tuple[Stroke, ...]]:
    bowl = _arc(4, 5, 4, 5, 0, 360)
    arch = _join(_arc(4, 6, 4, 4, 180, 0), _line(8, 6, 8, 0))
    return {
        "a": (bowl, _line(8, 10, 8, 0)),
        "b": (bowl, _line(0, 14, 0, 0)),
        "c": (_arc(4.2, 5, 4.2, 5, 45, 315),),
        "d": (bowl, _line(8, 14, 8, 0)),
        "e": (_join(_line(0.2, 5.2, 8, 5.2), _arc(4, 5, 4, 5, 3, 312)),),
        "f": (_join(_arc(4.8, 11, 3, 3, 75, 180), _line(1.8, 11, 1.8, 0)), _line(0, 9.6, 4.8, 9.6)),
        "g": (bowl, _join(_line(8, 10, 8, -0.5), _arc(4, -0.5, 4, 3.5, 0, -150))),
        "h": (_line(0, 14, 0, 0), arch),
        "i": (_line(0, 10, 0, 0), _dot(0, 13.4)),
        "j": (_join(_line(2, 10, 2, -1.2), _arc(-0.6, -1.2, 2.6, 2.6, 0, -75)), _dot(2, 13.4)),
        "k": (_line(0, 14, 0, 0), _line(7, 10, 0, 3.8), _line(2.8, 6.2, 7.4, 0)),
        "l": (_join(_line(0, 14, 0, 2.2), _arc(2.2, 2.2, 2.2, 2.2, 180, 265)),),
        "m": (_line(0, 10, 0, 0), _join(_arc(3.2, 6.8, 3.2, 3.2, 180, 0), _line(6.4, 6.8, 6.4, 0)),
              _join(_arc(9.6, 6.8, 3.2, 3.2, 180, 0), _line(12.8, 6.8, 12.8, 0))),
        "n": (_line(0, 10, 0, 0), arch),
        "o": (_arc(4.2, 5, 4.2, 5, 0, 360),),
        "p": (bowl, _line(0, 10, 0, -4)),
        "q": (bowl, _line(8, 10, 8, -4)),
        "r": (_line(0, 10, 0, 0), _arc(4, 6, 4, 4, 180, 72)),
        "s": (_join(_arc(3.4, 7.5, 3.1, 2.5, 40, 270), _arc(3.4, 2.5, 3.4, 2.5, 90, -145)),),
        "t": (_join(_line(1.8, 13, 1.8, 3), _arc(4.8, 3, 3, 3, 180, 285)), _line(0, 9.8, 5, 9.8)),
        "u": (_join(_line(0, 10, 0, 4), _arc(4, 4, 4, 4, 180, 360)), _line(8, 10, 8, 0)),
        "v": (_line(0, 10, 3.9, 0, 7.8, 10),),
        "w": (_line(0, 10, 3.1, 0, 6.2, 9.4, 9.3, 0, 12.4, 10),),
        "x": (_line(0, 10, 7.4, 0), _line(7.4, 10, 0, 0)),
        "y": (_line(0, 10, 4, 0), _line(8, 10, 4, 0, 2.4, -4)),
        "z": (_line(0, 10, 7, 10, 0, 0, 7.2, 0),),
    }


def _capitals() -> dict[str, tuple[Stroke, ...]]:
    return {
        "A": (_line(0, 0, 5.2, 14, 10.4, 0), _line(1.9, 4.8, 8.5, 4.8)),
        "B": (_join(_line(5, 7.4, 0, 7.4, 0, 14, 5, 14), _arc(5, 10.7, 3.3, 3.3, 90, -90)),
              _join(_line(0, 7.4, 0, 0, 5.2, 0), _arc(5.2, 3.7, 3.8, 3.7, -90, 90))),
        "C": (_arc(5.8, 7, 5.8, 7, 45, 315),),
        "D": (_join(_line(4, 0, 0, 0, 0, 14, 4, 14), _arc(4, 7, 5.8, 7, 90, -90)),),
        "E": (_line(8, 14, 0, 14, 0, 0, 8.2, 0), _line(0, 7.3, 7, 7.3)),
        "F": (_line(8, 14, 0, 14, 0, 0), _line(0, 7.1, 7, 7.1)),
        "G": (_join(_arc(5.8, 7, 5.8, 7, 45, 330), _line(11, 3.4, 11, 6.6, 6.6, 6.6)),),
        "H": (_line(0, 14, 0, 0), _line(9.4, 14, 9.4, 0), _line(0, 7.3, 9.4, 7.3)),
        "I": (_line(0, 14, 0, 0),),
        "J": (_join(_line(5.8, 14, 5.8, 3.4), _arc(2.6, 3.4, 3.2, 3.4, 0, -150)),),
        "K": (_line(0, 14, 0, 0), _line(8.8, 14, 0, 5.2), _line(3.2, 8.4, 9.2, 0)),
        "L": (_line(0, 14, 0, 0, 7.6, 0),),
        "M": (_line(0, 0, 0, 14, 5.8, 3.6, 11.6, 14, 11.6, 0),),
        "N": (_line(0, 0, 0, 14, 9.4, 0, 9.4, 14),),
        "O": (_arc(6, 7, 6, 7, 0, 360),),
        "P": (_join(_line(0, 0, 0, 14, 5, 14), _arc(5, 10.2, 3.8, 3.8, 90, -90), _line(5, 6.4, 0, 6.4)),),
        "Q": (_arc(6, 7, 6, 7, 0, 360), _line(7.6, 3.4, 11.6, -0.8)),
        "R": (_join(_line(0, 0, 0, 14, 5, 14), _arc(5, 10.3, 3.7, 3.7, 90, -90), _line(5, 6.6, 0, 6.6)), _line(5, 6.6, 9, 0)),
        "S": (_join(_arc(4.5, 10.6, 4, 3.4, 35, 270), _arc(4.5, 3.6, 4.5, 3.6, 90, -150)),),
        "T": (_line(0, 14, 10, 14), _line(5, 14, 5, 0)),
        "U": (_join(_line(0, 14, 0, 4.6), _arc(4.6, 4.6, 4.6, 4.6, 180, 360), _line(9.2, 4.6, 9.2, 14)),),
        "V": (_line(0, 14, 5.1, 0, 10.2, 14),),
        "W": (_line(0, 14, 3.8, 0, 7.6, 13, 11.4, 0, 15.2, 14),),
        "X": (_line(0, 14, 9.4, 0), _line(9.4, 14, 0, 0)),
        "Y": (_line(0, 14, 4.8, 6.6, 9.6, 14), _line(4.8, 6.6, 4.8, 0)),
        "Z": (_line(0, 14, 8.8, 14, 0, 0, 9, 0),),
    }


def _digits() -> dict[str, tuple[Stroke, ...]]:
    return {
        "0": (_arc(4.4, 7, 4.4, 7, 0, 360),),
        "1": (_line(1.2, 11, 4.8, 14, 4.8, 0),),
        "2": (_join(_arc(4.2, 9.8, 4.2, 4.2, 165, -35), _line(7.2, 6.6, 0, 0, 8.6, 0)),),
        "3": (_join(_arc(4, 10.6, 3.7, 3.4, 150, -90), _line(2.8, 7.2, 4, 7.2), _arc(4, 3.6, 4.3, 3.6, 90, -150)),),
        "4": (_line(6.4, 0, 6.4, 14, 0, 4, 8.8, 4),),
        "5": (_join(_line(7.8, 14, 1.1, 14, 0.6, 7.6), _arc(4, 4.5, 4.5, 4.5, 132, -145)),),
        "6": (_arc(4.4, 4.4, 4.4, 4.4, 0, 360), _join(_line(6.6, 14), _line(3.2, 10), _arc(4.4, 4.4, 4.4, 4.4, 140, 180))),
        "7": (_line(0, 14, 8.6, 14, 3, 0),),
        "8": (_arc(4.4, 10.6, 3.6, 3.4, 0, 360), _arc(4.4, 3.6, 4.4, 3.6, 0, 360)),
        "9": (_arc(4.4, 9.6, 4.4, 4.4, 0, 360), _join(_line(2.2, 0), _line(5.6, 4), _arc(4.4, 9.6, 4.4, 4.4, -40, 0))),
    }


def _signs() -> dict[str, tuple[Stroke, ...]]:
    return {
        ".": (_dot(0.6, 0.4),),
        ",": (_line(1, 0.6, 0.2, -2.6),),
        ":": (_dot(0.6, 0.4), _dot(0.6, 8)),
        ";": (_line(1, 0.6, 0.2, -2.6), _dot(0.8, 8)),
        "-": (_line(0, 5.2, 4.6, 5.2),),
        "_": (_line(0, -2, 8, -2),),
        "+": (_line(0, 6, 8, 6), _line(4, 10, 4, 2)),
        "=": (_line(0, 8, 8, 8), _line(0, 4, 8, 4)),
        "/": (_line(0, -2, 5.6, 15),),
        "\\": (_line(0, 15, 5.6, -2),),
        "|": (_line(0, 15, 0, -3),),
        "%": (_arc(2.4, 11.2, 2.4, 2.8, 0, 360), _arc(9.6, 2.8, 2.4, 2.8, 0, 360), _line(9.8, 14, 2.2, 0)),
        "(": (_arc(5, 6, 5, 9.4, 112, 248),),
        ")": (_arc(-1.9, 6, 5, 9.4, 68, -68),),
        "[": (_line(3.4, 15, 0, 15, 0, -3, 3.4, -3),),
        "]": (_line(0, 15, 3.4, 15, 3.4, -3, 0, -3),),
        "<": (_line(7.4, 10.4, 0, 6, 7.4, 1.6),),
        ">": (_line(0, 10.4, 7.4, 6, 0, 1.6),),
        "!": (_line(0.5, 14, 0.5, 4.4), _dot(0.5, 0.4)),
        "?": (_join(_arc(3.6, 10.4, 3.6, 3.6, 165, -50), _line(3.6, 5.6, 3.6, 4.4)), _dot(3.6, 0.4)),
        "'": (_line(0, 14, 0, 10.4),),
        '"': (_line(0, 14, 0, 10.4), _line(3, 14, 3, 10.4)),
        "*": (_line(3, 14, 3, 8), _line(0.4, 12.5, 5.6, 9.5), _line(0.4, 9.5, 5.6, 12.5)),
        "#": (_line(3, 13.5, 1.8, 0.5), _line(7.4, 13.5, 6.2, 0.5), _line(0.6, 9.4, 9, 9.4), _line(0, 4.6, 8.4, 4.6)),
        "&": (_join(_line(9.4, 0, 2.4, 8.6), _arc(4.2, 10.9, 2.6, 3.1, 215, -40), _line(6, 8.8, 2.2, 6.4),
                    _arc(4, 3.4, 3.8, 3.4, 120, 300), _line(6.4, 1, 9, 5)),),
        "×": (_line(0.6, 8.6, 6, 3.2), _line(6, 8.6, 0.6, 3.2)),
        "·": (_dot(1, 5.4),),
        "–": (_line(0, 5.2, 7, 5.2),),
        "±": (_line(0, 7.4, 8, 7.4), _line(4, 11, 4, 3.8), _line(0, 1, 8, 1)),
        "²": (_join(_arc(2.2, 11.9, 2.2, 2.1, 165, -35), _line(0, 7, 4.4, 7)),),
    }

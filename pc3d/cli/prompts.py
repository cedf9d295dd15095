"""``--click``, ``--point``, ``--box``, ``--not-click`` and ``--not-point`` of ``pc3d lift``: words to a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pc3d.errors import ConfigError, explain

if TYPE_CHECKING:
    from pc3d.lift import Pixels, Prompt


def parse_prompt(clicks: Sequence[str] | None, points: Sequence[str] | None, box: str | None,
                 not_clicks: Sequence[str] | None = None, not_points: Sequence[str] | None = None) -> Prompt | None:
    """What is meant, None where nothing is given; raises ConfigError for words that are no places."""
    from pc3d.lift import Prompt

    if not (clicks or points or box or not_clicks or not_points):
        return None
    return Prompt(_places(clicks), tuple(_pixels(text, 2, "FRAME:u,v") for text in points or ()),
                  None if box is None else _pixels(box, 4, "FRAME:u0,v0,u1,v1"),
                  _places(not_clicks), tuple(_pixels(text, 2, "FRAME:u,v") for text in not_points or ()))


def _places(texts: Sequence[str] | None) -> tuple[int | tuple[float, ...], ...]:
    return tuple(int(text) if text.isdigit() else _numbers(text, 3, "x,y,z, or the row of a point") for text in texts or ())


def _pixels(text: str, count: int, expected: str) -> Pixels:
    from pc3d.lift import Pixels

    name, _, values = text.rpartition(":")
    return Pixels(name, _numbers(values, count, expected))


def _numbers(text: str, count: int, expected: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count:
        raise ConfigError(explain("this is no place", got=repr(text), expected=expected))
    return values

"""Where the masks of a frame come from: files, the truth, or a 2D model; one small adapter each behind one call.

A segmenter is called with a Frame and returns its FrameMasks. ``make_segmenter`` builds one from the words of the command
line: ``masks:DIR``, ``sam2:facebook/sam2.1-hiera-tiny``, ``sam3:facebook/sam3?text=chair,dining table``,
``mask2former:FOLDER?score=0.6&skip=wall,floor``, ``regions:felzenszwalb``, ...
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from pc3d.errors import ConfigError, explain
from pc3d.lift.segmenters import prompted, universal, video
from pc3d.lift.segmenters.base import GivenMasks, Segmenter
from pc3d.lift.segmenters.cache import CachedSegmenter
from pc3d.lift.segmenters.checkpoint import state
from pc3d.lift.segmenters.concept import ConceptOptions, ConceptSegmenter
from pc3d.lift.segmenters.disk import MaskFolder
from pc3d.lift.segmenters.prompted import AutomaticOptions, PromptedSegmenter
from pc3d.lift.segmenters.regions import RegionOptions, RegionSegmenter
from pc3d.lift.segmenters.universal import UniversalOptions, UniversalSegmenter
from pc3d.lift.segmenters.video import VideoOptions, VideoSegmenter

__all__ = ["AutomaticOptions", "CachedSegmenter", "ConceptOptions", "ConceptSegmenter", "GivenMasks", "MaskFolder",
           "PromptedSegmenter", "RegionOptions", "RegionSegmenter", "Segmenter", "UniversalOptions", "UniversalSegmenter",
           "VideoOptions", "VideoSegmenter", "make_segmenter"]

REGIONS = "regions:felzenszwalb"     # no model at all

Options = TypeVar("Options", AutomaticOptions, ConceptOptions, RegionOptions, UniversalOptions, VideoOptions)


def make_segmenter(text: str, device: str = "cpu", cache: Path | None = None) -> Segmenter:
    """Build a segmenter from ``kind:source?option=value&option=value``; raises ConfigError for what is not known.

    ``source`` of a model is a folder, a Hugging Face id, or the name of one that ships (``weights.CHECKPOINTS``). With
    ``cache``, a folder, masks of a model are kept there.
    """
    kind, _, rest = text.partition(":")
    source, _, query = rest.partition("?")
    given = dict(part.partition("=")[::2] for part in query.split("&") if part)
    if text.split("?")[0] == REGIONS:
        return RegionSegmenter(_options(RegionOptions(), given))
    kinds = ("masks", *prompted.FAMILIES, *universal.FAMILIES)
    if kind not in kinds:
        known = (REGIONS, *(f"{name}:..." for name in kinds))
        raise ConfigError(explain("unknown source of masks", got=repr(text), expected=", ".join(known)))
    if not source:
        wanted = "a folder or zip of masks" if kind == "masks" else "a folder of its weights, or an id on the Hugging Face hub"
        raise ConfigError(explain("nothing says where the masks come from", got=repr(text), expected=f"{kind}: and {wanted}",
                                  do="docs/lifting.md has a table of them."))
    if kind == "masks":
        if given:
            raise ConfigError(explain("masks:PATH takes no options", got=", ".join(given)))
        return MaskFolder(Path(source))
    segmenter: Segmenter
    if kind in video.TRACKERS and given.pop("video", "0") != "0":
        if cache is not None:
            raise ConfigError(explain("the masks of a video are not kept: each depends on all frames before it", got=cache,
                                      do="Leave out the cache, or video=1."))
        own = {field.name: given.pop(field.name) for field in fields(VideoOptions) if field.name in given}
        return VideoSegmenter(kind, source, _finder(kind, source, device, given), device, _options(VideoOptions(), own))
    if kind in prompted.FAMILIES:
        segmenter = _finder(kind, source, device, given)
    else:
        _options(UniversalOptions(), given)     # a wrong word is told before anything is loaded
        segmenter = UniversalSegmenter(kind, source, device)
        segmenter.choose(_options(segmenter.options, given))
    return segmenter if cache is None else CachedSegmenter(segmenter, cache, f"{text} {state(source)}")


def _finder(kind: str, source: str, device: str, given: dict[str, str]) -> PromptedSegmenter | ConceptSegmenter:
    """A model of the SAM family: by text where some is given, otherwise for everything."""
    if kind == "sam3" and "text" in given:
        return ConceptSegmenter(source, device, _options(ConceptOptions(), given))
    return PromptedSegmenter(kind, source, device, _options(AutomaticOptions(), given))


def _options(defaults: Options, given: dict[str, str]) -> Options:
    """Options by name, each in the type of its default."""
    values: dict[str, Any] = {field.name: getattr(defaults, field.name) for field in fields(defaults)}
    for name, text in given.items():
        if name not in values:
            raise ConfigError(explain("unknown option", got=repr(name), expected=", ".join(values)))
        try:
            values[name] = type(values[name])(text)
        except ValueError as error:
            raise ConfigError(explain(f"the option {name!r} is no number", got=repr(text))) from error
        if isinstance(values[name], float) and not (values[name] <= 1 or isinstance(defaults, RegionOptions)):
            raise ConfigError(explain(f"the option {name!r} is a share", got=values[name], expected="1 at most"))
        if isinstance(values[name], int) and values[name] < 1:
            raise ConfigError(explain(f"the option {name!r} is a count", got=values[name], expected="1 or more"))
    return type(defaults)(**values)

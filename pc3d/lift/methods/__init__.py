"""Ways to associate masks over the same counts; each groups masks, and ``groups.finish`` makes instances of the groups."""

from __future__ import annotations

from collections.abc import Callable

from pc3d.lift.config import LiftConfig
from pc3d.lift.methods.consensus import consensus
from pc3d.lift.methods.groups import Groups, finish
from pc3d.lift.methods.hierarchical import hierarchical
from pc3d.lift.methods.region import region
from pc3d.lift.methods.sequential import sequential
from pc3d.lift.scan import LiftScan
from pc3d.lift.votes import Votes
from pc3d.structures import Instances

GROUPERS: dict[str, Callable[[Votes, LiftScan, LiftConfig], Groups]] = {
    "consensus": consensus,
    "region": region,
    "hierarchical": hierarchical,
    "sequential": sequential,
}


def associate(votes: Votes, scan: LiftScan, config: LiftConfig, method: str) -> Instances:
    """Group the masks by one of ``GROUPERS`` and make instances of the groups."""
    return finish(GROUPERS[method](votes, scan, config), votes, scan, config)

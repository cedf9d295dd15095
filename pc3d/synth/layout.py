"""Where things stand: a rectangular room with openings in its walls and furniture that does not collide."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pc3d.synth.furniture.parts import Part, bounds, moved, rotated

Rect = tuple[float, float, float, float, float]  # x0, y0, x1, y1, height in metres
Opening = tuple[float, float, float, float]  # u0, u1 along the wall, z0, z1 in metres

#: Turn of a thing whose back stands at wall k (north, west, south, east); its front (-y) then looks into the room.
WALL_ANGLES = (0.0, np.pi / 2, np.pi, -np.pi / 2)


@dataclass(eq=False)
class Layout:
    """A room of ``size`` (x, y, z) metres with one corner at the origin, filled step by step."""

    size: NDArray[np.float64]
    rng: np.random.Generator
    parts: list[Part] = field(default_factory=list)
    rects: list[Rect] = field(default_factory=list)
    reserved: list[Rect] = field(default_factory=list)
    holes: list[list[Opening]] = field(default_factory=lambda: [[], [], [], []])
    hung: list[list[Opening]] = field(default_factory=lambda: [[], [], [], []])

    blocks: list[tuple[float, float, float, float]] = field(default_factory=list)  # solid from floor to ceiling
    missing: set[int] = field(default_factory=set)  # walls that are not there

    def wall_length(self, wall: int) -> float:
        """Length of wall k in metres."""
        return float(self.size[wall % 2])

    def on_wall(self, wall: int, u: float, away: float = 0.0) -> NDArray[np.float64]:
        """Floor position (x, y) at ``u`` metres along a wall and ``away`` metres into the room."""
        x, y = self.size[:2]
        start = np.array([(0, y), (0, 0), (x, 0), (x, y)][wall], dtype=float)
        angle = WALL_ANGLES[wall]
        return start + u * np.array([np.cos(angle), np.sin(angle)]) + away * np.array([np.sin(angle), -np.cos(angle)])

    def block(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """Fill part of the floor up to the ceiling: the corner that an L-shaped room lacks, a pillar, a chimney."""
        x, y, z = (float(v) for v in self.size)
        self.blocks.append((x0, y0, x1, y1))
        self.rects.append((x0, y0, x1, y1, z))
        spans = ((x0, x1, y1 > y - 0.02), (y0, y1, x0 < 0.02), (x - x1, x - x0, y0 < 0.02), (y - y1, y - y0, x1 > x - 0.02))
        for wall, (u0, u1, touches) in enumerate(spans):
            if touches:
                self.hung[wall].append((u0, u1, 0.0, z))

    def leave_out(self, wall: int) -> None:
        """Open the room on one side: no wall is there, and nothing stands where it would."""
        self.missing.add(wall)
        self.hung[wall].append((0.0, self.wall_length(wall), 0.0, float(self.size[2])))

    def passage(self, wall: int, u: float, width: float, height: float) -> None:
        """A way through a wall around ``u``, kept free."""
        self.holes[wall].append((u - width / 2, u + width / 2, 0.0, height))
        corners = np.stack([self.on_wall(wall, u - width / 2 - 0.1, 0.9), self.on_wall(wall, u + width / 2 + 0.1)])
        self.reserved.append((*corners.min(axis=0), *corners.max(axis=0), 2.0))

    def hang(self, wall: int, u: float, z: float, parts: list[Part], away: float = 0.0) -> None:
        """Fix parts given in the wall frame at ``u`` along the wall and height ``z``."""
        x, y = self.on_wall(wall, u, away)
        self.parts += moved(rotated(parts, WALL_ANGLES[wall]), x, y, z)
        low, high = bounds(parts)
        self.hung[wall].append((u + low[0], u + high[0], z + low[2], z + high[2]))

    def free_on_wall(self, wall: int, opening: Opening, margin: float = 0.1) -> bool:
        """Whether nothing hangs, opens or stands at this part of a wall."""
        u0, u1, z0, z1 = opening
        if u0 < 0.05 or u1 > self.wall_length(wall) - 0.05:
            return False
        taken = self.hung[wall] + self.holes[wall]
        return all(u1 + margin < a or u0 - margin > b or z1 < c or z0 > d for a, b, c, d in taken)

    def place_at_wall(self, parts: list[Part], tries: int = 80, walls: tuple[int, ...] = (0, 1, 2, 3)) -> int | None:
        """Stand parts with their back at a wall; return the wall, or None when there is no room."""
        low, high = bounds(parts)
        width = float(high[0] - low[0])
        for _ in range(tries):
            wall = int(self.rng.choice(walls))
            slack = self.wall_length(wall) - width - 0.06
            if slack < 0:
                continue
            share = self.rng.choice([0.0, 1.0]) if self.rng.random() < 0.3 else self.rng.random()
            u = 0.03 + slack * share
            opening = (u, u + width, float(low[2]), float(high[2]))
            if not self._clear_of_openings(wall, opening):
                continue
            x, y = self.on_wall(wall, u - float(low[0]), float(high[1]) + self.rng.uniform(0.01, 0.06))
            if self.place(rotated(parts, WALL_ANGLES[wall]), x, y):
                self.hung[wall].append(opening)
                return wall
        return None

    def _clear_of_openings(self, wall: int, opening: Opening) -> bool:
        u0, u1, z0, z1 = opening
        return all(u1 < a or u0 > b or z1 < c + 0.1 or z0 > d for a, b, c, d in self.holes[wall] + self.hung[wall])

    def place(self, parts: list[Part], x: float, y: float, margin: float = 0.04) -> bool:
        """Stand parts at (x, y) if they stay inside the room and clear of everything else."""
        low, high = bounds(parts)
        rect = (x + float(low[0]), y + float(low[1]), x + float(high[0]), y + float(high[1]), float(high[2]))
        if rect[0] < 0 or rect[1] < 0 or rect[2] > self.size[0] or rect[3] > self.size[1] or high[2] > self.size[2] - 0.05:
            return False
        if any(_overlap(rect, other, margin) for other in self.rects + self.reserved):
            return False
        self.parts += moved(parts, x, y)
        self.rects.append(rect)
        return True

    def place_free(self, parts: list[Part], tries: int = 40, middle: bool = False, margin: float = 0.04) -> bool:
        """Stand parts anywhere, turned by quarter turns (or at will when they are small); ``middle`` favours the centre."""
        small = float((bounds(parts)[1] - bounds(parts)[0])[:2].max()) < 0.7
        for _ in range(tries):
            angle = self.rng.uniform(0, 2 * np.pi) if small else self.rng.integers(4) * np.pi / 2 + self.rng.normal(0, 0.04)
            spot = self.size[:2] * (0.5 + self.rng.normal(0, 0.1, 2)) if middle else self.size[:2] * self.rng.random(2)
            if self.place(rotated(parts, angle), float(spot[0]), float(spot[1]), margin):
                return True
        return False


def _overlap(first: Rect, second: Rect, margin: float) -> bool:
    return not (
        first[2] + margin < second[0]
        or second[2] + margin < first[0]
        or first[3] + margin < second[1]
        or second[3] + margin < first[1]
    )

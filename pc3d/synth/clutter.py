"""Clutter where life puts it: on tables, seats and cabinets, on the floor, on the walls. None of it is labelled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pc3d.synth.furniture import things
from pc3d.synth.furniture.parts import Part, bounds, cloth
from pc3d.synth.layout import Layout
from pc3d.synth.primitives import FABRIC, Mesh, rounded_box

#: Class -> what lies on it, things a square metre in a room of middling order, and the heights of places to lie on (metres).
PLACES: dict[str, tuple[dict[things.Thing, float], float, tuple[float, float]]] = {
    "table": (things.ON_TABLES, 7.0, (0.3, 1.1)),
    "desk": (things.ON_DESKS, 7.0, (0.5, 1.1)),
    "counter": (things.ON_COUNTERS, 7.0, (0.6, 1.2)),
    "cabinet": (things.ON_CABINETS, 6.0, (0.3, 1.5)),
    "bookshelf": (things.ON_CABINETS, 6.0, (0.5, 1.9)),
    "refrigerator": (things.ON_CABINETS, 3.0, (1.0, 2.0)),
    "sofa": (things.ON_SEATS, 1.0, (0.3, 0.6)),
    "bed": (things.ON_SEATS, 1.0, (0.35, 0.9)),
    "chair": (things.ON_SEATS, 0.8, (0.38, 0.55)),
}
LYING_FLAT = {"table", "desk", "counter", "cabinet", "bookshelf", "refrigerator"}  # only their highest board is a place


def add_clutter(layout: Layout, kind: str) -> None:
    """Leave things about in a room whose furniture stands; some rooms are tidy, some are not."""
    mess = float(layout.rng.beta(1.3, 1.5) * 2)
    for part in list(layout.parts):
        if part.name in PLACES:
            layout.parts += [Part("", mesh) for mesh in lying_on(part, mess, layout.rng)]
    for _ in range(layout.rng.poisson(3 * mess)):
        layout.place_free([Part("", things.draw(things.ON_FLOORS, layout.rng))])
    _hang_things(layout, kind)


def lying_on(part: Part, mess: float, rng: np.random.Generator) -> list[Mesh]:
    """Things on a piece of furniture: their number grows with ``mess`` (about 1) and the area there is to lie on."""
    choices, density, (low, high) = PLACES[part.name]
    triangles = level_triangles(part.mesh, low, high, top_only=part.name in LYING_FLAT)
    area = np.linalg.norm(np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]), axis=1) / 2
    found: list[Mesh] = []
    if area.sum() < 0.02:
        return found
    middle = triangles.mean(axis=(0, 1))
    for row in rng.choice(len(area), min(rng.poisson(density * mess * area.sum()), 24), p=area / area.sum()):
        weights = rng.dirichlet([1, 1, 1])
        spot = middle + 0.85 * (weights @ triangles[row] - middle)
        thing = things.draw(choices, rng)
        found.append(
            thing.rotated(rng.uniform(0, 2 * np.pi)).moved(float(spot[0]), float(spot[1]), float(triangles[row, 0, 2]))
        )
    if part.name == "chair" and rng.random() < 0.12:
        found.append(_jacket(part.mesh, rng))
    return found


def level_triangles(mesh: Mesh, low: float, high: float, *, top_only: bool) -> NDArray[np.float32]:
    """Triangles (T, 3, 3) that lie flat and look up at a height of ``low`` to ``high``.

    With ``top_only`` those of the highest board alone, whichever way they look: real models turn their faces at will.
    """
    triangles = mesh.vertices[mesh.faces]
    normal = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    height, size = triangles[:, :, 2].mean(axis=1), np.linalg.norm(normal, axis=1)
    flat = (np.abs(normal[:, 2]) > 0.95 * size) & (size > 1e-6) & (height > low) & (height < high)
    if not top_only or not flat.any():
        return triangles[flat & (normal[:, 2] > 0)]
    level = np.rint(height / 0.02).astype(int)
    areas = np.bincount(level[flat], weights=size[flat])
    return triangles[flat & (level == np.flatnonzero(areas > 0.6 * areas.max())[-1])]


def _jacket(chair: Mesh, rng: np.random.Generator) -> Mesh:
    """A jacket over the highest edge of a chair."""
    points = chair.vertices
    top = points[points[:, 2] > points[:, 2].max() - 0.06, :2]
    across = np.linalg.svd(top - top.mean(axis=0))[2][0]
    length = rng.uniform(0.35, 0.55)
    mesh = rounded_box((rng.uniform(0.38, 0.5), rng.uniform(0.14, 0.2), length), cloth(rng), radius=0.06, surface=FABRIC)
    x, y = top.mean(axis=0)
    return mesh.rotated(float(np.arctan2(across[1], across[0]))).moved(
        float(x), float(y), float(points[:, 2].max()) - length + 0.03
    )


#: Kind of room -> things on its walls (name of their maker, height above the floor) and how many at most.
WALLS: dict[str, tuple[tuple[tuple[things.Thing, float], ...], int]] = {
    "living": (((things.television, 1.0), (things.wall_trifle, 1.2), (things.radiator, 0.12)), 5),
    "bedroom": (((things.television, 1.1), (things.coats, 0.7), (things.wall_trifle, 1.2), (things.radiator, 0.12)), 5),
    "office": (
        ((things.board, 0.9), (things.board, 0.9), (things.wall_trifle, 1.2), (things.coats, 0.7), (things.radiator, 0.12)),
        6,
    ),
    "kitchen": (((things.board, 1.0), (things.wall_trifle, 1.2), (things.towel, 0.8), (things.radiator, 0.12)), 5),
    "bathroom": (((things.towel, 0.8), (things.wall_trifle, 1.1), (things.towel, 1.0), (things.radiator, 0.12)), 6),
    "meeting": (((things.board, 0.9), (things.television, 1.1), (things.wall_trifle, 1.2), (things.radiator, 0.12)), 6),
    "corridor": (((things.board, 1.0), (things.coats, 0.7), (things.wall_trifle, 1.2), (things.radiator, 0.12)), 9),
}


def _hang_things(layout: Layout, kind: str) -> None:
    rng, (choices, most) = layout.rng, WALLS[kind]
    for _ in range(rng.integers(1, most + 1)):
        thing, z = choices[rng.integers(len(choices))]
        mesh = thing(rng)
        low, high = bounds([Part("", mesh)])
        for _ in range(12):
            wall = int(rng.integers(4))
            u = rng.uniform(0.4, max(layout.wall_length(wall) - 0.4, 0.5))
            place = (u + float(low[0]), u + float(high[0]), z + float(low[2]), z + float(high[2]))
            if place[3] < layout.size[2] - 0.1 and layout.free_on_wall(wall, place, 0.03):
                layout.hang(wall, u, z, [Part("", mesh)])
                break

"""The ops superpoints are made of: hand-made answers, and the kernels held to the references."""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor

from pc3d.errors import DataError
from pc3d.ops import (
    estimate_normals,
    felzenszwalb,
    knn,
    mesh_graph,
    orient_normals,
    vertex_normals,
)
from pc3d.ops._library import REFERENCES, has_kernel
from pc3d.ops.mesh_graph import edge_weights, mean_face_normals

NAN = float("nan")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def int_rows(*rows: list[int]) -> Tensor:
    return torch.tensor(rows, dtype=torch.int32)


def bumpy_mesh(side: int = 25) -> tuple[Tensor, Tensor]:
    u, v = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    z = 3 * torch.sin(u / 3) * torch.cos(v / 4) + 0.1 * torch.rand(side, side, generator=generator())
    xyz = 0.02 * torch.stack([u.float(), v.float(), z], dim=2).reshape(-1, 3)
    q = (u * side + v)[:-1, :-1].flatten()
    return xyz, torch.cat([torch.stack([q, q + side, q + 1], 1), torch.stack([q + side, q + side + 1, q + 1], 1)])


class TestFelzenszwalb:
    def test_a_chain_is_cut_at_its_heavy_edge(self) -> None:
        edges = int_rows([0, 1], [1, 2], [2, 3], [3, 4])
        weights = torch.tensor([0.1, 0.1, 5.0, 0.1])
        assert felzenszwalb(edges, weights, 6, 1.0, 1).tolist() == [0, 0, 0, 1, 1, 2]

    def test_the_threshold_shrinks_as_components_grow(self) -> None:
        edges = int_rows([0, 1], [1, 2], [2, 3])  # thr of {0,1} is 0.4 + 1/2, so 0.95 no longer joins
        assert felzenszwalb(edges, torch.tensor([0.4, 0.95, 0.4]), 4, 1.0, 1).tolist() == [0, 0, 1, 1]
        assert felzenszwalb(edges, torch.tensor([0.4, 0.9, 0.4]), 4, 1.0, 1).tolist() == [0, 0, 0, 0]

    def test_small_components_join_along_their_lightest_edge(self) -> None:
        edges = int_rows([0, 1], [1, 2], [2, 3], [3, 4])
        weights = torch.tensor([0.1, 6.0, 5.0, 0.1])
        assert felzenszwalb(edges, weights, 5, 0.2, 2).tolist() == [0, 0, 1, 1, 1]

    def test_ids_are_dense_and_numbered_by_first_node(self) -> None:
        assert felzenszwalb(int_rows([3, 0], [2, 1]), torch.zeros(2), 4, 1.0, 1).tolist() == [0, 1, 1, 0]

    def test_nan_weights_come_last_and_join_only_the_small(self) -> None:
        edges = int_rows([0, 1], [1, 2])
        assert felzenszwalb(edges, torch.tensor([NAN, 0.0]), 3, 1.0, 1).tolist() == [0, 1, 1]
        assert felzenszwalb(edges, torch.tensor([NAN, 0.0]), 3, 1.0, 2).tolist() == [0, 0, 0]

    @pytest.mark.parametrize("exact", [False, True])
    def test_the_kernel_and_the_reference_make_the_same_segments_also_with_ties(self, exact: bool) -> None:
        for seed in range(5):
            edges = torch.randint(0, 300, (1500, 2), generator=generator(seed), dtype=torch.int32)
            weights = torch.randn(1500, generator=generator(seed)).abs().round(decimals=seed % 3 + 1) - 0.1
            weights[::97] = NAN
            arguments = (edges, weights, 300, 0.05 * seed, 4)
            assert torch.equal(felzenszwalb(*arguments, exact=exact), REFERENCES["felzenszwalb"](*arguments, exact))

    def test_no_edges_and_no_nodes_work(self) -> None:
        none = torch.zeros(0, 2, dtype=torch.int32)
        assert felzenszwalb(none, torch.zeros(0), 3, 1.0, 20).tolist() == [0, 1, 2]
        assert felzenszwalb(none, torch.zeros(0), 0, 1.0, 20).shape == (0,)

    def test_edges_out_of_range_are_refused(self) -> None:
        with pytest.raises(DataError, match=r"got 3; expected ids in \[0, 3\)"):
            felzenszwalb(int_rows([0, 3]), torch.zeros(1), 3, 1.0, 1)
        with pytest.raises(DataError, match="weights do not fit"):
            felzenszwalb(int_rows([0, 1]), torch.zeros(2), 3, 1.0, 1)


class TestNearestNeighbours:
    def test_ties_go_to_the_lower_index_and_duplicates_count(self) -> None:
        xyz = torch.tensor([[0.0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 0, 0], [5, 0, 0]])
        assert knn(xyz, 3).tolist() == [[3, 1, 2], [0, 3, 2], [0, 3, 1], [0, 1, 2], [1, 0, 3]]

    def test_missing_neighbours_are_the_point_itself(self) -> None:
        assert knn(torch.zeros(0, 3), 2).shape == (0, 2)
        assert knn(torch.zeros(1, 3), 2).tolist() == [[0, 0]]
        assert knn(torch.zeros(2, 3), 2).tolist() == [[1, 0], [0, 1]]

    @pytest.mark.parametrize("k", [1, 5, 64])
    def test_the_kernel_finds_what_the_reference_finds(self, k: int) -> None:
        xyz = torch.rand(600, 3, generator=generator())
        xyz[:40] = xyz[40:80]
        xyz[300:450] = (4 * xyz[300:450]).round() / 4
        xyz[599] = 1e6
        assert torch.equal(knn(xyz, k), REFERENCES["knn"](xyz, k))

    def test_all_points_equal_far_from_zero(self) -> None:
        xyz = torch.full((50, 3), 5e6)
        assert knn(xyz, 3)[[0, 10, 49]].tolist() == [[1, 2, 3], [0, 1, 2], [0, 1, 2]]
        assert torch.equal(knn(xyz, 8), REFERENCES["knn"](xyz, 8))

    @pytest.mark.skipif(not has_kernel("knn"), reason="the reference looks at all pairs")
    def test_many_points_in_one_place_take_no_longer_than_others(self) -> None:
        """Scanners put every pixel without a return at (0, 0, 0): 100,000 of them took two minutes."""
        start = time.process_time()
        found = knn(torch.zeros(100_000, 3), 3)
        assert time.process_time() - start < 10
        assert found[[0, 1, 99_999]].tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 2]]

    @pytest.mark.parametrize("seed", range(8))
    def test_ties_of_points_in_few_places_go_to_the_lowest_index(self, seed: int) -> None:
        xyz = torch.randint(0, 3, (300, 3), generator=generator(seed)).float()
        for k in (1, 16, 40):
            assert torch.equal(knn(xyz, k), REFERENCES["knn"](xyz, k))

    def test_bad_points_and_k_are_refused(self) -> None:
        with pytest.raises(DataError, match="knn:row 1"):
            knn(torch.tensor([[0.0, 0, 0], [0, NAN, 0]]), 1)
        with pytest.raises(DataError, match="1 <= k <= 64"):
            knn(torch.zeros(3, 3), 65)


class TestNormals:
    def test_large_faces_weigh_more_and_lonely_vertices_get_zero(self) -> None:
        xyz = torch.tensor([[0.0, 0, 0], [2, 0, 0], [0, 2, 0], [0, 0, 1], [9, 9, 9]])
        normals = vertex_normals(xyz, torch.tensor([[0, 1, 2], [0, 2, 3]]))
        torch.testing.assert_close(normals[0], torch.tensor([1.0, 0, 2]) / 5**0.5)
        assert normals[4].tolist() == [0, 0, 0]

    def test_the_running_mean_is_not_renormalised_and_skips_faces_without_area(self) -> None:
        xyz = torch.tensor([[0.0, 0, 0], [2, 0, 0], [0, 2, 0], [0, 0, 1]])
        mean = mean_face_normals(xyz, torch.tensor([[0, 1, 2], [0, 0, 1], [0, 2, 3]]))
        torch.testing.assert_close(mean[0], torch.tensor([0.5, 0, 0.5]))

    def test_the_kernel_agrees_with_the_reference(self) -> None:
        xyz, faces = bumpy_mesh()
        torch.testing.assert_close(vertex_normals(xyz, faces), REFERENCES["vertex_normals"](xyz, faces), rtol=0, atol=1e-6)

    @pytest.mark.parametrize("bad", [0.0, NAN, float("inf"), -1e30])
    def test_degenerate_faces_contribute_nothing(self, bad: float) -> None:
        xyz = torch.cat([bumpy_mesh()[0], torch.full((2, 3), bad)])
        faces = bumpy_mesh()[1]
        worse = torch.randint(0, len(xyz), (200, 3), generator=generator())
        worse[:, 2] = torch.where(torch.arange(200) % 2 == 0, worse[:, 0], worse[:, 1])  # a vertex twice
        worse[:50, :] = torch.tensor([len(xyz) - 1, len(xyz) - 2, 0])                    # a position twice
        mixed = torch.cat([faces[:300], worse, faces[300:]])
        clean, reference = vertex_normals(xyz, faces), REFERENCES["vertex_normals"]
        assert clean.isfinite().all()
        assert torch.equal(vertex_normals(xyz, mixed), clean)
        assert torch.equal(reference(xyz, mixed), reference(xyz, faces))
        torch.testing.assert_close(clean, reference(xyz, faces), rtol=0, atol=1e-6)
        assert torch.equal(mean_face_normals(xyz, mixed), mean_face_normals(xyz, faces))
        for made, wanted in zip(mesh_graph(xyz, mixed), REFERENCES["mesh_graph"](xyz, mixed)):
            assert torch.equal(made.nan_to_num(7), wanted.nan_to_num(7))

    def test_estimated_normals_of_a_plane_are_its_normal(self) -> None:
        xyz = torch.rand(100, 3, generator=generator()) * torch.tensor([1.0, 1.0, 0.0]) + 1e4
        torch.testing.assert_close(estimate_normals(xyz, knn(xyz, 8)), torch.tensor([[0.0, 0, 1]]).expand(100, 3))

    def test_equal_points_get_the_upright_normal(self) -> None:
        xyz = torch.full((5, 3), 3.0)
        assert estimate_normals(xyz, knn(xyz, 2)).tolist() == [[0, 0, 1]] * 5
        assert REFERENCES["estimate_normals"](xyz, knn(xyz, 2)).tolist() == [[0, 0, 1]] * 5

    def test_estimated_normals_agree_with_the_reference(self) -> None:
        xyz = bumpy_mesh()[0]
        neighbors = knn(xyz, 10)
        torch.testing.assert_close(estimate_normals(xyz, neighbors), REFERENCES["estimate_normals"](xyz, neighbors),
                                   rtol=0, atol=1e-5)

    def test_normals_of_a_ball_all_point_away_from_or_towards_the_viewpoint(self) -> None:
        xyz = torch.nn.functional.normalize(torch.randn(2000, 3, generator=generator()), dim=1)
        neighbors = knn(xyz, 10)
        estimated = estimate_normals(xyz, neighbors)
        inwards = orient_normals(xyz, estimated, neighbors, torch.zeros(3))
        assert ((inwards * xyz).sum(1) < -0.9).all()

    def test_oriented_signs_agree_with_the_reference(self) -> None:
        xyz = torch.rand(300, 3, generator=generator())
        neighbors = knn(xyz, 6)
        arguments = (xyz, estimate_normals(xyz, neighbors), neighbors, torch.tensor([0.5, 0.5, 9.0]))
        assert torch.equal(orient_normals(*arguments), REFERENCES["orient_normals"](*arguments))

    def test_bad_meshes_are_refused(self) -> None:
        for op in (vertex_normals, mesh_graph):
            with pytest.raises(DataError, match=r"got 3; expected ids in \[0, 3\)"):
                op(torch.zeros(3, 3), torch.tensor([[0, 1, 3]]))
        with pytest.raises(DataError, match="viewpoint"):
            orient_normals(torch.zeros(1, 3), torch.zeros(1, 3), torch.zeros(1, 1, dtype=torch.int64), torch.zeros(2))


class TestMeshGraph:
    def test_convex_edges_are_squared_and_concave_ones_not(self) -> None:
        xyz = torch.tensor([[0.0, 0, 0], [1, 0, 0]])
        tilted = torch.tensor([0.6, 0, 0.8])
        convex = edge_weights(xyz, torch.stack([torch.tensor([0.0, 0, 1]), tilted]), torch.tensor([[0, 1]]))
        concave = edge_weights(xyz, torch.stack([torch.tensor([0.0, 0, 1]), tilted * torch.tensor([-1.0, 1, 1])]),
                               torch.tensor([[0, 1]]))
        torch.testing.assert_close(convex, torch.tensor([0.2**2]), rtol=1e-5, atol=0)
        torch.testing.assert_close(concave, torch.tensor([0.2]), rtol=1e-5, atol=0)

    def test_an_edge_without_length_keeps_the_plain_weight(self) -> None:
        normals = torch.tensor([[0.0, 0, 1], [1, 0, 0]])
        assert edge_weights(torch.zeros(2, 3), normals, torch.tensor([[0, 1]])).tolist() == [1]

    def test_the_kernel_and_the_reference_give_the_same_bits(self) -> None:
        xyz, faces = bumpy_mesh()
        edges, weights = mesh_graph(xyz, faces)
        assert edges[:3].tolist() == [[faces[0, a], faces[0, b]] for a, b in ((0, 1), (0, 2), (2, 1))]
        assert all(torch.equal(*both) for both in zip((edges, weights), REFERENCES["mesh_graph"](xyz, faces)))


def test_results_are_the_same_bits_for_any_number_of_threads() -> None:
    xyz = torch.rand(20000, 3, generator=generator()) * torch.tensor([1.0, 1.0, 0.05])
    results = []
    before = torch.get_num_threads()
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        neighbors = knn(xyz, 8)
        normals = orient_normals(xyz, estimate_normals(xyz, neighbors), neighbors, torch.zeros(3))
        results.append([neighbors, normals, *mesh_graph(xyz, neighbors[:, :3].contiguous())])
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))

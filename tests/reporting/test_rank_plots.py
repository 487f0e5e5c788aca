"""A rank map figure shows all ranks, and its texts fit."""

from __future__ import annotations

from itertools import pairwise

import pytest

from autorank.reporting.rank_plots import rank_map_figure


def test_rank_map_shows_one_number_per_layer_with_the_first_at_the_bottom():
    ranks = {"h.0.q": 4, "h.0.v": 0, "h.1.q": 2, "h.1.v": 8, "h.2.q": 1}
    (axes,) = rank_map_figure(ranks, "trial 3").axes
    *numbers, summary = axes.texts
    assert {text.get_position(): text.get_text() for text in numbers} == {
        (0.5, 0.48): "4", (1.5, 0.48): "0", (0.5, 1.48): "2", (1.5, 1.48): "8", (0.5, 2.48): "1",
    }  # fmt: skip
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "1", "2"] and not axes.yaxis_inverted()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["q", "v"]
    assert axes.get_title(loc="left") == "trial 3" and summary.get_text() == "total rank 15, mean 3.0"
    (mesh,) = axes.collections
    assert mesh.get_array().filled(-1).ravel().tolist() == [4, 0, 2, 8, 1, -1]


@pytest.mark.parametrize(("layers", "kinds"), [(12, 6), (6, 6), (24, 7), (2, 2), (1, 1)])
@pytest.mark.parametrize("rank", [0, 128])
def test_labels_of_a_rank_map_stay_inside_the_figure(layers, kinds, rank):
    ranks = {f"layers.{i}.attention.projection_{j}.dense": rank for i in range(layers) for j in range(kinds)}
    figure = rank_map_figure(ranks, "a rather long title: lora-drop on mrpc, trial 17, step 1234")
    figure.draw_without_rendering()
    (axes,) = figure.axes
    for artist in (axes, axes.xaxis, axes.yaxis, *axes.texts):
        box = artist.get_tightbbox()
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
    boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
    assert all(label.x1 < next_label.x0 for label, next_label in pairwise(boxes))

"""A rank map shows the ranks of its evaluation."""

from __future__ import annotations

from autorank.reporting.html.rank_maps import rank_maps
from tests.reporting.html.page_reader import assert_valid
from tests.trials.trial_factories import base_ranks, evaluation, snapshot, trial


def test_a_rank_map_shows_the_ranks_of_its_evaluation():
    ranks = base_ranks(3)
    ranked_trial = trial(0, evaluation(10, 100, 0.5, ranks={}), evaluation(20, 200, 0.6, ranks=ranks))
    search_snapshot = snapshot([ranked_trial])
    assert list(rank_maps(search_snapshot.points, search_snapshot.trials)) == ["0-20-200"]  # the other has no ranks
    text, figure = rank_maps(search_snapshot.points, search_snapshot.trials)["0-20-200"]
    assert text == "200 parameters, score 0.6000 (lora-drop, trial 0, step 20)"
    (heat,) = figure["data"]
    assert heat["y"] == [str(i) for i in range(12)] and len(heat["x"]) == 6
    query = heat["x"].index("query")
    assert [row[query] for row in heat["z"]] == [
        ranks[f"roberta.encoder.layer.{i}.attention.self.query"] for i in range(12)
    ]
    shares = [share for share, _ in heat["colorscale"]]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 1
    assert_valid(figure)

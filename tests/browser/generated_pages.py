"""Pages of hand-written searches: with everything that a page can show, with one trial, and without points."""

from __future__ import annotations

from autorank.reporting.html_report import render_report
from tests.trials.trial_factories import base_ranks, evaluation, search, snapshot, trial

METHODS = [f"method-{letter}" for letter in "abcdefghijklmnop"]


def page_with_everything() -> str:
    """16 methods and 120 trials, some pruned or failed, a third objective, and new seeds."""
    spec = search(*METHODS, baseline=True)
    trials = []
    for i in range(120):
        baseline = i % 5 == 4
        evaluations = [
            evaluation(100 * e, 1000 + 900 * i, 0.9 - 0.3 / (e * (1 + i % 16)), ranks=base_ranks(i)) for e in (1, 2, 3)
        ]
        state = "pruned" if i % 7 == 3 else "failed" if i == 50 else "complete"
        reason = {"pruned": "not among the best third at step 100", "failed": "out of memory: 3 GB asked"}.get(state)
        evaluations = evaluations[: 1 if state == "pruned" else 3]
        name = "lora" if baseline else METHODS[i % 16]
        settings = {"rank": 1 + i % 8, "learning_rate": 1e-4 * (1 + i), "targets": "query,value,key,dense,output"}
        trials.append(
            trial(
                i,
                *evaluations,
                baseline=baseline,
                method=name,
                state=state,
                reason=reason,
                settings=settings,
                sampled={},
            )
        )
    search_snapshot = snapshot(trials, spec.objectives.model_copy(update={"third_objective": "seconds"}))
    for point in search_snapshot.points[::3]:
        search_snapshot.confirmed.update({(*point.key, seed): {"score": 0.8 + 0.01 * seed} for seed in (1, 2, 3)})
    return render_report(search_snapshot, spec)


def one_trial() -> str:
    """One trial that is running."""
    return render_report(snapshot([trial(0, (1000, 0.5), state="running")]), search())


def no_points() -> str:
    """One trial that failed."""
    return render_report(snapshot([trial(0, state="failed", reason="out of memory")]), search())

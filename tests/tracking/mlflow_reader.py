"""Reads metrics and artifacts of a tracked search back from its MLflow store."""

from __future__ import annotations

from pathlib import Path

PROVENANCE = {
    "versions": {"autorank": "0.1.0", "torch": "2.13.0"},
    "revision": "f" * 40,
    "data": {"digest": "0123456789abcdef", "examples": {"train": 2000, "validation": 400}},
}


def history(client, run, name):
    return [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]


def text(client, run, name):
    return Path(client.download_artifacts(run.info.run_id, name)).read_text()

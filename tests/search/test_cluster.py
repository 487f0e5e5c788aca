"""Joining a cluster that is not there, and the quiet."""

from __future__ import annotations

import logging

import pytest

from autorank.errors import AutorankError
from autorank.search import cluster


@pytest.fixture
def no_ray(monkeypatch):
    """As if no Ray ran in this process; the session's is left alone."""
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.shutdown", lambda: None)


def test_ray_client_is_refused(no_ray, tmp_path):
    way = "autorank submit --address http://head:8265 -- search"
    with pytest.raises(AutorankError, match=way), cluster.running("ray://head:10001", tmp_path / "log"):
        pass


def test_nothing_answers_at_the_address(no_ray, tmp_path, monkeypatch):
    def init(*args, **kwargs):
        raise ConnectionError("Could not find any running Ray instance.\nmore")

    monkeypatch.setattr("ray.init", init)
    problem = "No Ray cluster answers at 'auto': Could not find any"
    with pytest.raises(AutorankError, match=problem), cluster.running("auto", tmp_path / "log"):
        pass


def test_a_ray_without_its_extras_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "opencensus" else logging.root)
    with pytest.raises(AutorankError, match="Ray lacks opencensus"), cluster.running(None, tmp_path):
        pass


def test_rays_words_go_to_the_file(ray, tmp_path, capfd):
    before = logging.getLogger("ray").handlers[:]
    with cluster.running(None, tmp_path / "ray.log"):
        logging.getLogger("ray.tune").warning("chatter")
        logging.getLogger("autorank.search.searcher").error("trial 3 failed")
        from ray._private import worker

        worker.print_to_stdstream({"lines": ["A worker died"], "pid": "raylet", "is_err": False}, False)
    text = (tmp_path / "ray.log").read_text()
    assert [part for part in ("chatter", "trial 3 failed", "raylet: A worker died") if part not in text] == []
    assert "".join(capfd.readouterr()) == ""
    assert logging.getLogger("ray").handlers == before

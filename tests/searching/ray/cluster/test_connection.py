"""Joining clusters that do not exist, and the file that takes Ray's output."""

from __future__ import annotations

import logging
import os
import sys

import psutil
import pytest

from autorank.errors import AutorankError
from autorank.searching.ray.cluster import connection
from tests.sockets import listen_addresses


@pytest.fixture
def no_ray(monkeypatch):
    """As if no Ray ran in this process; the session's is left alone."""
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.shutdown", lambda: None)


def test_ray_client_is_refused(no_ray, tmp_path):
    command = "autorank submit --address http://head:8265 -- search"
    with pytest.raises(AutorankError, match=command), connection.running("ray://head:10001", tmp_path / "log"):
        pass


def test_address_without_a_cluster_is_an_error(no_ray, tmp_path, monkeypatch):
    def init(*args, **kwargs):
        raise ConnectionError("Could not find any running Ray instance.\nmore")

    monkeypatch.setattr("ray.init", init)
    problem = "No Ray cluster answers at 'auto': Could not find any"
    with pytest.raises(AutorankError, match=problem), connection.running("auto", tmp_path / "log"):
        pass


def test_a_machine_that_is_too_busy_to_start_ray(no_ray, tmp_path, monkeypatch):
    def init(*args, **kwargs):
        raise Exception("The current node timed out during startup. This could happen because ...")

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(AutorankError, match="Ray did not start"), connection.running("local", tmp_path / "log"):
        pass


def test_a_ray_without_its_extras_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "opencensus" else logging.root)
    with pytest.raises(AutorankError, match="Ray is installed without opencensus"), connection.running(None, tmp_path):
        pass


def test_a_ray_without_the_private_names_is_refused(no_ray, tmp_path, monkeypatch):
    monkeypatch.delattr("ray._private.utils.get_entrypoint_name")
    problem = "has no ray._private.utils.get_entrypoint_name, by which passwords stay out .* pip install 'ray"
    with pytest.raises(AutorankError, match=problem), connection.running(None, tmp_path / "log"):
        pass


def test_the_nodes_get_the_names_of_the_users_methods(no_ray, tmp_path, monkeypatch):
    environments = []
    monkeypatch.setattr(
        "ray.init", lambda address, runtime_env, **options: environments.append(runtime_env["env_vars"])
    )
    for variables in ({}, {"AUTORANK_METHODS": "mine=place:Mine"}):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with connection.running("auto", tmp_path / "log"):
            pass
        assert environments.pop() == connection.ENVIRONMENT | variables


def test_a_local_ray_is_for_this_machine_alone(ray):
    import ray as ray_module

    assert ray_module.get(ray_module.remote(lambda: 1).remote()) == 1  # a worker has started
    assert listen_addresses(psutil.Process()) == {"127.0.0.1"}
    assert connection.SINGLE_NODE in os.environ  # for the workers to come


def test_settings_for_a_local_ray_end_with_it(monkeypatch):
    from ray._private import ray_constants

    for before in (None, "1"):
        monkeypatch.setenv(connection.SINGLE_NODE, before) if before else monkeypatch.delenv(
            connection.SINGLE_NODE, raising=False
        )
        enabled = ray_constants.ENABLE_RAY_CLUSTER
        with connection._loopback():
            assert os.environ[connection.SINGLE_NODE] == "0" and ray_constants.ENABLE_RAY_CLUSTER is False
        assert os.environ.get(connection.SINGLE_NODE) == before and ray_constants.ENABLE_RAY_CLUSTER is enabled


def test_the_environment_is_restored(no_ray, tmp_path, monkeypatch):
    monkeypatch.setattr("ray.init", lambda *args, **options: None)
    monkeypatch.setenv("RAY_AIR_NEW_OUTPUT", "1")
    before = dict(os.environ)
    with connection.running("auto", tmp_path / "log"):
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        assert os.environ["RAY_AIR_NEW_OUTPUT"] == "1"  # the user's own
    assert dict(os.environ) == before


def test_output_of_native_code_goes_to_the_file(no_ray, tmp_path, monkeypatch, capfd):
    def init(*args, **options):
        os.write(2, b"gcs_client.cc:210: Failed\n")
        print("a warning of another thread", file=sys.stderr)

    monkeypatch.setattr("ray.init", init)
    with connection.running("auto", tmp_path / "ray.log"):
        os.write(2, b"afterwards\n")
    assert (tmp_path / "ray.log").read_text() == "gcs_client.cc:210: Failed\n"
    assert capfd.readouterr().err == "a warning of another thread\nafterwards\n"


def test_messages_of_ray_go_to_the_file(ray, tmp_path, capfd):
    before = logging.getLogger("ray").handlers[:]
    with connection.running(None, tmp_path / "ray.log"):
        logging.getLogger("ray.tune").warning("chatter")
        logging.getLogger("autorank.searching.journal_searcher").error("trial 3 failed")
        from ray._private import worker

        worker.print_to_stdstream({"lines": ["A worker died"], "pid": "raylet", "is_err": False}, False)
    text = (tmp_path / "ray.log").read_text()
    assert [part for part in ("chatter", "trial 3 failed", "raylet: A worker died") if part not in text] == []
    assert "".join(capfd.readouterr()) == ""
    assert logging.getLogger("ray").handlers == before

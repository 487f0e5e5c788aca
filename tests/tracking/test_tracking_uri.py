"""The tracking URI of a search: its default, and how the search stores it."""

from __future__ import annotations

from pathlib import Path

import pytest

from autorank.errors import AutorankError
from autorank.spec import TaskSpec
from autorank.tasks.definition import Task
from autorank.tracking.mlflow_provenance import shown_model
from autorank.tracking.tracking_uri import default_uri, uri_for_journal, validated_uri


def test_default_tracking_uri(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert default_uri(Path("runs")) == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert default_uri(Path("runs"), "http://at-last:5000") == "http://at-last:5000"
    assert validated_uri("sqlite:///here.db") == f"sqlite:///{tmp_path}/here.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert default_uri(Path("runs"), "http://at-last:5000") == "http://tracking:5000"


@pytest.mark.parametrize("name", ["r?x", "r%20x"])
def test_directories_whose_path_means_something_else_in_an_address_are_refused(name, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(AutorankError, match=r"cannot open a database in .*another directory with --runs"):
        default_uri(tmp_path / name)
    assert default_uri(tmp_path / name, "http://at-last:5000") == "http://at-last:5000"
    assert uri_for_journal("http://tracking:5000", tmp_path / name) == "http://tracking:5000"


def test_own_data_that_is_named_demo_has_its_own_model():
    assert shown_model(TaskSpec(name="demo"), None) == "shipped with autorank"
    own = TaskSpec(name="demo", data="/a/demo.csv", text=("a",), label="b")
    assert shown_model(own, None) == Task.model and shown_model(own, "org/m") == "org/m"


def test_the_stored_address_is_relative_to_the_runs_and_has_no_password(tmp_path, monkeypatch):
    """A store next to the runs is not recorded, since the directory may be moved; a password is never recorded."""
    monkeypatch.chdir(tmp_path)
    assert uri_for_journal("sqlite:///runs/mlflow.db", Path("runs")) is None
    assert uri_for_journal("sqlite:///other.db", Path("runs")) == f"sqlite:///{tmp_path}/other.db"
    assert uri_for_journal("http://me:secret@tracking:5000", Path("runs")) == "http://tracking:5000"


@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns", "mlruns"])
def test_addresses_that_mlflow_does_not_support_are_refused_at_once(uri):
    with pytest.raises(AutorankError, match="is neither a server nor a database"):
        validated_uri(uri)

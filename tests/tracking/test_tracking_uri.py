"""The tracking URI of a search: its default, and how the search stores it."""

from __future__ import annotations

from pathlib import Path

import pytest

from autorank.errors import AutorankError
from autorank.tracking.tracking_uri import checked, default_uri, remembered


def test_default_tracking_uri(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert default_uri(Path("runs")) == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert default_uri(Path("runs"), "http://at-last:5000") == "http://at-last:5000"
    assert checked("sqlite:///here.db") == f"sqlite:///{tmp_path}/here.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert default_uri(Path("runs"), "http://at-last:5000") == "http://tracking:5000"


def test_the_stored_address_is_relative_to_the_runs_and_has_no_password(tmp_path, monkeypatch):
    """A store beside the runs is not recorded, since the folder may be moved; a password is never recorded."""
    monkeypatch.chdir(tmp_path)
    assert remembered("sqlite:///runs/mlflow.db", Path("runs")) is None
    assert remembered("sqlite:///other.db", Path("runs")) == f"sqlite:///{tmp_path}/other.db"
    assert remembered("http://me:secret@tracking:5000", Path("runs")) == "http://tracking:5000"


@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns", "mlruns"])
def test_addresses_that_mlflow_does_not_support_are_refused_at_once(uri):
    with pytest.raises(AutorankError, match="is neither a server nor a database"):
        checked(uri)

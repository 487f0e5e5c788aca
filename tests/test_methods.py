"""How methods are found: those of the environment, as it is now, and what is said of ones that cannot be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from autorank.errors import AutorankError
from autorank.method import MethodConfig
from autorank.methods import OWN, absolute_paths, find, names
from autorank.options import completion


def test_the_environment_is_read_as_it_is_now(monkeypatch):
    before = names()
    monkeypatch.setenv(OWN, "mine = trainables.lora:LoRA ,lora=trainables.vera:VeRA,")
    assert set(names()) == {*before, "mine"} and find("mine").name == "lora" and find("lora").name == "vera"
    monkeypatch.delenv(OWN)
    assert names() == before and find("lora").name == "lora"


@pytest.mark.parametrize("wrong", ["foo", "foo=bar", "=bar:Foo", "foo=:Foo", "foo=bar:"])
def test_malformed_method_location_is_refused(monkeypatch, wrong):
    monkeypatch.setenv(OWN, f"mine=trainables.lora:LoRA,{wrong}")
    with pytest.raises(AutorankError, match=f"AUTORANK_METHODS contains '{wrong}'. Expected NAME=MODULE:CLASS"):
        names()
    assert completion.methods("lo") == []


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (
            "absent.module:Foo",
            "No module named 'absent'. Add the directory of its module to PYTHONPATH, or correct AUTORANK_METHODS",
        ),
        ("trainables.lora:Absent", "has no attribute 'Absent'. Add the directory of its module to PYTHONPATH"),
        ("pathlib:Path", "is not an AllocationMethod"),
    ],
)
def test_a_method_that_cannot_be_had(monkeypatch, place, said):
    monkeypatch.setenv(OWN, f"foo={place}")
    with pytest.raises(AutorankError, match=said):
        find("foo")


def test_names_are_known_without_torch():
    code = "import sys, autorank.methods as m; assert 'lora' in m.names(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_completion_offers_what_is_not_there_yet():
    assert completion.methods("lora,lora") == ["lora,lora-drop", "lora,lora-squeeze"]


def test_paths_among_the_settings_become_absolute(monkeypatch, tmp_path):
    class Config(MethodConfig):
        file: Path
        other: Path | None = None
        name: str = "a"

    class Mine(find("lora")):
        pass

    Mine.Config = Config
    monkeypatch.setattr("autorank.methods.find", lambda name: Mine)
    monkeypatch.chdir(tmp_path)
    settings = {"file": "ranks.json", "other": None, "name": "ranks.json"}
    assert absolute_paths("mine", settings) == settings | {"file": str(tmp_path / "ranks.json")}
    assert absolute_paths("mine", {"other": "a.json"}, tmp_path / "there") == {"other": str(tmp_path / "there/a.json")}
    assert absolute_paths("mine", {"file": "~/a.json"}) == {"file": str(Path("~/a.json").expanduser())}

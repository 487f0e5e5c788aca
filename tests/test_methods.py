"""Methods are found by name, installed ones and those of AUTORANK_METHODS; errors name what cannot be loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from autorank.errors import AutorankError
from autorank.method import MethodConfig
from autorank.methods import METHODS_VARIABLE, absolute_paths, find, names
from autorank.options import completion


def test_the_environment_is_read_at_every_call(monkeypatch):
    before = names()
    monkeypatch.setenv(METHODS_VARIABLE, "mine = trainables.lora:LoRA ,lora=trainables.vera:VeRA,")
    assert set(names()) == {*before, "mine"} and find("mine").name == "lora" and find("lora").name == "vera"
    monkeypatch.delenv(METHODS_VARIABLE)
    assert names() == before and find("lora").name == "lora"


@pytest.mark.parametrize("entry", ["foo", "foo=bar", "=bar:Foo", "foo=:Foo", "foo=bar:"])
def test_malformed_method_location_is_refused(monkeypatch, entry):
    monkeypatch.setenv(METHODS_VARIABLE, f"mine=trainables.lora:LoRA,{entry}")
    with pytest.raises(AutorankError, match=f"AUTORANK_METHODS contains '{entry}'. Expected NAME=MODULE:CLASS"):
        names()
    assert completion.methods("lo") == []


@pytest.mark.parametrize(
    ("location", "message"),
    [
        (
            "absent.module:Foo",
            "No module named 'absent'. Add the directory of its module to PYTHONPATH, or correct AUTORANK_METHODS",
        ),
        ("trainables.lora:Absent", "has no attribute 'Absent'. Add the directory of its module to PYTHONPATH"),
        ("pathlib:Path", "is not an AllocationMethod"),
    ],
)
def test_a_method_that_cannot_be_loaded_is_refused(monkeypatch, location, message):
    monkeypatch.setenv(METHODS_VARIABLE, f"foo={location}")
    with pytest.raises(AutorankError, match=message):
        find("foo")


def test_names_are_read_without_importing_torch():
    code = "import sys, autorank.methods as m; assert 'lora' in m.names(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_completion_offers_methods_that_are_not_listed_yet():
    assert completion.methods("lora,lora") == ["lora,lora-drop", "lora,lora-squeeze"]


def test_paths_in_the_settings_become_absolute(monkeypatch, tmp_path):
    class Config(MethodConfig):
        file: Path
        other: Path | None = None
        name: str = "a"

    class CustomMethod(find("lora")):
        pass

    CustomMethod.Config = Config
    monkeypatch.setattr("autorank.methods.find", lambda name: CustomMethod)
    monkeypatch.chdir(tmp_path)
    settings = {"file": "ranks.json", "other": None, "name": "ranks.json"}
    assert absolute_paths("mine", settings) == settings | {"file": str(tmp_path / "ranks.json")}
    assert absolute_paths("mine", {"other": "a.json"}, tmp_path / "there") == {"other": str(tmp_path / "there/a.json")}
    choices = {"file": {"choices": ["a.json", None]}}
    assert absolute_paths("mine", choices, tmp_path) == {"file": {"choices": [str(tmp_path / "a.json"), None]}}
    assert absolute_paths("mine", {"file": "~/a.json"}) == {"file": str(Path("~/a.json").expanduser())}

"""Contradictory options of the command line, and `~` that the shell did not expand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autorank.cli import app, search
from autorank.errors import AutorankError

LORA = ("search", "--method", "lora", "--task", "demo")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((*LORA, "--json", "--quiet"), "--json and --quiet cannot be combined"),
        (("resume", "one", "--json", "--quiet"), "--json and --quiet cannot be combined"),
        ((*LORA, "--lanes", "2", "--workers-per-trial", "3"), "--lanes 2 and --workers-per-trial 3 cannot be combined"),
        ((*LORA, "--lanes", "0", "--dry-run"), "--lanes 0: expected an integer of at least 1, or auto"),
        ((*LORA, "--json", "--dry-run"), "--json prints the events of a search, but --dry-run starts no search"),
        ((*LORA, "--name", "n" * 241, "--dry-run"), r"name: String should have at most 240 characters"),
    ],
)
def test_contradictory_options_are_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(AutorankError, match=message):
        app.app(list(words), standalone_mode=False)


def test_a_tilde_after_an_equals_sign_is_the_home_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    calls: list[Any] = []
    monkeypatch.setattr(search, "_run", lambda spec, use: calls.append((spec, use)))
    (tmp_path / "space.yaml").write_text("rank: {type: int, low: 2, high: 3}\nlearning_rate: {choices: [1e-3, 1e-2]}")
    (tmp_path / "options.yaml").write_text("trials: 5\nspace: ~/space.yaml")
    for words in (["--space=~/space.yaml", "--trials=5"], ["--config=~/options.yaml"]):
        app.app([*LORA, "--runs=~/mine", *words], standalone_mode=False)
    (first, use), (second, _) = calls
    assert use.runs == tmp_path / "mine" and use.trials == "5"
    assert first == second and first.methods[0].space["rank"] == {"type": "int", "low": 2, "high": 3}
    with pytest.raises(AutorankError, match=f"{tmp_path}/mine contains no searches"):
        app.app(["front", "one", "--runs=~/mine"], standalone_mode=False)

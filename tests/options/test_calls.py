"""Contradictory options of the command line, and `~` that the shell did not expand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autorank.cli import app, search
from autorank.errors import AutorankError
from autorank.options.calls import ResumeCall

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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--seed", "9" * 23), r"seed: Input should be less than or equal to 18446744073709551615 \(got 999"),
        (("--epochs", 2**63), "epochs: Input should be less than or equal to 9223372036854775807"),
        (("--max-memory", "1e400G"), "--max-memory '1e400G' is not a count"),
        (("--max-params", "1e18k"), "--max-params '1e18k' is too large"),
        (("--time-budget", "1e400h", "--dry-run"), "--time-budget '1e400h' is not a duration"),
        (("--trials", "1" * 5000, "--dry-run"), "--trials '1+\\.\\.\\.1+' is not a number of trials"),
        (("--confirm-seeds", 10**20, "--dry-run"), "--confirm-seeds 100000000000000000000: expected at most"),
        (("--set", f"rank={2**63}"), "rank: Input should be less than or equal to 9223372036854775807"),
    ],
)  # fmt: skip
def test_numbers_that_are_too_large_are_refused(words: tuple[object, ...], message: str) -> None:
    with pytest.raises(AutorankError, match=message):
        app.app([*LORA, *map(str, words)], standalone_mode=False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--scheduler", "none", "--grace", 2, "--reduction-factor", 3),
         "--grace has no effect with --scheduler none. --reduction-factor has no effect with --scheduler none."),
        (("--accumulate", 4, "--batch-size", "auto"), "--accumulate has no effect with --batch-size auto"),
        (("--epochs", 3, "--steps", 100), "--epochs has no effect with --steps"),
        (("--slices", "off", "--slice-score", "input"), "--slice-score has no effect with --slices off"),
    ],
)  # fmt: skip
def test_options_that_would_be_ignored_are_refused(words: tuple[object, ...], message: str) -> None:
    with pytest.raises(AutorankError, match=message):
        app.app([*LORA, *map(str, words)], standalone_mode=False)


def test_options_of_a_file_may_be_overridden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(search, "_run", lambda spec, use: calls.append(spec))
    (tmp_path / "options.yaml").write_text("grace: 2\naccumulate: 4\n")
    app.app(
        [*LORA, f"--config={tmp_path}/options.yaml", "--scheduler=none", "--batch-size=auto"], standalone_mode=False
    )
    assert calls[0].halving is None and calls[0].training.accumulate == "auto"


def test_the_command_that_continues_a_search_repeats_the_session() -> None:
    command = ["--address=auto", "--workers-per-trial=4", "--gpus-per-trial=0.5", "--time-budget=4h"]
    calls: list[Any] = []

    class Stop(Exception):
        pass

    def run(spec: Any, call: Any, suggest_commands: bool) -> None:
        calls.append(call)
        raise Stop

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        patch.setattr("autorank.runner.run_search", run)
        app.app([*LORA, "--trials=+3", "--confirm-seeds=2", *command], standalone_mode=False)
    first = calls[0].resume_command("one")
    assert first.split()[:3] == ["autorank", "resume", "one"] and "--trials" not in first  # in the journal
    assert sorted(first.split()[3:]) == sorted(" ".join(command).replace("=", " ").split())
    secret = ResumeCall(tracking_uri="http://me:secret@host:5000", runs="a b", lanes=8, quiet=True)
    resume = "autorank resume one --lanes 8 --tracking-uri http://host:5000 --runs 'a b' --quiet"
    assert secret.resume_command("one") == resume
    assert ResumeCall().resume_command("one") == "autorank resume one"


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

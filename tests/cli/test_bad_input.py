"""Bad input is answered with one message that has a remedy, on stderr, and with exit code 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from autorank.cli import app
from autorank.trials.journal.journal import Journal
from tests.cli.commands import autorank, users_folder
from tests.searching.fake_runs import search_spec


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's directory with a search that has no trials."""
    folder = users_folder(tmp_path_factory.mktemp("place"))
    Journal.create(folder / "runs" / "tiny", search_spec("tiny"), (1.0, 0.0)).close()
    return folder


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("search", "--method", "lorra", "--task", "demo"), "Did you mean 'lora'?"),
        (("search", "--method", "lora", "--task", "mrcp"), "Did you mean 'mrpc'?"),
        (("search", "--method", "lora", "--task", "demo", "--set", "rnk=2"), "rank"),
        (("search", "--method", "lora", "--task", "demo", "--name", "../out"), "name"),
        (("search", "--method", "lora", "--task", "demo", "--time-budget", "soon"), "90s, 30m, 4h or auto"),
        (("search", "--method", "lora"), "--task NAME"),
        (("search", "--method", "lora", "--task", "demo", "--trials", "+many"), "Write 30, or +20"),
        (("search", "--method", "lora", "--task", "demo", "--max-memory", "much"), "--max-memory 'much'"),
        (("search", "--method", "lora,lora", "--task", "demo"), "lists 'lora' twice"),
        (("search", "--method", "lora,increlora", "--task", "demo", "--set", "rnk=2"), "none of lora, increlora"),
        (("train", "--method", "lora,increlora", "--task", "demo"), "`train` takes one method"),
        (("search", "--method", "lora", "--task", "demo", "--model", "no/such/folder/here"), "no/such/folder/here"),
        (("search", "--method", "lora", "--data", "pairs.jsonl", "--text", "lefft", "--label", "label"), "left"),
        (("search", "--method", "lora", "--data", "absent.csv", "--text", "a", "--label", "b"), "absent.csv"),
        (("train", "--method", "lora", "--data", "x.csv", "--prompt", "a"), "--prompt COL and --completion COL"),
        (("train", "--method", "lora", "--task", "demo", "--metric", "bleu"), "accuracy, f1"),
        (("train", "--method", "lora", "--task", "demo", "--chat"), "text-to-text tasks"),
        (("train", "--method", "lora", "--task", "demo", "--set", "targets=quary"), "attention.self.query"),
        (("front", "nothing"), "nothing"),
        (("export", "nothing", "--to", "x"), "nothing"),
        (("ranks", "nothing"), "nothing"),
        (("ranks", "tiny", "--to", "ranks.csv"), "ends in .json or .png"),
        (("ranks", "tiny", "--knee", "--trial", "1"), "Leave out"),
        (("spaces", "lora-dorp"), "lora-drop"),
        (
            ("search", "--method", "lora", "--task", "demo", "--max-params", "10", "--slices", "off"),
            "less than the smallest adapter",
        ),
        (("search", "--method", "lora", "--task", "demo", "--runs", "s3://bucket/runs"), "--storage s3://b"),
        (("front", "tiny", "--runs", "s3://bucket/runs"), "Give the local directory with --runs DIR"),
        (("report", "tiny", "--figures", "pairs.jsonl"), "Not a directory. Choose another --figures"),
        (("search", "--method", "lora", "--task", "demo", "--storage", "nonsense"), "is not an address"),
        (("ui", "--runs", "empty"), "is tracked yet"),
    ],
)
def test_bad_input_is_one_message_with_a_remedy(
    arguments: tuple[str, ...], expected: str, workspace: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Runs in this process for speed; a test below runs one of them in a subprocess."""
    files_before = sorted(workspace.rglob("*"))
    monkeypatch.chdir(workspace)
    monkeypatch.setattr(sys, "argv", ["autorank", *arguments])
    monkeypatch.setenv("AUTORANK_CACHE", str(workspace / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SystemExit) as exit_info:
        app.main()
    stdout, stderr = capfd.readouterr()
    assert exit_info.value.code == 2, stderr
    assert "mrcp" not in stdout
    assert stderr.startswith("autorank: ") and expected in stderr and "Traceback" not in stderr
    assert [
        file for file in sorted(workspace.rglob("*")) if file not in files_before and "cache" not in file.parts
    ] == []


@pytest.mark.parametrize(
    ("option", "value", "choices"),
    [
        ("--scheduler", "hyperband", "'asha', 'none'"),
        ("--objective", "secnds", "'nonzero_params', 'seconds', 'memory'"),
        ("--sampler", "cma", "'tpe', 'nsga2', 'gp', 'random'"),
        ("--precision", "fp8", "'auto', 'fp32', 'bf16', 'fp16'"),
        ("--quantize", "8bit", "'4bit'"),
    ],
)
def test_an_invalid_choice_lists_the_choices(
    option: str, value: str, choices: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "argv", ["autorank", "search", "--method", "lora", "--task", "demo", option, value])
    with pytest.raises(SystemExit) as exit_info:
        app.main()
    assert exit_info.value.code == 2
    assert f"{value!r} is not " in (error := capsys.readouterr().err) and choices in error and option in error


@pytest.mark.parametrize(
    "words", [("ui", "--port", "99999"), ("search", "--recipe", "increlora-table1", "--seeds", "99999999999")]
)
def test_a_number_beyond_its_bounds_is_refused(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["autorank", *words])
    with pytest.raises(SystemExit) as exit_info:
        app.main()
    assert exit_info.value.code == 2 and f"Invalid value for '{words[-2]}'" in capsys.readouterr().err


def test_windows_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("autorank.errors.sys.platform", "win32")
    monkeypatch.setattr(sys, "argv", ["autorank", "methods"])
    with pytest.raises(SystemExit) as exit_info:
        app.main()
    stdout, stderr = capsys.readouterr()
    assert exit_info.value.code == 2 and stdout == ""
    assert stderr == "autorank: autorank runs on Linux and macOS. On Windows, install it in WSL 2.\n"


def test_invalid_input_has_exit_code_2_and_a_message(workspace: Path) -> None:
    result = autorank("search", "--method", "lorra", "--task", "demo", cwd=workspace)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.startswith("autorank: ") and "Did you mean 'lora'?" in result.stderr


def test_a_lost_ray_does_not_wait_for_exit_handlers(tmp_path: Path) -> None:
    code = """if True:
        import threading
        from autorank.cli import app
        from autorank.searching.ray.ray_watch import RayLost
        threading.Thread(target=threading.Event().wait).start()  # the interpreter would wait for it
        def lost():
            raise RayLost("Ray ended unexpectedly")
        app.app = lost
        app.main()
    """
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (2, "autorank: Ray ended unexpectedly\n")


def test_debug_shows_the_traceback(workspace: Path) -> None:
    result = autorank("--debug", "front", "nothing", cwd=workspace)
    assert result.returncode == 1 and "Traceback" in result.stderr

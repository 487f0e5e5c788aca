"""The output of a real search in terminals of 80 and 160 columns, in a pipe, and as JSON."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

# each command with a standard output of its own; all in one process and with one Ray, whose starts would take longest
PROGRAM = """
import json, os, sys
from pathlib import Path
from autorank.cli.app import app
from autorank.searching.ray.cluster.connection import running

with running("local", Path("ray.log")):
    for out, environment, commands in json.loads(sys.argv[1]):
        os.dup2(out, 1)
        os.environ.pop("NO_COLOR", None)
        os.environ.update(environment)
        for words in commands:
            app(words.split(), standalone_mode=False)
        sys.stdout.flush()
"""
SMALL_SEARCH = "--steps 10 --eval-every 5 --max-train-examples 64 --max-eval-examples 32"
RESUME = "resume first --trials +1"
TERMINAL_VARIABLES = (
    "NO_COLOR",
    "FORCE_COLOR",
    "PY_COLORS",
    "GITHUB_ACTIONS",
    "TTY_COMPATIBLE",
    "COLUMNS",
    "LINES",
    "TERM",
)
CONTROL = r"\x1b\[[0-9;?]*[A-Za-z]"
COLOR = r"\x1b\[(?:[0-9]+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[0-9;]*m"
CURSOR_UP = "\x1b[1A"  # a line up, to draw over it


def terminal(columns: int) -> tuple[int, int]:
    """Opens a pseudo-terminal and returns the file descriptors to read from and to write to."""
    reader, writer = os.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    return reader, writer


def read(end: int) -> str:
    """Reads a file descriptor to its end and closes it."""
    pieces = []
    with contextlib.suppress(OSError):  # a terminal that nobody writes to any more has an error rather than an end
        while piece := os.read(end, 65536):
            pieces.append(piece)
    os.close(end)
    return b"".join(pieces).decode()


def lines(text: str) -> list[str]:
    """The lines that a terminal showed at any time, without the commands at the end, which are never wrapped."""
    return re.split(r"[\r\n]+", re.sub(CONTROL, "", text).partition("\nNext:")[0])


def outputs_of(
    directory: Path, ends: Sequence[tuple[int, int]], calls: Sequence[tuple[dict[str, str], list[str]]]
) -> list[str]:
    """The output of each call; one program runs them one after another."""
    jobs = [(writer, *call) for (_, writer), call in zip(ends, calls, strict=True)]
    environment = {
        name: value for name, value in os.environ.items() if name not in (*TERMINAL_VARIABLES, "MLFLOW_TRACKING_URI")
    }
    environment |= {"AUTORANK_CACHE": str(directory / "cache"), "TERM": "xterm-256color", "HF_HUB_OFFLINE": "1"}
    with ThreadPoolExecutor(len(ends)) as readers, (directory / "errors").open("w") as errors:
        program = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps(jobs)], cwd=directory, env=environment, stdin=subprocess.DEVNULL,
            stderr=errors, pass_fds=[writer for _, writer in ends],
        )  # fmt: skip
        for _, writer in ends:
            os.close(writer)
        outputs = list(readers.map(read, [reader for reader, _ in ends]))
        assert program.wait() == 0, (directory / "errors").read_text()
    return outputs


def test_a_search_in_terminals_in_a_pipe_and_for_a_program(tmp_path: Path) -> None:
    ends = [terminal(80), terminal(160), os.pipe(), os.pipe()]
    search = f"search --method lora --task demo --name first --trials 1 {SMALL_SEARCH}"
    narrow, wide, piped, json_lines = outputs_of(tmp_path, ends, [
        ({"NO_COLOR": "1"}, ["search --help", search, "doctor"]), ({}, ["search --help", RESUME, "doctor"]),
        ({}, [RESUME]), ({}, [f"{RESUME} --json"]),
    ])  # fmt: skip
    for text, columns in ((narrow, 80), (wide, 160)):
        printed = lines(text)
        assert max(map(len, printed)) <= columns
        assert CURSOR_UP in text and len([line for line in printed if re.match(r"\d/\d trials", line)]) > 1
    assert max(map(len, lines(wide))) > 80
    assert not re.search(COLOR, narrow) and re.search(COLOR, wide)

    assert "\x1b" not in piped and "\r" not in piped
    title, labels, second, *_ = piped.splitlines()
    assert title.startswith("first  lora on demo") and labels.startswith("label: 2 classes: different 50%")
    assert re.match(r"\[3/3\] trial 2 complete: [\d.k]+ parameters, score [\d.]+  ", second)

    events = [json.loads(line) for line in json_lines.splitlines()]
    assert events[0]["event"] == "start" and events[-1]["event"] == "end" and events[-1]["ended"] == 4
    assert [event["trial"] for event in events if event["event"] == "trial_end"] == [3]

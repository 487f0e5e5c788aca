"""A real search as it is seen in a terminal of 80 and of 160 columns, in a pipe, and by a program."""

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
SEVERAL = """
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
SMALL = "--steps 10 --eval-every 5 --max-train-examples 64 --max-eval-examples 32"
MORE = "resume first --trials +1"
OURS = ("NO_COLOR", "FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TTY_COMPATIBLE", "COLUMNS", "LINES", "TERM")
CONTROL = r"\x1b\[[0-9;?]*[A-Za-z]"
COLOR = r"\x1b\[(?:[0-9]+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[0-9;]*m"
UP = "\x1b[1A"  # a line up, to draw over it


def terminal(columns: int) -> tuple[int, int]:
    """Both ends of a terminal: a person's, a program's."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    return ours, theirs


def read(end: int) -> str:
    """All that comes."""
    pieces = []
    with contextlib.suppress(OSError):  # a terminal that nobody writes to any more has an error rather than an end
        while piece := os.read(end, 65536):
            pieces.append(piece)
    os.close(end)
    return b"".join(pieces).decode()


def lines(text: str) -> list[str]:
    """What stood in a terminal at any time, line by line; not the commands at the end, which are never broken."""
    return re.split(r"[\r\n]+", re.sub(CONTROL, "", text).partition("\nNext:")[0])


def seen(place: Path, ends: Sequence[tuple[int, int]], calls: Sequence[tuple[dict[str, str], list[str]]]) -> list[str]:
    """What comes out of each call: the program runs them one after another."""
    asked = [(theirs, *call) for (_, theirs), call in zip(ends, calls, strict=True)]
    environment = {name: value for name, value in os.environ.items() if name not in (*OURS, "MLFLOW_TRACKING_URI")}
    environment |= {"AUTORANK_CACHE": str(place / "cache"), "TERM": "xterm-256color", "HF_HUB_OFFLINE": "1"}
    with ThreadPoolExecutor(len(ends)) as readers, (place / "errors").open("w") as errors:
        program = subprocess.Popen(
            [sys.executable, "-c", SEVERAL, json.dumps(asked)], cwd=place, env=environment, stdin=subprocess.DEVNULL,
            stderr=errors, pass_fds=[theirs for _, theirs in ends],
        )  # fmt: skip
        for _, theirs in ends:
            os.close(theirs)
        found = list(readers.map(read, [ours for ours, _ in ends]))
        assert program.wait() == 0, (place / "errors").read_text()
    return found


def test_a_search_in_terminals_in_a_pipe_and_for_a_program(tmp_path: Path) -> None:
    ends = [terminal(80), terminal(160), os.pipe(), os.pipe()]
    search = f"search --method lora --task demo --name first --trials 1 {SMALL}"
    narrow, wide, piped, events = seen(tmp_path, ends, [
        ({"NO_COLOR": "1"}, ["search --help", search, "doctor"]), ({}, ["search --help", MORE, "doctor"]),
        ({}, [MORE]), ({}, [f"{MORE} --json"]),
    ])  # fmt: skip
    for text, columns in ((narrow, 80), (wide, 160)):
        shown = lines(text)
        assert max(map(len, shown)) <= columns
        assert UP in text and len([line for line in shown if re.match(r"\d/\d trials", line)]) > 1
    assert max(map(len, lines(wide))) > 80
    assert not re.search(COLOR, narrow) and re.search(COLOR, wide)

    assert "\x1b" not in piped and "\r" not in piped
    first, labels, second, *_ = piped.splitlines()
    assert first.startswith("first  lora on demo") and labels.startswith("label: 2 classes: different 50 %")
    assert re.match(r"\[3/3\] trial 2 complete: [\d.k]+ parameters, score [\d.]+  ", second)

    told = [json.loads(line) for line in events.splitlines()]
    assert told[0]["event"] == "start" and told[-1]["event"] == "end" and told[-1]["ended"] == 4
    assert [each["trial"] for each in told if each["event"] == "trial_end"] == [3]

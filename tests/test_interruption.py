"""Signals end a process as Ctrl-C does, by force if it does not exit."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from autorank.interruption import EXIT_CODE, SIGNALS, Handlers, as_ctrl_c

OTHER_SIGNALS = [number for number in SIGNALS if number != signal.SIGINT]
CLEANING = """
import sys, time
from autorank.interruption import as_ctrl_c
with as_ctrl_c():
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(0.5)  # cleaning up, while the signal comes again
        print("cleaned up", flush=True)
        sys.exit(130)
"""
STUCK = """
import subprocess, sys, time
from autorank import interruption
interruption.FORCED_EXIT_DELAY_S = 0.3
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
with interruption.as_ctrl_c(), interruption.ended_by_force("last words"):
    while True:
        try:
            print(child.pid, flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            pass  # as a library that retries for ever
"""


def start(script: str, **options: object) -> tuple[subprocess.Popen[str], str]:
    """Starts a process; returns it and its first line."""
    process: subprocess.Popen[str] = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options,
    )  # type: ignore[call-overload]  # fmt: skip
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


@pytest.mark.parametrize("number", OTHER_SIGNALS)
def test_other_signals_are_ctrl_c_and_do_not_disturb_its_handling(number: signal.Signals) -> None:
    process, ready = start(CLEANING)
    assert ready == "ready"
    process.send_signal(number)
    time.sleep(0.2)
    process.send_signal(number)
    printed, _ = process.communicate(timeout=30)
    assert (process.returncode, printed) == (130, "cleaned up\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_process_that_does_not_exit_is_killed_with_its_children(number: signal.Signals) -> None:
    process, child = start(STUCK)
    process.send_signal(number)
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == EXIT_CODE and printed.endswith("last words\n")
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.kill(int(child), 0)
            time.sleep(0.05)


BLOCKED = """
import ctypes, time
from autorank import interruption
interruption.FORCED_EXIT_DELAY_S = 0.5
with interruption.as_ctrl_c(), interruption.ended_by_force("last words"):
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(0.2)
        ctypes.PyDLL(None).sleep(60)  # as native code that never returns, and lets no thread run
"""


def test_native_code_that_blocks_all_threads_is_ended() -> None:
    process, _ = start(BLOCKED)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) != 0


PRINTING = """
import sys, time
from autorank.interruption import as_ctrl_c
with as_ctrl_c():
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("cleaning up", flush=True)  # fails on a closed terminal
        open(sys.argv[1], "w").write("cleaned up")
        sys.exit(130)
"""


def test_a_closed_terminal_does_not_disturb_the_end(tmp_path: Path) -> None:
    reader, terminal = pty.openpty()

    def control() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [sys.executable, "-c", PRINTING, str(tmp_path / "end")], stdin=terminal, stdout=terminal, stderr=terminal,
        preexec_fn=control,
    )  # fmt: skip
    os.close(terminal)
    assert os.read(reader, 100).startswith(b"ready")
    os.close(reader)
    assert process.wait(30) == 130
    assert (tmp_path / "end").read_text() == "cleaned up"


def test_ignored_signals_stay_ignored() -> None:
    terminate, previous = (
        signal.getsignal(signal.SIGTERM),
        signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # as nohup does
    try:
        with as_ctrl_c():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not terminate
        assert signal.getsignal(signal.SIGTERM) is terminate
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_handlers_are_restored() -> None:
    previous = [signal.getsignal(number) for number in SIGNALS]
    handlers = Handlers()
    handlers.set(signal.default_int_handler)
    handlers.set(lambda number, frame: None)
    handlers.restore()
    assert [signal.getsignal(number) for number in SIGNALS] == previous


@pytest.mark.long
def test_a_terminated_training_says_where_its_best_adapter_is(tmp_path: Path) -> None:
    command = ["train", "--method", "lora", "--task", "demo", "--steps", "3000", "--eval-every", "20", "--to", "x"]
    process = subprocess.Popen(
        [sys.executable, "-m", "autorank", *command, "--max-eval-examples", "20"], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if line.split()[1:2] == ["40"]:  # the step of the second evaluation
            break
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == EXIT_CODE
    assert "autorank: interrupted." in printed and "best adapter so far was saved to" in printed
    assert [file.suffix for file in tmp_path.iterdir()] == [".safetensors"]

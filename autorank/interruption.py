"""Ends a command by a signal: Ctrl-C, and what schedulers, terminals and `kill` send."""

from __future__ import annotations

import _thread
import contextlib
import errno
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)  # Slurm warns with SIGUSR1 before its limit
FORCED_EXIT_DELAY_S = 4.0  # seconds from a signal to the end by force
_closed_terminal: set[int] = set()  # file descriptors that belonged to it
EXIT_CODE = 130  # after a signal, as shells report Ctrl-C


class Handlers:
    """Handlers of `SIGNALS` that can be restored. A signal that was ignored (nohup) stays ignored."""

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}

    def set(self, handler: Any) -> None:
        """Set a handler, in the main thread; in other threads nothing happens.

        Args:
            handler: As for `signal.signal`.
        """
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before.setdefault(number, signal.signal(number, handler))

    def restore(self) -> None:
        """Restore the handlers that were active before `set`."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()


def leave_closed_terminal() -> bool:
    """Discard what is printed from now on if the terminal has been closed, since printing would fail.

    Returns:
        Whether the terminal has been closed.
    """
    for stream in (1, 2):
        try:
            os.get_terminal_size(stream)
        except OSError as error:
            if error.errno in (errno.EIO, errno.ENXIO):  # for pipes and files it is ENOTTY
                devnull = os.open(os.devnull, os.O_WRONLY)
                os.dup2(devnull, stream)
                os.close(devnull)
                _closed_terminal.add(stream)
    return bool(_closed_terminal)


@contextlib.contextmanager
def as_ctrl_c() -> Iterator[None]:
    """Raise KeyboardInterrupt on all `SIGNALS` within this context; after the first signal only on Ctrl-C."""
    handlers = Handlers()

    def interrupt(number: int, frame: FrameType | None) -> None:
        leave_closed_terminal()
        handlers.set(signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt

    handlers.set(interrupt)
    try:
        yield
    finally:
        handlers.restore()


@contextlib.contextmanager
def ended_by_force(last_words: str) -> Iterator[None]:
    """End the process `FORCED_EXIT_DELAY_S` seconds after a signal if this context is still open.

    The processes that it started end too. For commands, not for notebooks.

    Args:
        last_words: What is printed on stderr then.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    devnull = os.open(os.devnull, os.O_WRONLY)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    closed = threading.Event()

    def wait() -> None:
        while received := os.read(reader, 64):  # empty when the writer is closed
            if set(received) & set(SIGNALS):
                # while no thread can run
                faulthandler.dump_traceback_later(2 * FORCED_EXIT_DELAY_S, exit=True, file=devnull)
                if not closed.wait(FORCED_EXIT_DELAY_S):
                    cursor = "\x1b[?25h\n" if sys.stderr.isatty() else ""  # a live table hides it
                    with contextlib.suppress(OSError, ValueError):  # the terminal may be closed
                        os.write(sys.stderr.fileno(), f"{cursor}{last_words}\n".encode(errors="replace"))
                    exit_now()
                return

    previous_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    thread = threading.Thread(target=wait, name="autorank-interruption", daemon=True)
    thread.start()
    try:
        yield
    finally:
        closed.set()
        faulthandler.cancel_dump_traceback_later()
        signal.set_wakeup_fd(previous_fd)
        os.close(writer)
        thread.join()
        os.close(reader)
        os.close(devnull)


def interrupt_main_thread() -> None:
    """Act in the main thread as after a signal: SIGINT, unless it is ignored as in background jobs of a script."""
    for number in SIGNALS:
        if callable(signal.getsignal(number)):
            _thread.interrupt_main(number)
            return


def exit_now(code: int = EXIT_CODE) -> None:
    """End this process and those that it started at once; exit handlers do not run.

    Args:
        code: The exit code.
    """
    import psutil

    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # the terminal may be closed
            stream.flush()
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                process.kill()
    os._exit(code)

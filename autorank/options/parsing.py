"""Parses option values: paths, lists, counts, durations."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from autorank.defaults import MAX_INT
from autorank.errors import AutorankError, explain

if TYPE_CHECKING:
    from autorank.spec import Spec

S = TypeVar("S", bound="Spec")
BEFORE_LIMIT = 180.0  # seconds between the end of a search with --time-budget auto and the limit of its Slurm job


def expand(path: Path | str) -> Path:
    """Return a path with `~` expanded, which shells do not expand in `--runs=~/x`."""
    return Path(os.path.expanduser(path))


def check_output(option: str, path: Path, suffixes: Sequence[str] = ()) -> None:
    """Check that an output can be written, before the work whose result it is.

    Args:
        option: The option that names the output.
        path: A file; without suffixes a directory. Missing directories are created.
        suffixes: The suffixes of known formats.

    Raises:
        AutorankError: The suffix is not known, or the output cannot be written.
    """
    if suffixes and path.suffix not in suffixes:
        names = f"{', '.join(suffixes[:-1])} or {suffixes[-1]}"
        raise AutorankError(f"{option} {path} has no known format. Choose a name that ends in {names}.")
    folder = path.absolute().parent if suffixes else path.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        if suffixes and path.exists():
            path.open("ab").close()
    except OSError as error:
        reason = "Not a directory" if isinstance(error, FileExistsError) else error.strerror
        raise AutorankError(f"{option} {path} cannot be written: {reason}. Choose another {option}.") from error


def metric_file(metric: str) -> Path | None:
    """Return the file of a metric `FILE.py:FUNCTION`; None for a name."""
    file, _, _ = metric.rpartition(":")
    return expand(file) if file.endswith(".py") else None


def split_names(names: str | Sequence[str] | None) -> list[str]:
    r"""Return `A,B` as a list; a comma in a name is written `\,`. A list, as Python may pass, is stripped of blanks."""
    if isinstance(names, str):
        names = [part.replace(r"\,", ",") for part in re.split(r"(?<!\\),", names)]
    return [part.strip() for part in names or () if part.strip()]


def parse_seconds(duration: str | float) -> float:
    """Return 90, 90s, 30m, 4h or 1d in seconds; for auto, the time left to the Slurm job.

    Raises:
        AutorankError: The text is not a positive duration, or no Slurm job is running.
    """
    if duration == "auto":
        return _seconds_of_job()
    units, text = {"s": 1, "m": 60, "h": 3600, "d": 86400}, str(duration)
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    value = _positive(number, f"--time-budget {text!r} is not a duration. Write it as 90s, 30m, 4h or auto.")
    return float(value) * units[unit]


def _seconds_of_job() -> float:
    """Seconds until `BEFORE_LIMIT` before the end of the Slurm job in which this process runs."""
    end = os.environ.get("SLURM_JOB_END_TIME", "")
    if not end.isdecimal():
        raise AutorankError(
            "--time-budget auto needs SLURM_JOB_END_TIME, which Slurm sets in jobs. "
            "Outside of a job, give a duration: 90s, 30m or 4h."
        )
    return max(1.0, int(end) - time.time() - BEFORE_LIMIT)


def parse_count(count: str | float, option: str = "--max-params") -> int:
    """Return 150000, 150k, 1.2M or 12G as an integer.

    Args:
        count: The count, with or without a unit.
        option: The option's name, for the error message.

    Returns:
        The integer.

    Raises:
        AutorankError: The text is not a positive count, or not a whole number: 1.0001k.
    """
    units, text = {"k": 10**3, "M": 10**6, "G": 10**9}, str(count)
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "")
    value = _positive(number, f"{option} {text!r} is not a count. Write it as 150000, 150k or 1.2M.")
    value *= units.get(unit, 1)
    if value > MAX_INT:
        raise AutorankError(f"{option} {text!r} is too large. Give at most {MAX_INT:,}, or leave the option out.")
    if value != value.to_integral_value():
        raise AutorankError(f"{option} {text!r} is {value.normalize():f}, which is not a whole number. Round it.")
    return int(value)


def int_or_auto(text: str) -> int | str:
    """Return `auto` or an integer.

    Raises:
        typer.BadParameter: The text is neither.
    """
    if str(text) == "auto":
        return "auto"
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither an integer nor auto.") from None


def slice_count(text: str) -> int | str:
    """Return `auto`, `off` or a positive integer; `off` is false in a YAML file.

    Raises:
        typer.BadParameter: The text is none of them.
    """
    if str(text) in ("auto", "off", "False"):
        return "off" if str(text) == "False" else str(text)
    try:
        count = int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise typer.BadParameter(f"expected auto, off or a positive integer, got {text!r}.")
    return count


def build_spec(spec_class: type[S], **values: Any) -> S:
    """Return a spec with these values.

    Args:
        spec_class: The class of the spec.
        values: Its fields.

    Returns:
        The spec.

    Raises:
        AutorankError: Lists all invalid values.
    """
    from pydantic import ValidationError

    try:
        return spec_class(**values)
    except ValidationError as error:
        raise explain(error, "The command") from None


def _positive(text: str, message: str) -> Decimal:
    """The number in a text, exactly; AutorankError with the message if it is not positive and finite."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise AutorankError(message) from None
    if not value.is_finite() or not 0 < value < MAX_INT:
        raise AutorankError(message)
    return value

"""The user's own metrics: a function in a file, a function in Python, or one that an installed package provides.

A metric is a function of the predictions and the references that returns a number, with an attribute
`higher_is_better`. Scores are maximized, so a metric of which lower values are better, such as an error rate, becomes
the score 1 / (1 + value).
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import importlib.util
import inspect
import math
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from autorank.errors import AutorankError, unknown

GROUP = "autorank.metrics"
FILE, PICKLE = "sha256:", "pickle:"  # what `source` begins with


@dataclass(frozen=True)
class OwnMetric:
    """A metric of the user's own. It holds no function, so that other processes can load it.

    Attributes:
        target: `FILE.py:FUNCTION`, the name of an entry point, or the name of a function of Python.
        source: Digest of the file, or the pickled function; empty for entry points.
    """

    target: str
    source: str = ""

    @property
    def name(self) -> str:
        """Name of the function."""
        return self.target.rpartition(":")[2]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of what `scores` computes, the score first."""
        return (self.name,) if self._function.higher_is_better else (f"{self.name}_score", self.name)

    @property
    def _function(self) -> Any:
        return _load(self.target, self.source)

    def scores(self, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
        """Compute the metric.

        Args:
            predictions: Predicted texts, names of classes or numbers.
            references: What each prediction is compared with, of the same type.

        Returns:
            The score, and if lower values are better also the value itself.

        Raises:
            AutorankError: The function fails, or does not return a finite number.
        """
        try:
            value = self._function(list(predictions), list(references))
        except (Exception, SystemExit) as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            raise AutorankError(
                f"Metric {self.target!r} failed: {type(error).__name__}: {error} ({frame.filename}, line "
                f"{frame.lineno}). It was called with {len(predictions)} predictions and their references."
            ) from error
        try:
            number = float(value)
        except OverflowError:
            raise AutorankError(
                f"Metric {self.target!r} returned a number that is too large for a float. Return a finite number."
            ) from None
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise AutorankError(f"Metric {self.target!r} returned {value!r}. Return a finite number.")
        if self._function.higher_is_better:
            return {self.name: number}
        return {f"{self.name}_score": 1 / (1 + number) if number >= 0 else 1 - number, self.name: number}

    def scores_of_texts(self, texts: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Compute the metric of texts that may have several references: each reference is a pair with its text.

        Args:
            texts: The predicted texts.
            references: The references of each; none is an empty text.

        Returns:
            As `scores`.

        Raises:
            AutorankError: As `scores`.
        """
        pairs = [
            (text, reference)
            for text, text_references in zip(texts, references, strict=True)
            for reference in text_references or [""]
        ]
        return self.scores([text for text, _ in pairs], [reference for _, reference in pairs])


def parse(metric: str | Callable[..., float] | None) -> dict[str, str | None]:
    """Return the fields of `TaskSpec` for the value of `--metric`.

    Args:
        metric: A name, `FILE.py:FUNCTION`, or a function of Python.

    Returns:
        `metric` and `metric_source`.

    Raises:
        AutorankError: The file or the function does not exist or cannot be used as a metric.
    """
    if metric is None:
        return {"metric": None, "metric_source": None}
    if callable(metric):
        target, source = getattr(metric, "__name__", type(metric).__name__), PICKLE + _pickled(metric)
    elif ".py" not in metric:
        return {"metric": metric, "metric_source": None}
    else:
        path, _, function = metric.rpartition(":")
        if not path.endswith(".py"):
            raise AutorankError(f"--metric {metric} names no function. Write it as FILE.py:FUNCTION.")
        file = Path(path).expanduser().absolute()
        target, source = f"{file}:{function}", FILE + hashlib.sha256(_content(file)).hexdigest()
    _load(target, source)
    return {"metric": target, "metric_source": source}


def installed() -> dict[str, str]:
    """Return the metrics of installed packages: name -> module and function."""
    return {point.name: point.value for point in importlib.metadata.entry_points(group=GROUP)}


@cache
def _load(target: str, source: str) -> Any:
    """The function, checked."""
    if source.startswith(PICKLE):
        function = _unpickled(target, source.removeprefix(PICKLE))
    elif source:
        function = _from_file(target, source)
    else:
        (point,) = importlib.metadata.entry_points(group=GROUP, name=target)
        try:
            function = point.load()
        except (Exception, SystemExit) as error:
            raise AutorankError(f"Metric {target!r} ({point.value}) cannot be loaded: {error}.") from error
    try:
        inspect.signature(function).bind(None, None)
    except (TypeError, ValueError):
        raise AutorankError(f"Metric {target!r} is not a function of predictions and references. Change it.") from None
    if not isinstance(getattr(function, "higher_is_better", None), bool):
        name = target.rpartition(":")[2]
        raise AutorankError(
            f"Metric {target!r} does not say whether higher values are better. Add the line {name}.higher_is_better = "
            "True (or False) below the function."
        )
    return function


def _from_file(target: str, source: str) -> Any:
    path, _, name = target.rpartition(":")
    digest = hashlib.sha256(_content(Path(path))).hexdigest()
    if source != FILE + digest:
        raise AutorankError(
            f"{path}, which has the metric {name!r}, has changed since the search began. Restore it, or start another "
            "search with --name."
        )
    spec = importlib.util.spec_from_file_location(f"autorank_metric_{digest[:16]}", path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(Path(path).parent))  # for modules beside it
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise AutorankError(f"{path} cannot be imported: {type(error).__name__}: {error}.") from error
    finally:
        sys.path.pop(0)
    if not hasattr(module, name):
        functions = [function_name for function_name, value in vars(module).items() if inspect.isfunction(value)]
        raise unknown(f"function of {path}", name, functions)
    return getattr(module, name)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise AutorankError(f"--metric: {path} cannot be read: {error.strerror or error}.") from error


def _pickled(function: Callable[..., float]) -> str:
    """A function with all that it uses of its module, as text."""
    cloudpickle = _cloudpickle()
    module = inspect.getmodule(function)
    is_importable = module is not None and module.__name__ not in ("__main__", "builtins")
    if is_importable:
        cloudpickle.register_pickle_by_value(module)
    try:
        return base64.b64encode(cloudpickle.dumps(function)).decode()
    except Exception as error:
        raise AutorankError(
            f"The metric {function!r} cannot be sent to other processes: {error}. Write it to a file and use "
            'metric="FILE.py:FUNCTION".'
        ) from error
    finally:
        if is_importable:
            cloudpickle.unregister_pickle_by_value(module)


def _unpickled(target: str, content: str) -> Any:
    cloudpickle = _cloudpickle()
    try:
        return cloudpickle.loads(base64.b64decode(content))
    except (Exception, SystemExit) as error:
        raise AutorankError(
            f"Metric {target!r} cannot be loaded: {error}. Install its dependencies on this machine."
        ) from error


def _cloudpickle() -> Any:
    try:
        return importlib.import_module("cloudpickle")
    except ImportError as error:
        raise AutorankError(
            'A function as a metric needs the package cloudpickle. Run `pip install cloudpickle`, or use "FILE.py:'
            'FUNCTION".'
        ) from error

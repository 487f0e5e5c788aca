"""The type of data that Python code has in memory."""

from __future__ import annotations

CLASSES = {("pandas", "DataFrame"), ("datasets", "Dataset"), ("datasets", "DatasetDict")}


class _ByName(type):
    """Recognizes objects by the names of their classes, so that no package is imported for it."""

    def __instancecheck__(cls, instance: object) -> bool:
        return any((base.__module__.partition(".")[0], base.__name__) in CLASSES for base in type(instance).__mro__)


class DataObject(metaclass=_ByName):
    """A pandas DataFrame, or a Dataset or DatasetDict of datasets."""

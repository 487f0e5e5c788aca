"""Finds the files of a path, pattern or address, and sorts them into splits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from autorank.errors import AutorankError, listed
from autorank.tasks.reading.data_file import DataFile
from autorank.tasks.reading.location import is_address
from autorank.tasks.reading.tables import READERS, column_names, formats, read
from autorank.tasks.splits.table import Table

SPLIT_WORDS = {  # words in names of files and directories -> the split
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
SHARD = re.compile(r"-\d+-of-\d+$")
SPLITS_FILE = "dataset_dict.json"  # of a DatasetDict in a directory: each file or directory beside it is a split
DESCRIPTIONS = {
    "dataset_info.json",
    SPLITS_FILE,
    "dataset_infos.json",
    "state.json",
}  # files of datasets next to the data
PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}  # by scheme
MAX_LISTED = 10  # files that a message lists


@dataclass(frozen=True)
class FileSet:
    """The data files of a path.

    Attributes:
        data: The path, pattern or address, for messages.
        files: The files, sorted by path.
        root: The directory; for a pattern, the directory that all files are in. None: `data` is a single file.
        is_dict: Whether it is a directory of a DatasetDict, in which each file or directory is a split.
    """

    data: str
    files: tuple[DataFile, ...]
    root: PurePosixPath | None
    is_dict: bool = False

    def __str__(self) -> str:
        return self.data

    @property
    def splits(self) -> list[str]:
        """Names of the splits, by words in the names of files, or else of directories.

        If no name has such a word, there is only `train`, or the splits of a DatasetDict.
        """
        names = dict.fromkeys(word for file in self.files if (word := self._word(file)))
        if not names and self.is_dict:
            names = dict.fromkeys((*self._relative(file).parts[:-1], _stem(file))[0] for file in self.files)
        return list(names) if names and self.root else ["train"]

    def read(self, split: str, names: Sequence[str]) -> Table:
        """Read columns of a split.

        Args:
            split: Name of the split.
            names: The columns; parts of nested ones with dots.

        Returns:
            The columns of all files of the split, one file after the other.

        Raises:
            AutorankError: There is no such split, it has several files that are not parts of one table, or a file is
                invalid or lacks a column.
        """
        return read(self._files(split), names, self.data)

    def columns(self, split: str) -> list[str]:
        """Return the names of the columns that all files of a split have; raises as `read`."""
        return column_names(self._files(split))

    def overlap(self, split: str, other: str) -> bool:
        """Return whether two names mean the same split: `dev` and `validation` do; raises as `read`."""
        return self._files(split) == self._files(other)

    def _files(self, split: str) -> list[DataFile]:
        files = self._select(split)
        if not files:
            raise AutorankError(
                f"{self.data} has no {split} file (such as {split}.csv; {formats()}). Available: "
                f"{self._listing(self.files)}. Rename a file, or choose with --train-split and --eval-split."
            )
        return files

    def _select(self, split: str) -> list[DataFile]:
        """The files of a split: those with exactly this name, or else with a word that means it."""
        if self.root is None:
            return list(self.files) if split == "train" else []
        exact = [file for file in self.files if split in (_stem(file), *self._relative(file).parts[:-1])]
        exact = [file for file in exact if len(self._relative(file).parts) == 1] or exact
        if exact or split not in SPLIT_WORDS:
            members = exact
        elif split == "train" and not self.is_dict and not any(map(self._word, self.files)):
            members = list(self.files)
        else:
            members = [file for file in self.files if self._word(file) == SPLIT_WORDS[split]]
        self._check_parts(split, members)
        return members

    def _listing(self, files: Iterable[DataFile]) -> str:
        return listed(sorted(str(self._relative(file)) for file in files), MAX_LISTED)

    def _word(self, file: DataFile) -> str | None:
        """The split that a file belongs to, by its name or else those of its directories, innermost first."""
        words = map(split_of, reversed(self._relative(file).parts))
        return next((word for word in words if word), None)

    def _relative(self, file: DataFile) -> PurePosixPath:
        path = PurePosixPath(file.path)
        return path.relative_to(self.root) if self.root and path.is_relative_to(self.root) else PurePosixPath(path.name)

    def _check_parts(self, split: str, files: Sequence[DataFile]) -> None:
        """Check that files of a split are parts of one table: of one format, and with names that differ in a number."""
        stems = [_stem(file, shard=True) for file in files if split_of(PurePosixPath(file.path).name)]
        numberless = {re.sub(r"\d+", "", stem) for stem in stems}
        parts = len(stems) < 2 or (len(numberless) == 1 and len(set(stems)) == len(stems))
        if parts and len({READERS.get(file.suffix) for file in files}) < 2:
            return
        raise AutorankError(
            f"{self.data} has several files for {split}: {self._listing(files)}. "
            "Keep one, or choose with --train-split and --eval-split."
        )


def find_files(data: str) -> FileSet:
    """Find the data files of a path.

    Args:
        data: A file, a directory, a pattern such as `data/*.csv`, or an address of one of these.

    Returns:
        The files; of directories and patterns those with a known extension.

    Raises:
        AutorankError: There are none, or the file system needs a package or cannot be reached.
    """
    filesystem, path = _filesystem(data)
    try:
        if filesystem.isfile(path):
            return FileSet(data, (DataFile(path, filesystem),), None)
        is_folder = filesystem.isdir(path)
        paths = filesystem.find(path) if is_folder else filesystem.glob(path) if re.search(r"[*?[]", path) else []
    except Exception as error:  # each file system raises its own
        raise AutorankError(
            f"--data {data} cannot be read: {str(error) or type(error).__name__}. Check the address, the network and "
            "the credentials."
        ) from error
    root = PurePosixPath(path) if is_folder else _common_folder(paths)
    files = [DataFile(name, filesystem) for name in sorted(paths) if _is_data(PurePosixPath(name).relative_to(root))]
    files = [file for file in files if file.suffix in READERS]
    if files:
        return FileSet(data, tuple(files), root, str(root / SPLITS_FILE) in paths)
    if is_folder:
        names = listed(sorted(str(PurePosixPath(name).relative_to(root)) for name in paths), MAX_LISTED) or "nothing"
        raise AutorankError(f"{data} has no data files ({formats()}). Available: {names}.")
    raise AutorankError(f"File {data!r} does not exist. Check --data; datasets on the Hub are named owner/name.")


def _filesystem(data: str) -> tuple[Any, str]:
    """The file system of a path or address, of fsspec, and the path in it."""
    import fsspec

    from autorank.tasks.reading.local_files import LocalFiles

    if not is_address(data):
        path = str(Path(data).absolute())
        return LocalFiles(path), path
    scheme = data.partition("://")[0]
    try:
        filesystem, path = fsspec.core.url_to_fs(data)
        return filesystem, str(path)
    except ImportError as error:
        package = PACKAGES.get(scheme)
        remedy = f"Run `pip install {package}`." if package else f"Install the package: {error}."
        raise AutorankError(f"--data {data}: addresses with {scheme}:// need another package. {remedy}") from error
    except ValueError as error:  # unknown scheme
        raise AutorankError(f"--data {data}: {scheme}:// is not a known kind of address ({error}).") from error


def _common_folder(paths: Iterable[str]) -> PurePosixPath:
    """The longest directory that all files are in."""
    chains = [[*reversed(PurePosixPath(path).parents)] for path in paths]
    common = [folders[0] for folders in zip(*chains, strict=False) if len(set(folders)) == 1]
    return common[-1] if common else PurePosixPath()


def _is_data(path: PurePosixPath) -> bool:
    """Whether a file in a directory is data: not hidden, not a description or a cache of datasets."""
    hidden = any(part.startswith((".", "_")) for part in path.parts)
    return not hidden and path.name not in DESCRIPTIONS and not path.match("cache-*.arrow")


def split_of(name: str) -> str | None:
    """Return the split that a word of a name means: `validation` for `dev-00000-of-00001.parquet`.

    Args:
        name: Name of a file, a directory or a split.

    Returns:
        train, validation or test, the first if there are several words; None if there is none.
    """
    words = re.split(r"[^a-z]+", name.lower())
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), None)


def _stem(file: DataFile, shard: bool = False) -> str:
    """A file's name without extensions, and without the number of a shard."""
    name = PurePosixPath(file.path).name
    stem = name[: name.lower().rfind(file.suffix)] if file.suffix else name
    return stem if shard else SHARD.sub("", stem)

"""A data file, local or remote, compressed or not, and its text in any Unicode encoding."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

from autorank.errors import AutorankError
from autorank.git_lfs import POINTER

COMPRESSED: dict[str, tuple[bytes, Callable[[bytes], bytes]]] = {  # suffix -> first bytes, function that decompresses
    ".gz": (b"\x1f\x8b", gzip.decompress),
    ".bz2": (b"BZh", bz2.decompress),
    ".xz": (b"\xfd7zXZ\x00", lzma.decompress),
    ".zip": (b"PK\x03\x04", lambda content: _only_member(content)),
}
# exceptions of these functions; zipfile raises RuntimeError for encrypted files and unknown methods of compression
DAMAGED = (OSError, EOFError, ValueError, RuntimeError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
BYTE_ORDER_MARKS = {  # byte order marks; UTF-32's begins with UTF-16's
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
ENCODING_SAMPLE_BYTES = 4096  # bytes in which UTF-16 without a byte order mark is looked for


@dataclass(frozen=True)
class DataFile:
    """A data file.

    Attributes:
        path: Its path in the file system.
        filesystem: The file system, of fsspec.
    """

    path: str
    filesystem: Any

    def __str__(self) -> str:
        return self.path if self._is_local else str(self.filesystem.unstrip_protocol(self.path))

    @property
    def _is_local(self) -> bool:
        return "file" in self.filesystem.protocol

    @property
    def suffix(self) -> str:
        """The extension that names the format, in lower case, without that of a compression."""
        path = self.path if self._is_local else self.path.partition("?")[0]  # without the query of an address
        suffixes = [suffix.lower() for suffix in PurePosixPath(path).suffixes]
        if suffixes and suffixes[-1] in COMPRESSED:
            suffixes.pop()
        return suffixes[-1] if suffixes else ""

    def open(self) -> IO[bytes]:
        """Open the decompressed content. Files that are not compressed are not read into memory.

        Raises:
            AutorankError: The compressed content is damaged, or the file is a pointer of Git LFS.
            OSError: The file cannot be read.
        """
        file: IO[bytes] = self.filesystem.open(self.path, "rb")
        beginning = file.read(len(POINTER))
        file.seek(0)
        if beginning == POINTER:
            file.close()
            raise AutorankError(
                f"{self} is a pointer of Git LFS, not the data. Run `git lfs pull` in its repository, or download the "
                "file itself."
            )
        for suffix, (mark, decompress) in COMPRESSED.items():
            if beginning.startswith(mark):
                with file:
                    content = file.read()
                try:
                    return io.BytesIO(decompress(content))
                except DAMAGED as error:
                    raise AutorankError(
                        f"{self} is not a valid {suffix} file ({error}). Write or copy it again."
                    ) from error
        return file

    def text(self) -> str:
        """Return the content as text: UTF-8, or UTF-16 or UTF-32 if it begins with a byte order mark or has zero bytes.

        Raises:
            AutorankError: It has another encoding.
            OSError: The file cannot be read.
        """
        with self.open() as file:
            content = file.read()
        encoding = _encoding(content)
        try:
            return content.decode(encoding)
        except UnicodeDecodeError as error:
            if encoding not in ("utf-8", "utf-8-sig"):
                raise AutorankError(
                    f"{self} is not valid {encoding} ({error.reason} at byte {error.start}). Convert it to UTF-8."
                ) from error
            line = content.count(b"\n", 0, error.start) + 1
            raise AutorankError(
                f"{self} is not UTF-8: line {line} has the byte 0x{content[error.start]:02x}. Save it as UTF-8 (in a "
                f"spreadsheet: CSV UTF-8), or convert it from the encoding that it has, as in `iconv -f WINDOWS-1252 "
                f"-t UTF-8 {PurePosixPath(self.path).name} > utf8{self.suffix}`."
            ) from error


def _encoding(content: bytes) -> str:
    """The encoding that a byte order mark or zero bytes show; UTF-8 without them."""
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            return encoding
    beginning = content[:ENCODING_SAMPLE_BYTES]
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if beginning[first::2].count(0) > len(beginning) / 8 and not beginning[1 - first :: 2].count(0):
            return encoding
    return "utf-8"


def _only_member(content: bytes) -> bytes:
    """The only file in a zip archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX")]
        if len(members) != 1:
            raise ValueError(f"it has {len(members)} files, expected one")
        return archive.read(members[0])

"""Models and datasets from a folder or the Hugging Face Hub: gives up quickly, and says clearly why."""

from __future__ import annotations

import contextlib
import difflib
import re
import time
from collections.abc import Iterator
from pathlib import Path

from autorank.errors import DISK_FULL, AutorankError

PATIENCE = 5.0  # seconds for the Hub's first answer; its clients would retry each file for 23 s
SILENCE = 60.0  # seconds for which a Hub that gave no answer is not asked again

# What a mistyped name may have meant, besides folders: the base models of the papers.
MODELS = (
    "FacebookAI/roberta-base",
    "FacebookAI/roberta-large",
    "microsoft/deberta-v3-base",
    "google-bert/bert-base-uncased",
)
# Names of the clients' exceptions, so that none of the clients need be imported.
UNREACHABLE = {"ConnectionError", "TransportError", "OfflineModeIsEnabled", "LocalEntryNotFoundError"}
NOT_FOUND = {"RepositoryNotFoundError", "DatasetNotFoundError", "HFValidationError", "RevisionNotFoundError"}
BROKEN = {"EntryNotFoundError", "JSONDecodeError", "SafetensorError"}
# What transformers says of a folder or repository that is no (complete) model.
UNUSABLE = (
    "does not appear to have a file named",
    "no file named",
    "not a valid JSON file",
    "Unrecognized model in",
    "Unrecognized configuration class",
    "does not recognize this architecture",
)

_silent_until: dict[str, float] = {}  # by address, on the monotonic clock


@contextlib.contextmanager
def hub_access(kind: str, name: str) -> Iterator[None]:
    """Around the loading of a model or dataset (`kind`) called `name` from its folder, the Hub or its cache.

    Where the Hub gives no answer within `PATIENCE`, the clients are held offline for the while (a switch of
    the whole process), so that what is cached loads at once and what is not fails at once.

    Raises:
        AutorankError: there is no such folder or repository, the Hub is out of reach, or it refuses access.
    """
    is_folder = Path(name).is_dir()
    if not is_folder and _looks_like_path(name):
        raise AutorankError(f"{name!r} is not a directory. {_nearest(kind, name)}Check the {kind}'s path.")
    with contextlib.nullcontext() if is_folder else _offline_if_unreachable():
        try:
            yield
        except Exception as error:
            clear = hub_error(error, f"{kind} {name!r}", _nearest(kind, name))
            if clear is None:
                raise
            raise clear from error


def public_name(model: str) -> str | None:
    """The Hub's name of a model: itself, or that of a folder in the Hub's cache; None: any other folder's."""
    if not Path(model).is_dir():
        return model
    found = re.search(r"/models--([^/]+)/snapshots/[^/]+/?$", str(Path(model).absolute()))
    return found[1].replace("--", "/") if found else None


def hub_error(error: BaseException, what: str, hint: str = "") -> AutorankError | None:
    """The clear error for what the Hub's clients raised about `what` ("model 'x'"); None for any other."""
    if isinstance(error, AutorankError):
        return error
    chain = list(_chain(error))
    classes = {cls.__name__ for link in chain for cls in type(link).__mro__}
    text = str(error)
    if any(isinstance(link, OSError) and link.errno in DISK_FULL for link in chain):
        return AutorankError(f"No space left on the disk for {what}. Make room, or set HF_HOME to another disk.")
    if "GatedRepoError" in classes or ("DatasetNotFoundError" in classes and "gated" in text):
        return AutorankError(
            f"Access to {what} is gated on the Hub. Ask for access on its page there, then set HF_TOKEN to "
            "your token (or run `hf auth login`). A token that is already set has not been granted access."
        )
    if classes & UNREACHABLE or "Couldn't find cache for" in text:
        return AutorankError(
            f"The Hugging Face Hub is out of reach and {what} is not in the local cache. {hint}Connect, or "
            "use what is on this machine: --data DIR for the data, --model DIR for the model. "
            "`--task demo` needs no network at all."
        )
    if classes & NOT_FOUND:
        return AutorankError(
            f"There is no {what}: neither a folder here nor on the Hub. {hint}Check the spelling; a private "
            "one needs HF_TOKEN."
        )
    if "HfHubHTTPError" in classes:
        return AutorankError(f"The Hub refused {what}: {_first_line(text)}. Check HF_TOKEN, or try again later.")
    if "trust_remote_code" in text:
        return AutorankError(
            f"The {what} brings code of its own (auto_map in its config.json), which is not run unasked: it could do "
            "anything that you can. Read its .py files; if you trust them, give --trust-remote-code."
        )
    if "UnpicklingError" in classes or "weights_only" in text:
        return AutorankError(
            f"The weights of {what} are a pickle with more than tensors in it, which loading would run. Ask whoever "
            "made them for model.safetensors."
        )
    if "backend tokenizer" in text:
        return AutorankError(
            f"The tokenizer of {what} cannot be read: there is no tokenizer.json, and no other form that the "
            "installed packages can convert (DeBERTa-v3's needs `pip install sentencepiece`; a model that is not "
            "for texts has none)."
        )
    if classes & BROKEN or any(phrase in text for phrase in UNUSABLE):
        return AutorankError(
            f"Cannot use {what}: {_first_line(text)}. Expected a directory written by "
            "save_pretrained, with config.json, weights and tokenizer of a transformers model."
        )
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what caused it, in turn."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0].rstrip(".")


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name


def _nearest(kind: str, name: str) -> str:
    """A question about the folder or well-known model whose name is nearest, if any is near."""
    parent = Path(name).parent
    known = list(MODELS) if kind == "model" else []
    if parent.is_dir():
        known += [str(parent / entry.name) for entry in parent.iterdir() if entry.is_dir()]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    return f"Did you mean {near[0]!r}? " if near and near[0] != name else ""


@contextlib.contextmanager
def _offline_if_unreachable() -> Iterator[None]:
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _answers(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _answers(address: str) -> bool:
    """Whether a Hub is within reach."""
    from huggingface_hub import get_session

    if time.monotonic() < _silent_until.get(address, 0.0):
        return False
    try:
        get_session().head(address, timeout=PATIENCE, follow_redirects=False)
    except Exception:  # whatever it is: no answer
        _silent_until[address] = time.monotonic() + SILENCE
        return False
    return True

"""Loading models and datasets from a directory or the Hugging Face Hub, with a short timeout and clear errors."""

from __future__ import annotations

import contextlib
import difflib
import re
import time
from collections.abc import Iterator
from pathlib import Path

from autorank.errors import AutorankError, disk_full
from autorank.git_lfs import pointers

HUB_TIMEOUT_S = 5.0  # seconds to wait for the Hub's first answer; its clients retry each file for 23 s
HUB_RETRY_AFTER_S = 60.0  # seconds before a Hub that did not answer is tried again

# Suggestions for mistyped names, besides local directories: the base models of the papers.
MODELS = (
    "FacebookAI/roberta-base",
    "FacebookAI/roberta-large",
    "microsoft/deberta-v3-base",
    "google-bert/bert-base-uncased",
)
UNREACHABLE = {"ConnectionError", "TransportError", "OfflineModeIsEnabled", "LocalEntryNotFoundError"}
# Names of exceptions (to avoid importing the clients), phrases of their texts, and the message; the first match counts.
ERRORS: tuple[tuple[set[str], tuple[str, ...], str], ...] = (
    (
        {"GatedRepoError"}, ("is a gated dataset",),
        "Access to {subject} is gated on the Hub. Request access on its page, then set HF_TOKEN to your token (or run "
        "`hf auth login`). If a token is set already, it has not been granted access.",
    ),
    (
        UNREACHABLE, ("Couldn't find cache for",),
        "The Hugging Face Hub is out of reach and {subject} is not in the local cache. {hint}Connect to the network, "
        "or use local files: --data DIR for the data, --model DIR for the model. `--task demo` needs no network.",
    ),
    (
        {"RepositoryNotFoundError", "DatasetNotFoundError", "HFValidationError", "RevisionNotFoundError"}, (),
        "There is no {subject}, neither as a local directory nor on the Hub. {hint}Check the spelling. Private "
        "repositories need HF_TOKEN.",
    ),
    (
        {"HfHubHTTPError"}, (),
        "The Hub refused {subject}: {reason}. Check HF_TOKEN, or try again later.",
    ),
    (
        {"ImportError", "ModuleNotFoundError"}, (),
        "The {subject} needs packages that are not installed: {reason}. Install them with pip.",
    ),
    (
        set(), ("trust_remote_code",),
        "The {subject} comes with Python code (auto_map in its config.json), which could do anything on this machine "
        "and is not run by default. Read its .py files; if you trust them, add --trust-remote-code.",
    ),
    (
        {"UnpicklingError"}, ("weights_only",),
        "The weights of {subject} are a pickle file that contains more than tensors; loading it could run code. Use "
        "weights in model.safetensors.",
    ),
    (
        set(), ("backend tokenizer",),
        "Cannot load the tokenizer of {subject}: it has no tokenizer.json, and the installed packages cannot convert "
        "another format. DeBERTa-v3 needs `pip install sentencepiece`. Models that are not for text have no tokenizer.",
    ),
    (
        # tokenizers raises Exception itself
        {"EntryNotFoundError", "JSONDecodeError", "SafetensorError", "StrictDataclassError", "Exception"},
        (
            "does not appear to have a file named", "no file named", "not a valid JSON file", "Unrecognized model in",
            "Unrecognized configuration class", "does not recognize this architecture",
        ),
        "Cannot use {subject}: {reason}. Expected a directory written by save_pretrained, with config.json, weights "
        "and tokenizer of a transformers model.",
    ),
)  # fmt: skip
# Exceptions that count only as the class of an error itself, not as its base class or its cause.
COMMON = {"Exception", "ImportError", "ModuleNotFoundError"}

_silent_until: dict[str, float] = {}  # address -> monotonic time at which it may be tried again


@contextlib.contextmanager
def hub_access(kind: str, name: str) -> Iterator[None]:
    """Context for loading a model or dataset from a directory, the Hub or its cache.

    If the Hub does not answer within `HUB_TIMEOUT_S`, its clients are switched offline within the context, for the
    whole process: cached files load at once, others fail at once.

    Args:
        kind: "model" or "dataset", for messages.
        name: Directory or name on the Hub.

    Raises:
        AutorankError: There is no such directory or repository, it has pointers of Git LFS in place of files, the Hub
            cannot be reached, or it refuses access.
    """
    is_folder = Path(name).is_dir()
    if not is_folder and _looks_like_path(name):
        raise AutorankError(f"{name!r} is not a directory. {_nearest(kind, name)}Check the {kind}'s path.")
    with contextlib.nullcontext() if is_folder else _offline_if_unreachable():
        try:
            yield
        except Exception as error:
            if is_folder and (missing := pointers(Path(name))):
                raise AutorankError(
                    f"Cannot use {kind} {name!r}: {', '.join(missing)} in it are pointers of Git LFS, not the files. "
                    "Run `git lfs pull` there, or download the files."
                ) from error
            clear = hub_error(error, f"{kind} {name!r}", _nearest(kind, name))
            if clear is None:
                raise
            raise clear from error


def public_name(model: str) -> str | None:
    """The name of a model on the Hub, also for a directory of the Hub's cache; None for other directories."""
    if not Path(model).is_dir():
        return model
    match = re.search(r"/models--([^/]+)/snapshots/[^/]+/?$", str(Path(model).absolute()))
    return match[1].replace("--", "/") if match else None


def hub_error(error: BaseException, subject: str, hint: str = "") -> AutorankError | None:
    """Translate an error of the Hub's clients.

    Args:
        error: The exception.
        subject: What was being loaded: "model 'x'".
        hint: A sentence to insert before the remedy, such as a similar name.

    Returns:
        The error for the user; None for other exceptions.
    """
    if isinstance(error, AutorankError):
        return error
    chain = list(_chain(error))
    classes = {cls.__name__ for link in chain for cls in type(link).__mro__} - COMMON | {type(error).__name__}
    text = str(error)
    if any(map(disk_full, chain)):
        return AutorankError(
            f"No space left on the disk for {subject}. Free some space, or set HF_HOME to a directory on another disk."
        )
    for names, phrases, message in ERRORS:
        if classes & names or any(phrase in text for phrase in phrases):
            return AutorankError(message.format(subject=subject, hint=hint, reason=_first_line(text)))
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and its causes."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _first_line(text: str) -> str:
    """The first line, without its point; with the next one if it ends with a colon."""
    line, _, rest = text.strip().partition("\n")
    return f"{line} {_first_line(rest)}" if line.endswith(":") and rest else line.rstrip(".")


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name


def _nearest(kind: str, name: str) -> str:
    """A question that suggests the most similar directory or well-known model; empty if none is similar."""
    parent = Path(name).parent
    candidates = list(MODELS) if kind == "model" else []
    if parent.is_dir():
        candidates += [str(parent / entry.name) for entry in parent.iterdir() if entry.is_dir()]
    similar = difflib.get_close_matches(name, candidates, n=1, cutoff=0.7)
    return f"Did you mean {similar[0]!r}? " if similar and similar[0] != name else ""


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
    """Whether the Hub at this address answers; failures are remembered for `HUB_RETRY_AFTER_S`."""
    from huggingface_hub import get_session

    if time.monotonic() < _silent_until.get(address, 0.0):
        return False
    try:
        get_session().head(address, timeout=HUB_TIMEOUT_S, follow_redirects=False)
    except Exception:  # any error means no answer
        _silent_until[address] = time.monotonic() + HUB_RETRY_AFTER_S
        return False
    return True

"""An exported folder on the Hugging Face Hub."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from autorank.errors import AutorankError
from autorank.modeling.adapter_file import FILE, Origin, rename_base
from autorank.modeling.hub_access import UNREACHABLE, public_name
from autorank.spec import TrainSpec

# What some exports write and others do not: left over from an earlier push, it would be loaded all the same.
_FORMS = [
    FILE, "adapter_config.json", "adapter_model*", "config.json", "generation_config.json", "model*.safetensors",
    "model.safetensors.index.json", "tokenizer*", "chat_template*",
]  # fmt: skip


def check(repository: str) -> None:
    """That something could be pushed to `repository`, as far as that can be known without asking the Hub.

    Raises:
        AutorankError: that is no name of a repository, there is no token, or the Hub's clients are held offline.
    """
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repository)
    except HFValidationError:
        raise AutorankError(f"--push-to-hub {repository!r} names no repository; write NAME or OWNER/NAME.") from None
    if constants.HF_HUB_OFFLINE:
        raise AutorankError("--push-to-hub needs the Hub, and HF_HUB_OFFLINE is set. Unset it.")
    if get_token() is None:
        raise AutorankError(
            "--push-to-hub needs a token that may write: set HF_TOKEN to one (Settings, Access Tokens on the Hub), or "
            "run `hf auth login`."
        )


def leave_folders_out(export: Path, train: TrainSpec, origin: Origin) -> None:
    """Name what an export was made of as others may read it: not by folders and files of this machine."""
    files = [Path(value) for value in train.settings.values() if isinstance(value, str) and Path(value).is_absolute()]
    names = {str(file): file.name for file in [*files, *([train.task.data] if train.task.data else [])]}
    if Path(origin.model).is_dir():
        names[origin.model] = public_name(origin.model) or Path(origin.model).name
        if (own := export / FILE).exists():
            rename_base(own, names[origin.model])
    for text in (export / "README.md", *export.glob("*.json")):
        if text.exists():
            content = text.read_text(encoding="utf-8")
            for place in sorted(names, key=len, reverse=True):  # one may be in another
                for written in (shlex.quote, lambda name: json.dumps(name)[1:-1], str):
                    content = content.replace(written(place), written(names[place]))
            text.write_text(content, encoding="utf-8")


def push(folder: Path, repository: str, message: str) -> str:
    """Upload the folder to the branch `main`; returns the address.

    A repository that is not there yet is made, private: publishing is a decision of its own, made on its page. What an
    earlier push left there in another form is removed.

    Raises:
        AutorankError: the Hub is out of reach, does not know the token, or refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    hub = HfApi()
    try:
        made = hub.create_repo(repository, private=True, exist_ok=True)
        hub.upload_folder(repo_id=made.repo_id, folder_path=folder, commit_message=message, delete_patterns=_FORMS)
    except HfHubHTTPError as error:
        raise AutorankError(_refusal(repository, error)) from error
    except Exception as error:  # which classes, depends on the client that huggingface_hub is built on
        if not {cls.__name__ for cls in type(error).__mro__} & UNREACHABLE:
            raise
        raise AutorankError(
            f"The Hugging Face Hub is out of reach ({hub.endpoint}), so nothing was pushed to {repository} and "
            "nothing else was written. Connect and give the command again; --to DIR alone needs no Hub."
        ) from error
    return str(made)


def _refusal(repository: str, error: Exception) -> str:
    """What a refusal of the Hub means."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if status == 401:
        return (
            f"The Hub does not know the token, so nothing was pushed to {repository}. Set HF_TOKEN to one that is "
            "valid, or run `hf auth login`."
        )
    if status == 403:
        return (
            f"The token may not write to {repository}. It needs the role `write`, and its owner a place in "
            "that organisation; or choose another --push-to-hub."
        )
    said = getattr(error, "server_message", None) or str(error).strip().partition("\n")[0]
    return f"The Hub refused {repository}: {said}. Try again later, or choose another --push-to-hub."

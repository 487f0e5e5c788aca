"""Uploads an export to the Hugging Face Hub."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from autorank.errors import AutorankError
from autorank.modeling.adapter_file import FILE, Origin, rename_base
from autorank.modeling.loading.hub_access import UNREACHABLE, public_name
from autorank.spec import TrainSpec

# Files of the several forms: left over from an earlier push in another form, they would still be loaded.
_FORM_FILES = [
    FILE, "adapter_config.json", "adapter_model*", "config.json", "generation_config.json", "model*.safetensors",
    "model.safetensors.index.json", "tokenizer*", "chat_template*",
]  # fmt: skip


def check_repository(repository: str) -> None:
    """Check a push as far as possible without contacting the Hub.

    Args:
        repository: NAME or OWNER/NAME.

    Raises:
        AutorankError: The name is invalid, there is no token, or HF_HUB_OFFLINE is set.
    """
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repository)
    except HFValidationError:
        raise AutorankError(
            f"--push-to-hub {repository!r} is not a valid repository name; expected NAME or OWNER/NAME."
        ) from None
    if constants.HF_HUB_OFFLINE:
        raise AutorankError("--push-to-hub needs network access, and HF_HUB_OFFLINE is set. Unset it.")
    if get_token() is None:
        raise AutorankError(
            "--push-to-hub needs a token with write access. Set HF_TOKEN (see Settings, Access Tokens on the Hub), or "
            "run `hf auth login`."
        )


def remove_local_paths(folder: Path, train: TrainSpec, origin: Origin) -> None:
    """Replace paths of this machine in an export by the last part of the path, or by the Hub's name of the model.

    Args:
        folder: The written export; changed in place.
        train: How the adapter was trained.
        origin: The base model.
    """
    files = [Path(value) for value in train.settings.values() if isinstance(value, str) and Path(value).is_absolute()]
    metric_file = (train.task.metric or "").rpartition(":")[0]
    files += [Path(file) for file in (train.task.data, metric_file) if file and Path(file).is_absolute()]
    names = {str(file): file.name for file in files}
    if Path(origin.model).is_dir():
        names[origin.model] = public_name(origin.model) or Path(origin.model).name
        if (adapter := folder / FILE).exists():
            rename_base(adapter, names[origin.model])
    for file in (folder / "README.md", *folder.glob("*.json")):
        if file.exists():
            content = file.read_text(encoding="utf-8")
            for path in sorted(names, key=len, reverse=True):  # a path may be inside another
                for quote in (shlex.quote, lambda name: json.dumps(name)[1:-1], str):
                    content = content.replace(quote(path), quote(names[path]))
            file.write_text(content, encoding="utf-8")


def push(folder: Path, repository: str, message: str) -> str:
    """Upload a directory to the branch `main`.

    A new repository is private; publishing it is a separate decision. Files of an earlier push in another form are
    deleted.

    Args:
        folder: The directory to upload.
        repository: NAME or OWNER/NAME.
        message: The commit message.

    Returns:
        The repository's address.

    Raises:
        AutorankError: The Hub cannot be reached, rejects the token, or refuses the push.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    hub = HfApi()
    try:
        created = hub.create_repo(repository, private=True, exist_ok=True)
        hub.upload_folder(
            repo_id=created.repo_id, folder_path=folder, commit_message=message, delete_patterns=_FORM_FILES
        )
    except HfHubHTTPError as error:
        raise AutorankError(_refusal(repository, error)) from error
    except Exception as error:  # the classes depend on the HTTP client of huggingface_hub
        if not {cls.__name__ for cls in type(error).__mro__} & UNREACHABLE:
            raise
        raise AutorankError(
            f"Cannot reach the Hugging Face Hub ({hub.endpoint}). Nothing was pushed to {repository}, and nothing else "
            "was written. Check the connection and run the command again; --to DIR alone needs no Hub."
        ) from error
    return str(created)


def _refusal(repository: str, error: Exception) -> str:
    """The error message for an HTTP status of the Hub."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if status == 401:
        return (
            f"The Hub rejects the token; nothing was pushed to {repository}. Set HF_TOKEN to a valid token, or run "
            "`hf auth login`."
        )
    if status == 403:
        return (
            f"The token has no write access to {repository}. Use a token with the role `write` whose owner is a member "
            "of the organization, or choose another --push-to-hub."
        )
    message = getattr(error, "server_message", None) or str(error).strip().partition("\n")[0]
    return f"The Hub refused {repository}: {message}. Try again later, or choose another --push-to-hub."

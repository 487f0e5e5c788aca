"""A base model in a folder without a copy of its weights, for loaders that cannot be told of a head.

`mlflow.transformers` loads the base that an adapter refers to as it is: a head of another width does not fit, and the
classes have no names. So the folder has the base's config with the head's width and the classes' names, and links to
the base's weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autorank.errors import AutorankError
from autorank.export import peft_export
from autorank.modeling import base_model
from autorank.modeling.adapter_file import Origin
from autorank.modeling.greedy_decoding import greedy

_WEIGHTS = (".safetensors", ".bin")


def reference(origin: Origin, folder: Path) -> Path:
    """A base model in `folder` without a copy of it: links to its weights, and a config with this head.

    Raises:
        AutorankError: the base's weights are not on this machine.
    """
    from transformers import AutoConfig
    from transformers.utils.hub import cached_file

    there = Path(str(cached_file(origin.model, "config.json"))).absolute().parent
    weights = [file for file in there.iterdir() if file.suffix in _WEIGHTS or file.name.endswith(".index.json")]
    if not weights:
        raise AutorankError(
            f"The weights of {origin.model!r} are not in {there}. Search with --model DIR, or use --merge."
        )
    head: dict[str, Any] = {"num_labels": origin.outputs} if origin.outputs else {}
    config = AutoConfig.from_pretrained(origin.model, trust_remote_code=False, **head)
    peft_export.tell(config, origin)
    config.architectures = [base_model.auto_class(origin.kind, config)._model_mapping[type(config)].__name__]
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    if not origin.outputs:
        words = peft_export.tokenizer(origin, None)
        greedy(words.eos_token_id, origin.pad_id, None).save_pretrained(folder)
    for file in weights:
        link = folder / file.name
        link.unlink(missing_ok=True)
        link.symlink_to(file.resolve())
    return folder

"""Options from a YAML file (`--config`), and a search's whole spec written as one."""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from autorank.errors import AutorankError, similar
from autorank.options.parsing import expand, metric_file, parse_count, parse_seconds

if TYPE_CHECKING:
    from autorank.searching.space.yaml_values import Yaml
    from autorank.spec import MethodSpec, SearchSpec

FILES = ("data", "figure", "recipe", "runs", "space", "to")  # options that are paths
BLOCKS = ("space", "set")  # options that may be a mapping
COLUMNS = ("label", "prompt", "text")  # options that name columns
LISTS = (*COLUMNS, "method", "rows")  # options that may be a list
NULL = "tag:yaml.org,2002:null"
CHECKS: dict[str, Callable[[Any], object]] = {
    "max_memory": partial(parse_count, option="--max-memory"), "max_params": parse_count, "time_budget": parse_seconds,
}  # fmt: skip


def read(ctx: typer.Context, file: Path | None) -> Path | None:
    """Make the values of a file the command's defaults; the eager callback of `--config`.

    Values are checked by the code that checks the command line's.

    Args:
        ctx: The command's context, whose `default_map` is set.
        file: The YAML file, or None.

    Returns:
        The file.

    Raises:
        AutorankError: The file cannot be read, or lists all options that are unknown or invalid.
    """
    if file is None or ctx.resilient_parsing:
        return file
    options = {option.name: option for option in ctx.command.params if option.name not in ("config", "help")}
    values, mistakes = {}, []
    for name, value in _load(file).items():
        if name not in options:
            hint = f"; did you mean {near!r}?" if (near := similar(name, options)) else ""
            mistakes.append(f"{name}: `autorank {ctx.info_name}` has no such option{hint}")
        elif value is not None:
            try:
                values[name] = _as_text(name, value, file.parent)
                if not isinstance(values[name], dict):
                    options[name].process_value(ctx, values[name])
                if name in CHECKS:
                    CHECKS[name](values[name])
            except (AutorankError, typer.BadParameter, ValueError) as error:
                mistakes.append(f"{name}: {getattr(error, 'message', error)}")
    if mistakes:
        raise AutorankError(f"The options in {file} are not valid:\n" + "\n".join(f"  {line}" for line in mistakes))
    method = values.get("method", "")
    for block in BLOCKS:
        if block in values:
            values[block] = _with_paths(values[block], method, file.parent)
    if "set" in values:
        values["set"] = [f"{name}={json.dumps(value, default=str)}" for name, value in values["set"].items()]
    ctx.default_map = {**(ctx.default_map or {}), **values}
    return file


@dataclass(frozen=True)
class FileOptions:
    """The option `--config`."""

    config: Annotated[
        Path | None,
        typer.Option(
            help="YAML file of options; options on the command line take precedence.",
            is_eager=True,
            callback=read,
            parser=expand,
            metavar="FILE",
        ),
    ] = None


def merge_settings(ctx: typer.Context, settings: list[str] | None) -> list[str] | None:
    """Put the file's settings before those of the command line, which take precedence; the callback of `--set`.

    Args:
        ctx: The command's context.
        settings: `KEY=VALUE` texts of the command line, or the file's if the command line has none.

    Returns:
        The texts of the file, then those of the command line.
    """
    from_file = (ctx.default_map or {}).get("set") or []
    source = ctx.get_parameter_source("set")
    return [*from_file, *(settings or [])] if source is not None and source.name == "COMMANDLINE" else settings


def parse_space(value: Any) -> Any:
    """Return the path of a space's file, or the space itself if a file of options contains it; parser of `--space`."""
    return value if isinstance(value, Mapping) else expand(value)


def as_yaml(spec: SearchSpec, budget: Mapping[str, int]) -> str:
    """Return the file of options that makes an equal search.

    Args:
        spec: The search.
        budget: Number of `trials` and of `confirm` seeds, as in the journal.

    Returns:
        The file's content.

    Raises:
        AutorankError: The search was made in Python and no options make an equal one.
    """
    from autorank.searching.space.yaml_values import Yaml

    class Dumper(yaml.SafeDumper):
        """Quotes texts that would be read back as numbers."""

        yaml_implicit_resolvers = Yaml.yaml_implicit_resolvers

    return yaml.dump(_options(spec, budget), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=110)


def _options(spec: SearchSpec, budget: Mapping[str, int]) -> dict[str, Any]:
    from autorank.tasks.own_metric import PICKLE

    task, objectives, halving = spec.task, spec.objectives, spec.halving
    rates = {json.dumps(entry.settings.get("learning_rate")) for entry in spec.methods}
    if spec.seed != spec.training.seed or len(rates) > 1:
        raise AutorankError(
            f"The search {spec.name!r} was made in Python with several seeds or learning rates, which options cannot "
            "express. Use its spec in Python: autorank.open_search(NAME).spec."
        )
    if (task.metric_source or "").startswith(PICKLE):
        raise AutorankError(
            f"The score of {spec.name!r} is a Python function, {task.metric}, which options cannot express. Write it "
            'to a file and use metric="FILE.py:FUNCTION".'
        )
    values: dict[str, Any] = {
        "method": ",".join(entry.method for entry in spec.methods),
        "name": spec.name,
        "model": spec.model,
        "trials": budget.get("trials"),
        "confirm_seeds": budget.get("confirm"),
    }
    values |= task.options() | spec.training.model_dump()
    values |= {"baseline": spec.baseline is not None, "sampler": spec.sampler}
    earlier = dict.fromkeys(trial.search for trial in spec.warm_start if not trial.from_catalogue)
    values["warm_start"] = ",".join(earlier) or None
    values["catalogue"] = spec.catalogue
    values |= objectives.model_dump(exclude={"third_objective"}) | {"objective": objectives.third_objective}
    if halving is None:
        values["scheduler"] = "none"
    else:
        values |= {"grace": halving.grace, "reduction_factor": halving.factor}
    if (rate := spec.methods[0].settings.get("learning_rate")) is not None:
        values["set"] = {"learning_rate": rate}  # the one setting that no space may fix
    values["space"] = {entry.method: _space(entry) for entry in spec.entries}
    return {name: _names(value) for name, value in values.items() if value not in (None, ())}


def _names(value: Any) -> Any:
    """Names of columns as a text `A,B`; as a list if a name has a comma."""
    return ",".join(value) if isinstance(value, list) and "," not in "".join(value) else value


def _space(entry: MethodSpec) -> dict[str, Any]:
    return entry.space | {name: value for name, value in entry.settings.items() if name != "learning_rate"}


def _load(file: Path) -> dict[str, Any]:
    """Option -> its value: texts as written in the file, `trials: +20` and `seed: 010` included; blocks as dicts."""
    from autorank.searching.space.yaml_values import Yaml, yaml_errors

    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AutorankError(f"--config {file} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    with yaml_errors(f"--config {file}"):
        loader = Yaml(text)
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise AutorankError(f"--config {file} must map options to values, as in `task: mrpc`.")
        loader.flatten_mapping(node)
        return {str(key.value): _value(loader, str(key.value), value) for key, value in node.value}


def _value(loader: Yaml, name: str, node: yaml.Node) -> Any:
    if name not in BLOCKS and isinstance(node, yaml.ScalarNode):
        return None if node.tag == NULL else node.value
    if name not in BLOCKS and isinstance(node, yaml.SequenceNode):
        return [_value(loader, name, item) for item in node.value]
    return loader.construct_object(node, deep=True)


def _as_text(name: str, value: Any, directory: Path) -> Any:
    """A value as the command line takes it: a text; a block stays a dict. Paths are relative to the directory."""
    from autorank.tasks.reading.location import is_path

    if name in BLOCKS and isinstance(value, dict):
        return value
    if name == "set":
        raise ValueError("write set: {KEY: VALUE}")
    if name == "space" and not isinstance(value, str):
        raise ValueError("expected a file, or ranges as in {rank: {type: int, low: 1, high: 16}} "
                         f"(got {reprlib.repr(value)})")  # fmt: skip
    if name in LISTS and isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = ",".join(item.replace(",", r"\,") if name in COLUMNS else item for item in value)
    if isinstance(value, dict | list):
        raise ValueError("expected one value")
    is_file = name in FILES and (name != "data" or os.path.exists(directory / expand(value)) or is_path(str(value)))
    is_file |= name == "metric" and metric_file(value) is not None
    if is_file or (name == "model" and os.path.isdir(directory / expand(value))):
        return str(directory / expand(value))
    return str(value)


def _with_paths(block: Any, method: str, directory: Path) -> Any:
    """A block of settings, those that are paths relative to the directory made absolute."""
    from autorank.methods import absolute_paths, names

    if not isinstance(block, dict):
        return block
    available = names()
    if any(name in available for name in block):
        return {
            name: str(directory / expand(part)) if isinstance(part, str) else _with_paths(part, name, directory)
            for name, part in block.items()
        }
    for name in (name.strip() for name in method.split(",")):
        if name in available:
            block = absolute_paths(name, block, directory)
    return block

"""Options from a YAML file (`--config`), and a search's whole spec written as one."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from autorank.errors import AutorankError
from autorank.options import parse_count, place, seconds

if TYPE_CHECKING:
    from autorank.spec import MethodSpec, SearchSpec

FILES = ("data", "recipe", "runs", "space", "to")  # options that name a file or a folder
BLOCKS = ("space", "set")  # options that may be a mapping
LISTS = ("method", "rows", "text")  # options that may be a list
CHECKS: dict[str, Callable[[Any], object]] = {
    "max_memory": partial(parse_count, option="--max-memory"), "max_params": parse_count, "time_budget": seconds,
}  # fmt: skip


def read(ctx: typer.Context, file: Path | None) -> Path | None:
    """The eager callback of `--config`: the file's values become the command's defaults.

    Each is checked by the code that checks the command line's.

    Raises:
        AutorankError: a file that cannot be read, or options that are unknown or refused; all of them at once.
    """
    if file is None or ctx.resilient_parsing:
        return file
    options = {option.name: option for option in ctx.command.params if option.name not in ("config", "help")}
    values, mistakes = {}, []
    for name, value in _load(file).items():
        if name not in options:
            mistakes.append(f"{name}: `autorank {ctx.info_name}` has no such option{_hint(str(name), options)}")
        elif value is not None:
            try:
                flag = isinstance(value, bool) and getattr(options[name], "is_flag", False)
                values[name] = value if flag else _given(name, value, file.parent)
                if not isinstance(values[name], dict):
                    options[name].process_value(ctx, values[name])
                if name in CHECKS:
                    CHECKS[name](values[name])
            except (AutorankError, typer.BadParameter, ValueError) as error:
                mistakes.append(f"{name}: {getattr(error, 'message', error)}")
    if mistakes:
        raise AutorankError(f"The options in {file} are not valid:\n" + "\n".join(f"  {each}" for each in mistakes))
    method = values.get("method", "")
    for block in BLOCKS:
        if block in values:
            values[block] = _beside(values[block], method, file.parent)
    if "set" in values:
        values["set"] = [f"{name}={json.dumps(value, default=str)}" for name, value in values["set"].items()]
    ctx.default_map = {**(ctx.default_map or {}), **values}
    return file


@dataclass(frozen=True)
class FileOptions:
    """The option of a file of options."""

    config: Annotated[
        Path | None,
        typer.Option(
            help="YAML with these options; those of the command line count more.",
            is_eager=True,
            callback=read,
            parser=place,
            metavar="FILE",
        ),
    ] = None


def merged(ctx: typer.Context, given: list[str] | None) -> list[str] | None:
    """The callback of `--set`: what the command line fixes comes after what the file does, so that it counts."""
    beneath = (ctx.default_map or {}).get("set") or []
    source = ctx.get_parameter_source("set")
    return [*beneath, *(given or [])] if source is not None and source.name == "COMMANDLINE" else given


def space(value: Any) -> Any:
    """The parser of `--space`: a file, or from a file of options the space itself."""
    return value if isinstance(value, Mapping) else place(value)


def as_yaml(spec: SearchSpec, wanted: Mapping[str, int]) -> str:
    """The file of options that makes an equal search. `wanted`: `trials` and `confirm`, as the journal has them.

    Raises:
        AutorankError: no command line makes such a search; it was made in Python.
    """
    from autorank.searching.space.space import Yaml

    class Dumper(yaml.SafeDumper):
        """Quotes texts that would be read back as numbers."""

        yaml_implicit_resolvers = Yaml.yaml_implicit_resolvers

    return yaml.dump(_options(spec, wanted), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=110)


def _options(spec: SearchSpec, wanted: Mapping[str, int]) -> dict[str, Any]:
    task, objectives, halving = spec.task, spec.objectives, spec.halving
    rates = {json.dumps(entry.settings.get("learning_rate")) for entry in spec.methods}
    if spec.seed != spec.training.seed or len(rates) > 1:
        raise AutorankError(
            f"The search {spec.name!r} was made in Python: its seeds or fixed learning rates differ, which options "
            "cannot say."
        )
    values: dict[str, Any] = {
        "method": ",".join(entry.method for entry in spec.methods),
        "name": spec.name,
        "task": task.name,
        "data": None if task.data is None else str(task.data),
        "text": ",".join(task.text) or None,
        "model": spec.model,
        "trials": wanted.get("trials"),
        "confirm_seeds": wanted.get("confirm"),
    }
    values |= task.model_dump(exclude={"name", "data", "text", "final"})
    values |= spec.training.model_dump()
    values |= {"control": spec.control is not None, "sampler": spec.sampler}
    values |= objectives.model_dump(exclude={"third"}) | {"objective": objectives.third}
    if halving is None:
        values["scheduler"] = "none"
    else:
        values |= {"grace": halving.grace, "reduction_factor": halving.factor, "brackets": halving.brackets}
    if (rate := spec.methods[0].settings.get("learning_rate")) is not None:
        values["set"] = {"learning_rate": rate}  # the one setting that no space may fix
    values["space"] = {entry.method: _space(entry) for entry in spec.entries}
    return {name: value for name, value in values.items() if value is not None}


def _space(entry: MethodSpec) -> dict[str, Any]:
    return entry.space | {name: value for name, value in entry.settings.items() if name != "learning_rate"}


def _load(file: Path) -> dict[str, Any]:
    from autorank.searching.space.space import Yaml

    try:
        values = yaml.load(file.read_text(encoding="utf-8"), Yaml)
    except (OSError, UnicodeDecodeError) as error:
        raise AutorankError(f"--config {file} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    except yaml.YAMLError as error:
        raise AutorankError(f"--config {file} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise AutorankError(f"--config {file} must map options to values, as in `task: mrpc`.")
    return values


def _given(name: str, value: Any, folder: Path) -> Any:
    """A value as the command line would have it: a text, but for what no command line can say."""
    if name in BLOCKS and isinstance(value, dict):
        return value
    if name == "set":
        raise ValueError("write set: {KEY: VALUE}")
    if name in LISTS and isinstance(value, list) and not any(isinstance(each, dict | list) for each in value):
        value = ",".join(map(str, value))  # the methods, the text columns
    if isinstance(value, dict | list):
        raise ValueError("one value is expected")
    if name in FILES or (name == "model" and (folder / place(str(value))).is_dir()):
        return str(folder / place(str(value)))
    return str(value)


def _beside(block: Any, method: str, folder: Path) -> Any:
    """A block whose settings that name files name them from `folder`."""
    from autorank.methods import find, names

    if not isinstance(block, dict):
        return block
    known = names()
    if any(name in known for name in block):
        return {name: _beside(each, name, folder) for name, each in block.items()}
    fields = [find(name.strip()).Config.model_fields for name in method.split(",") if name.strip() in known]
    paths = {name for each in fields for name, field in each.items() if "Path" in str(field.annotation)}
    return {
        name: str(folder / place(value)) if name in paths and isinstance(value, str) else value
        for name, value in block.items()
    }


def _hint(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""

"""What a person sees of a search: before it, while it works, and at its end."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from autorank.results.front import Point, front
from autorank.results.records import TrialRecord
from autorank.results.report import count, duration, front_summary, front_table, settings
from autorank.search import resources
from autorank.search.estimate import estimate
from autorank.search.run import Outcome
from autorank.search.searcher import ended
from autorank.spec import SearchSpec

Progress = Callable[[list[TrialRecord]], None]
ROWS = 6  # of the front, in the live table


@contextmanager
def live(console: Console, spec: SearchSpec, trials: int, budget: float | None) -> Iterator[Progress]:
    """A progress callback for a search: one table that keeps up in a terminal, a line a finished trial elsewhere."""
    board = Board(spec, trials, budget)
    if not console.is_terminal:
        console.print(board.title())
        yield LinePrinter(console, spec, trials)
        return
    with Live(board.render([]), console=console, refresh_per_second=4, transient=True) as shown:
        yield lambda records: shown.update(board.render(records))


class Board:
    """The live table."""

    def __init__(self, spec: SearchSpec, trials: int, budget: float | None) -> None:
        self._spec, self._trials, self._budget = spec, trials, budget
        self._started = time.monotonic()

    def title(self) -> Text:
        train = self._spec.train
        return Text.assemble((self._spec.name, "bold"), f"  {train.method} on {train.task.name}")

    def render(self, records: list[TrialRecord]) -> RenderableType:
        """Title, counts, running trials and the front so far."""
        points = front(records)
        rows: list[RenderableType] = [self.title(), self._counts(records, points)]
        running = [trial for trial in records if trial.state == "running"]
        for trial in running:
            last = f"epoch {trial.evaluations[-1].epoch:.1f}, score {trial.evaluations[-1].score:.4f}" if (
                trial.evaluations
            ) else "starting" if not ended(records) else "training"  # fmt: skip
            about = settings({name: trial.config[name] for name in self._spec.space if name in trial.config})
            rows.append(
                Text(
                    f"  trial {trial.number}: {last}  ({about})",
                    style="dim",
                    overflow="ellipsis",
                    no_wrap=True,
                )
            )
        if points:
            rows += [Text(), front_table(_some(points), list(self._spec.space))]
        return Group(*rows)

    def _counts(self, records: list[TrialRecord], points: Sequence[Point]) -> Text:
        states = Counter(trial.state for trial in ended(records))
        parts = [f"{len(ended(records))}/{self._trials} trials"]
        parts += [f"{states[state]} {state}" for state in ("pruned", "failed") if states[state]]
        if points:
            parts.append(f"best {max(point.score for point in points):.4f}")
        parts.append(f"{duration(time.monotonic() - self._started)} so far")
        if (left := self._left(records)) is not None:
            parts.append(f"about {duration(left)} left")
        return Text(", ".join(parts))

    def _left(self, records: list[TrialRecord]) -> float | None:
        """Seconds: what remains of the trials at the pace of those that ended since the start, or of the budget."""
        passed = time.monotonic() - self._started
        recent = [t for t in ended(records) if t.started and t.started + t.seconds > time.time() - passed]
        guesses = [] if self._budget is None else [max(0.0, self._budget - passed)]
        if recent:
            guesses.append((self._trials - len(ended(records))) * passed / len(recent))
        return max(0.0, min(guesses)) if guesses else None


class LinePrinter:
    """A line for each trial that ended."""

    def __init__(self, console: Console, spec: SearchSpec, trials: int) -> None:
        self._console, self._spec, self._trials = console, spec, trials
        self._told: set[int] = set()

    def __call__(self, records: list[TrialRecord]) -> None:
        done = ended(records)
        for trial in done:
            if trial.number not in self._told:
                self._told.add(trial.number)
                place = f"[{len(self._told)}/{self._trials}]"
                self._console.print(
                    f"{place} trial {trial.number} {self._about(trial)}", markup=False, soft_wrap=True
                )

    def _about(self, trial: TrialRecord) -> str:
        about = settings({name: trial.config[name] for name in self._spec.space if name in trial.config})
        finite = [e for e in trial.evaluations if math.isfinite(e.score)]
        best = max(finite, key=lambda e: e.score, default=None)
        result = f"{count(best.adapter_params)} parameters, score {best.score:.4f}" if best else "no score"
        why = f" ({trial.reason})" if trial.reason else ""
        return f"{trial.state}{why}: {result}  {about}"


def finish(
    console: Console, spec: SearchSpec, outcome: Outcome, reference: tuple[float, float], places: str
) -> None:
    """The end of a search: its front, what went wrong, and what to type next (`places`: options to find it all)."""
    points = front(outcome.trials)
    name = spec.name
    console.print(front_summary(outcome.trials, points, reference, list(spec.space)))
    notes = {"interrupted": "Interrupted; nothing that ended is lost.", "time budget": "The time budget is used up."}
    if note := notes.get(outcome.ending):
        console.print(f"\n{note} Go on: autorank resume {name}{places}", markup=False, soft_wrap=True)
    if not outcome.tracked:
        console.print(f"\nMLflow could not be reached; catch up: autorank sync {name}{places}", style="yellow")
    if points:
        knee = next(point for point in points if point.knee)
        runs = places.partition(" --tracking-uri")[0]
        lines = [
            f"autorank export {name} --knee --to {name}-adapter{runs}   "
            f"# {count(knee.adapter_params)} parameters, score {knee.score:.4f}",
            f"autorank front {name} --format json{runs}",
            f"autorank ui{places}",
        ]
        console.print("\nNext:\n  " + "\n  ".join(lines), markup=False, soft_wrap=True)


def warn(message: str) -> None:
    """Something that the user should know, but that stops nothing."""
    Console(stderr=True, highlight=False).print(f"autorank: {message}", style="yellow", markup=False, soft_wrap=True)


def dry_run(
    spec: SearchSpec, trials: int, concurrency: int | None, gpus_per_trial: float | None
) -> RenderableType:
    """What `--dry-run` prints: the space, its exact parameter range, the resources, an estimate of the time."""
    each = resources.share(resources.local(), concurrency, gpus_per_trial)
    cost = estimate(spec, trials, each)
    space = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("setting", "values"):
        space.add_column(column)
    for name, entry in spec.space.items():
        space.add_row(name, _range(entry))
    for name, value in spec.train.settings.items():
        space.add_row(Text(name, style="dim"), Text(str(value), style="dim"))
    low, high = cost.params
    return Group(
        Text.assemble((spec.name, "bold"), f"  {spec.train.method} on {spec.train.task.name}, nothing is run\n"),
        space,
        Text(f"\nadapter parameters  {low:,} to {high:,}\n"
             f"resources           {each}\n"
             f"a trial             {cost.steps:,} steps, about {duration(cost.seconds_per_trial)} "
             f"({1e3 * cost.seconds_per_step:.0f} ms a step at the largest adapter)\n"
             f"{trials} trials".ljust(21) + f"about {duration(cost.seconds)} at the most, Ray's start not counted"),
    )  # fmt: skip


def _range(entry: Mapping[str, Any]) -> str:
    if "choices" in entry:
        return ", ".join(map(str, entry["choices"]))
    how = [word for word in ("log",) if entry.get(word)] + ([f"step {entry['step']}"] if "step" in entry else [])
    return f"{entry['low']} to {entry['high']}" + (f" ({', '.join(how)})" if how else "")


def _some(points: Sequence[Point]) -> list[Point]:
    """At most ROWS points, evenly spread, both ends and the knee among them."""
    if len(points) <= ROWS:
        return list(points)
    chosen = {round(i * (len(points) - 1) / (ROWS - 2)) for i in range(ROWS - 1)}
    chosen |= {i for i, point in enumerate(points) if point.knee}
    return [points[i] for i in sorted(chosen)]

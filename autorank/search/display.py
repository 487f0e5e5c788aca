"""What a person sees of a search: before it, while it works, and at its end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from autorank.results.archive import Snapshot
from autorank.results.front import Point
from autorank.results.records import TrialRecord, best
from autorank.results.report import count, duration, front_summary, front_table, settings
from autorank.search import resources
from autorank.search.budget import TRIALS, Budget
from autorank.search.estimate import estimate
from autorank.search.run import Outcome
from autorank.search.searcher import ended
from autorank.search.sizes import Sizes
from autorank.search.watch import Progress
from autorank.spec import MethodSpec, SearchSpec

ROWS = 6  # of the front, in the live table


@contextmanager
def live(console: Console, spec: SearchSpec, budget: Budget) -> Iterator[Progress]:
    """A progress callback for a search: one table that keeps up in a terminal, a line a finished trial elsewhere."""
    board = Board(spec, budget)
    if not console.is_terminal:
        console.print(board.title())
        yield LinePrinter(console, spec)
        return
    with Live(board.render(Snapshot([], [], [])), console=console, refresh_per_second=4, transient=True) as shown:
        yield lambda snapshot: shown.update(board.render(snapshot))


class Board:
    """The live table."""

    def __init__(self, spec: SearchSpec, budget: Budget) -> None:
        self._spec, self._budget = spec, budget
        self._started = time.monotonic()

    def title(self) -> Text:
        return _title(self._spec)

    def render(self, snapshot: Snapshot) -> RenderableType:
        """Title, counts, running trials and the front so far."""
        rows: list[RenderableType] = [self.title(), self._counts(snapshot)]
        for trial in snapshot.trials:
            if trial.state == "running":
                last = f"epoch {trial.evaluations[-1].epoch:.1f}, score {trial.evaluations[-1].score:.4f}" if (
                    trial.evaluations
                ) else "training"  # fmt: skip
                line = f"  trial {trial.number}: {last}  ({_drawn(trial)})"
                rows.append(Text(line, style="dim", overflow="ellipsis", no_wrap=True))
        if snapshot.points:
            rows += [Text(), front_table(_some(snapshot.points), snapshot, _varied(self._spec))]
        return Group(*rows)

    def _counts(self, snapshot: Snapshot) -> Text:
        done = ended(snapshot.trials)
        states = Counter(trial.state for trial in done)
        parts = [f"{len(done)}/{snapshot.wanted} trials"]
        parts += [f"{states[state]} {state}" for state in ("pruned", "failed") if states[state]]
        if snapshot.points:
            parts.append(f"best {max(point.score for point in snapshot.points):.4f}")
        parts.append(f"{duration(time.monotonic() - self._started)} so far")
        if snapshot.confirmed:
            parts.append(f"{len(snapshot.confirmed)} confirmations")
        elif (left := self._left(done, snapshot.wanted)) is not None:
            parts.append(f"about {duration(left)} left")
        return Text(", ".join(parts))

    def _left(self, done: list[TrialRecord], wanted: int) -> float | None:
        """Seconds: what remains of the trials at the pace of those that ended since the start, or of the budget."""
        passed = time.monotonic() - self._started
        recent = [trial for trial in done if trial.ended > time.time() - passed]
        guesses = [] if self._budget.seconds is None else [max(0.0, self._budget.seconds - passed)]
        if recent:
            guesses.append((wanted - len(done)) * passed / len(recent))
        return max(0.0, min(guesses)) if guesses else None


class LinePrinter:
    """A line for each trial that ends from now on, and for each confirmation."""

    def __init__(self, console: Console, spec: SearchSpec) -> None:
        self._console, self._several = console, len(spec.entries) > 1
        self._started = time.time()
        self._told: set[int] = set()
        self._confirmed: set[tuple[int, int, int]] | None = None

    def __call__(self, snapshot: Snapshot) -> None:
        done = sorted(ended(snapshot.trials), key=lambda trial: trial.ended)
        for place, trial in enumerate(done, start=1):
            if trial.ended >= self._started and trial.number not in self._told:
                self._told.add(trial.number)
                self._line(f"[{place}/{snapshot.wanted}] trial {trial.number} {self._about(trial)}")
        if self._confirmed is None:
            self._confirmed = set(snapshot.confirmed)
        for key in snapshot.confirmed.keys() - self._confirmed:
            self._confirmed.add(key)
            result = snapshot.confirmed[key]
            came_to = f"score {result['score']:.4f}" if "score" in result else f"failed: {result['failed']}"
            self._line(f"trial {key[0]}, step {key[1]} again with seed {key[2]}: {came_to}")

    def _line(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def _about(self, trial: TrialRecord) -> str:
        top = best(trial.evaluations)
        result = f"{count(top.adapter_params)} parameters, score {top.score:.4f}" if top else "no score"
        why = f" ({trial.reason})" if trial.reason else ""
        method = f"{trial.method}, " if self._several else ""
        return f"{trial.state}{why}: {result}  {method}{_drawn(trial)}"


def finish(
    console: Console, spec: SearchSpec, outcome: Outcome, reference: tuple[float, float], places: str
) -> None:
    """The end of a search: its front, what went wrong, and what to type next (`places`: options to find it all)."""
    points, name = outcome.snapshot.points, spec.name
    console.print(front_summary(outcome.snapshot, reference, _varied(spec)))
    notes = {
        "interrupted": f"Interrupted; nothing is lost. Go on: autorank resume {name}{places}",
        "time budget": f"The time budget is used up. Go on: autorank resume {name}{places}",
        "exhausted": "Nothing new was found in the space: its settings have had their trials.",
    }
    if note := notes.get(outcome.ending):
        console.print(f"\n{note}", markup=False, soft_wrap=True)
    if outcome.unconfirmed:
        console.print(
            f"\n{outcome.unconfirmed} confirmations are missing. Go on: autorank resume {name}{places}", markup=False,
            soft_wrap=True,
        )  # fmt: skip
    if not outcome.tracked:
        console.print(f"\nMLflow could not be reached; catch up: autorank sync {name}{places}", style="yellow")
    if points:
        knee = next(point for point in points if point.knee)
        runs = places.partition(" --tracking-uri")[0]
        lines = [
            f"autorank export {name} --knee --to {name}-adapter{runs}   "
            f"# {count(knee.adapter_params)} parameters, score {knee.score:.4f}",
            f"autorank front {name} --format json{runs}",
            f"autorank report {name}{runs}",
            f"autorank ui{places}",
        ]
        console.print("\nNext:\n  " + "\n  ".join(lines), markup=False, soft_wrap=True)


def _title(spec: SearchSpec, note: str = "") -> Text:
    methods = ", ".join(entry.method for entry in spec.methods)
    return Text.assemble((spec.name, "bold"), f"  {methods} on {spec.task.name}{note}")


def _drawn(trial: TrialRecord) -> str:
    return settings({name: trial.config[name] for name in trial.drawn if name in trial.config})


def _varied(spec: SearchSpec) -> list[str]:
    """The settings that are searched, of any method."""
    return list(dict.fromkeys(name for entry in spec.methods for name in entry.space))


def warn(message: str) -> None:
    """Something that the user should know, but that stops nothing."""
    Console(stderr=True, highlight=False).print(f"autorank: {message}", style="yellow", markup=False, soft_wrap=True)


def dry_run(spec: SearchSpec, budget: Budget) -> RenderableType:
    """What `--dry-run` prints: the spaces, their exact parameter range, the resources, an estimate of the time."""
    each = budget.share(resources.local())
    trials = budget.trials or TRIALS
    cost = estimate(spec, trials, each, Sizes(spec.task, spec.model))
    rows: list[RenderableType] = [_title(spec, ", nothing is run")]
    for entry in spec.entries:
        role = "  the control: plain LoRA, tuned alike" if entry is spec.control else ""
        rows += [Text.assemble("\n", (entry.method, "bold"), role), _space_table(entry)]
    low, high = cost.params
    rows.append(
        Text(f"\nadapter parameters  {low:,} to {high:,}\n"
             f"resources           {each}\n"
             f"a trial             {cost.steps:,} steps, about {duration(cost.seconds_per_trial)} "
             f"({1e3 * cost.seconds_per_step:.0f} ms a step at the largest adapter)\n"
             + f"{trials} trials".ljust(20) + f"about {duration(cost.seconds)} at the most"
             + (", and Ray's start" if spec.halving is None else ", and Ray's start; most are stopped early")),
    )  # fmt: skip
    return Group(*rows)


def _space_table(entry: MethodSpec) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("setting", "values"):
        table.add_column(column)
    for name, each in entry.space.items():
        table.add_row(name, _range(each))
    for name, value in entry.settings.items():
        table.add_row(Text(name, style="dim"), Text(str(value), style="dim"))
    return table


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

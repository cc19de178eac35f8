"""The demo on a terminal: live with rich, or plain lines where there is no terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from rich.columns import Columns
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

import demo_tide
from demo_state import State

if TYPE_CHECKING:
    from rich.console import RenderableType

    from demo_record import Record, Run
    from demo_verdict import Verdict

TIDE_ROWS = 4
# Lines that everything but the list of runs takes.
OTHER_LINES = 19
SPAN_S = 36.0


class Screen(Protocol):
    """Shows the record; `show` is called several times a second, `close` once."""

    def show(self, record: Record, state: State) -> None:
        """Show how things are now."""

    def close(self, record: Record) -> None:
        """Show the end and give the terminal back."""


class LiveScreen:
    """One picture that is drawn anew."""

    def __init__(self, console: Console, places: str) -> None:
        self._console = console
        self._places = places
        self._state = State()
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="crop")
        self._live.start()

    def show(self, record: Record, state: State) -> None:
        """Draw the picture."""
        self._state = state
        self._live.update(self._picture(record), refresh=True)

    def close(self, record: Record) -> None:
        """Draw it once more and leave it standing."""
        self.show(record, self._state)
        self._live.stop()

    def _picture(self, record: Record) -> RenderableType:
        half = (self._console.width - 1) // 2
        room = max(4, self._console.height - OTHER_LINES)
        figures = Columns(
            [changes_panel(record, half), state_panel(record, self._state, half)],
            padding=(0, 1, 0, 0),
        )
        title = Text.assemble((" Tidemark ", "bold reverse cyan"), "  ", (self._places, "dim"))
        return Group(
            title,
            Text(caption(record, self._state), "italic"),
            figures,
            tide_panel(record, self._console.width),
            runs_table(record, room),
        )


class PlainScreen:
    """A line for each run that ended, and one every few seconds."""

    EVERY_S = 2.0

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told_runs = 0
        self._told_at_s = 0.0

    def show(self, record: Record, state: State) -> None:
        """Print what is new."""
        for run in record.runs[self._told_runs :]:
            if run.ended_s is None:
                break
            self._told_runs += 1
            self._print(record, f"run {run.number:>2}  {run.delivered:>5} changes  {run.ending}")
        if record.now_s() - self._told_at_s >= self.EVERY_S:
            self._told_at_s = record.now_s()
            self._print(record, self._progress(record, state))

    def close(self, record: Record) -> None:
        """Print what is new, one last time."""
        self.show(record, State())

    def _print(self, record: Record, words: str) -> None:
        self._console.print(f"{record.now_s():5.1f} s  {words}", highlight=False, soft_wrap=True)

    def _progress(self, record: Record, state: State) -> str:
        lease = f"held by {state.owner}" if state.held else "free"
        return (
            f"written {len(record.writes):>5}  delivered {record.distinct:>5}"
            f"  waiting {record.waiting:>4}  lag {record.lag_s():.1f} s"
            f"  lease {lease}  fencing token {state.fencing_token}  {state.position}"
        )


def choose(console: Console, places: str) -> Screen:
    """The live picture on a terminal; plain lines elsewhere."""
    if console.is_terminal:
        return LiveScreen(console, places)
    console.print(f"Tidemark: {places}", highlight=False, soft_wrap=True)
    return PlainScreen(console)


def caption(record: Record, state: State) -> str:
    """What is happening just now, in a sentence."""
    if not record.writes:
        return "The first run stores where the stream begins; then the writing starts."
    if state.held and not _under_way(record):
        return "Killed. Until its lease expires nobody reads: one reader, one order."
    if record.writing:
        return "A run delivers and stores its position; a kill can come at any moment."
    return "All is delivered." if not record.waiting else "The writing is over; the rest arrives."


def changes_panel(record: Record, width: int) -> Panel:
    """How much was written, and how much of it has arrived."""
    waiting, lag_s = record.waiting, record.lag_s()
    grid = _figures()
    grid.add_row("written", f"{len(record.writes):,}", _mark(on=record.writing, word="writing"))
    grid.add_row("delivered", Text(f"{record.distinct:,}", "green"), "")
    again = len(record.deliveries) - record.distinct
    grid.add_row("again", f"{again:,}", "same change id")
    grid.add_row("waiting", Text(f"{waiting:,}", "yellow" if waiting else "green"), "")
    grid.add_row("lag", Text(f"{lag_s:.1f} s", "yellow" if lag_s > 1 else "green"), "")
    grid.add_row("kills", Text(str(record.kills), "bold red" if record.kills else ""), "SIGKILL")
    return Panel(grid, title="changes", title_align="left", border_style="cyan", width=width)


def state_panel(record: Record, state: State, width: int) -> Panel:
    """What the table says."""
    grid = _figures()
    orphan = state.held and not _under_way(record)
    lease = Text(f"held by {state.owner}", "red" if orphan else "green")
    grid.add_row("lease", lease if state.held else "free")
    grid.add_row("its run", Text("was killed", "red") if orphan else "")
    grid.add_row("expires in", f"{state.expires_in_s:.1f} s" if state.held else "")
    grid.add_row("fencing token", str(state.fencing_token))
    grid.add_row("position", state.position)
    age = state.checkpoint_age_s
    grid.add_row("checkpoint", "" if age is None else f"{age:.1f} s ago")
    return Panel(
        grid, title="state, in DynamoDB", title_align="left", border_style="cyan", width=width
    )


def tide_panel(record: Record, width: int) -> Panel:
    """Waiting changes over time, with the kills on the shore."""
    inner = width - 4
    samples = demo_tide.columns(record.samples, inner, SPAN_S)
    top = max([1, *(sample.waiting for sample in samples if sample)])
    heights = [sample.waiting / top if sample else 0.0 for sample in samples]
    shore = Text()
    for sample in samples:
        shore.append("✖" if sample and sample.killed else "─", _shore_style(sample))
    water = Text("\n".join(demo_tide.rows(heights, TIDE_ROWS)), "blue")
    title = f"waiting changes, at most {top:,}    [red]✖[/red] SIGKILL"
    return Panel(Group(water, shore), title=title, title_align="left", border_style="blue")


def runs_table(record: Record, room: int) -> Table:
    """The latest runs, the newest last."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for name in ("run", "container", "at", "took", "delivered"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("why it stopped", no_wrap=True)
    for run in record.runs[-room:]:
        table.add_row(*_run_cells(record, run), style=_run_style(run))
    return table


def verdict_panel(verdict: Verdict, troubles: list[str]) -> Panel:
    """The counts, and whether the promises were kept."""
    words, style = _words(verdict, troubles)
    grid = _figures()
    for name, count, remark in _verdict_rows(verdict):
        grid.add_row(name, f"{count:,}", remark)
    grid.add_row("", "", "")
    lines = [Text(trouble, "red") for trouble in troubles]
    return Panel(Group(grid, *lines, Text(words, style)), title="verdict", border_style=style)


def _words(verdict: Verdict, troubles: list[str]) -> tuple[str, str]:
    if troubles:
        return "The demo could not be played to its end.", "bold red"
    if verdict.kept:
        return "No change lost, none out of order.", "bold green"
    if verdict.broken:
        return "A promise was broken.", "bold red"
    return "Nothing was broken, but it was not put to the test.", "bold red"


def _verdict_rows(verdict: Verdict) -> list[tuple[str, int, str]]:
    return [
        ("written", verdict.written, "acknowledged by the server"),
        ("delivered", verdict.delivered, "calls of deliver() that got as far as this change"),
        ("distinct", verdict.distinct, "writes that were delivered at least once"),
        ("duplicates", verdict.duplicates, "again after a kill, with the same change id"),
        ("lost", verdict.lost, "must be 0"),
        ("out of order", verdict.out_of_order, "must be 0"),
        ("never written", verdict.never_written, "must be 0"),
        ("ambiguous ids", verdict.ambiguous, "must be 0"),
        ("kills", verdict.kills, "runs ended by SIGKILL, at least 2"),
    ]


def _figures() -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(style="dim", no_wrap=True)
    return grid


def _mark(*, on: bool, word: str) -> Text:
    return Text(word, "green") if on else Text("")


def _under_way(record: Record) -> bool:
    return bool(record.runs) and record.runs[-1].ended_s is None


def _shore_style(sample: object) -> str:
    killed = getattr(sample, "killed", False)
    return "bold red" if killed else "dim"


def _run_cells(record: Record, run: Run) -> list[str]:
    under_way = run.ended_s is None
    until_s = record.now_s() if run.ended_s is None else run.ended_s
    so_far = len(record.deliveries) - run.delivered_before
    return [
        str(run.number),
        f"{run.container}{' cold' if run.cold else ''}",
        f"{run.started_s:.1f} s",
        f"{until_s - run.started_s:.1f} s",
        f"{max(0, so_far) if under_way else run.delivered:,}",
        "running …" if under_way else run.ending or "",
    ]


def _run_style(run: Run) -> str:
    if run.killed or run.failed:
        return "red"
    if run.ended_s is None:
        return "bold"
    return "yellow" if (run.ending or "").startswith("lease held") else ""

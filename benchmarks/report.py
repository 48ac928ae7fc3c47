"""Tables and a picture of measured values: results.md and results.png beside their results.csv.

    python benchmarks/report.py [benchmarks/results.csv]

A peer's figures are the medians of its rounds. Ratios compare rows a second, so that a peer on a
part of the data compares with one on all of it.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peers_download
import peers_upload
from datasets import DATA_SETS
from results import Value, read

BASE = "psql \\copy"
OURS = "taskwidgets"
PEERS = {
    "upload": {peer.name: peer for peer in peers_upload.PEERS},
    "download": {peer.name: peer for peer in peers_download.PEERS},
}
COLOURS = {"ours": "#d9480f", "base": "#495057", "peer": "#9db4c8", "limit": "#e3e3e3"}
LEGEND = """\
Written by `make bench`; the values of each round are in [results.csv](results.csv).

- **times psql**: rows a second, as a ratio to `psql \\copy` on the same data in the same run.
- **MB/s**: megabytes (10⁶ bytes) of the CSV file a second; median of the rounds. For an export, the
  file as COPY writes it, also where a peer writes more bytes for the same rows.
- **CPU**: seconds of one core for 1 GB of the file, of the client with its own processes, and of
  the server.
- **memory**: what the client has at most, above the same process before it began.
- All peers take turns, each time in a fresh process that has moved one row before. The table or
  file of each has been compared with the source: rows, and a checksum of all values.
- The two connections load halves of the file, cut at a record; where that is has been found before
  the clock started, and nothing is noted down on the way.
- taskwidgets and *writing the file alone* end with the file on the disk (fsync); no other export
  does. Files are read from the system's cache, by all.
- Peers in *italics* are no loaders, but what the machine can do.
"""


@dataclass(frozen=True)
class Standing:
    """One peer's medians on one data set, in one direction."""

    name: str
    seconds: list[float]
    bytes: int
    rows: int
    client_cpu: float  # seconds
    server_cpu: float  # seconds
    memory: float  # MiB
    failure: str

    @property
    def time(self) -> float:
        return statistics.median(self.seconds)

    @property
    def speed(self) -> float:
        """Rows a second; 0 for a peer that failed."""
        return 0.0 if self.failure else self.rows / self.time

    @property
    def megabytes(self) -> float:
        return self.bytes / 1e6


@dataclass(frozen=True)
class Table:
    """All peers on one data set, in one direction; the fastest loader first, the limits last."""

    direction: str
    data: str
    standings: list[Standing]

    @property
    def base(self) -> Standing | None:
        """The one that ratios refer to."""
        return next((one for one in self.standings if one.name == BASE and not one.failure), None)

    @property
    def title(self) -> str:
        largest = max(self.standings, key=lambda one: one.rows)
        size = f"{largest.megabytes:,.0f} MB, {largest.rows:,} rows"
        return f"{self.direction.capitalize()} of {self.data}: {size}"

    def ratio(self, one: Standing) -> float | None:
        return one.speed / self.base.speed if self.base and not one.failure else None

    def is_limit(self, one: Standing) -> bool:
        return PEERS[self.direction][one.name].is_limit

    def is_file_only(self, one: Standing) -> bool:
        return PEERS[self.direction][one.name].is_file_only

    def is_part(self, one: Standing) -> bool:
        return not one.failure and one.rows < max(other.rows for other in self.standings)


def write(path: Path) -> None:
    """Write results.md and results.png beside the values."""
    values = list(read(path))
    tables = _tables(values)
    picture = path.with_suffix(".png")
    picture.unlink(missing_ok=True)
    if tables:
        _draw(tables, values[0], picture)
    path.with_suffix(".md").write_text(_markdown(tables, values, picture), encoding="utf-8")


def _tables(values: Sequence[Value]) -> list[Table]:
    made = []
    for direction, peers in PEERS.items():
        for data in DATA_SETS:
            standings = []
            for name in peers:
                of_it = [v for v in values if (v.part, v.data, v.peer) == (direction, data, name)]
                if of_it:
                    standings.append(_standing(name, of_it))
            table = Table(direction, data, standings)
            standings.sort(key=lambda one: (table.is_limit(one), -one.speed))
            if standings:
                made.append(table)
    return made


def _standing(name: str, values: Sequence[Value]) -> Standing:
    def median(measure: str) -> float:
        found = [value.value for value in values if value.measure == measure]
        return statistics.median(found) if found else 0.0

    return Standing(
        name,
        [value.value for value in values if value.measure == "time"],
        max(value.bytes for value in values),
        max(value.rows for value in values),
        median("client CPU"),
        median("server CPU"),
        median("memory"),
        next((value.note for value in values if value.measure == "failed"), ""),
    )


# ------------------------------------------------------------------------------ the tables


def _markdown(tables: Sequence[Table], values: Sequence[Value], picture: Path) -> str:
    lines = ["# Benchmarks", "", LEGEND]
    if values:
        one = values[0]
        lines += [
            f"Measured on {one.date}, commit {one.commit or 'unknown'}.  ",
            f"Machine: {one.machine}.  ",
            f"Versions: {one.versions}.",
            "",
        ]
    if tables:
        lines += [f"![Speeds, as ratios to psql \\\\copy]({picture.name})", ""]
    for direction in PEERS:
        for table in tables:
            if table.direction == direction:
                title = f"{table.title}; {DATA_SETS[table.data].title}"
                lines += [f"## {title}", "", *_rows(table), ""]
    for direction in PEERS:
        of_it = [value for value in values if value.part == f"while {direction}"]
        if of_it:
            lines += [*_while(direction, of_it), ""]
    lines += [*scale(values), *watched(values)]
    return "\n".join(lines)


def _rows(table: Table) -> list[str]:
    lines = [
        "| | times psql | MB/s | seconds, least to most | rounds | client CPU s/GB"
        " | server CPU s/GB | memory MiB |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for one in table.standings:
        name = one.name.replace("\\", "\\\\")
        name = f"*{name}*" if table.is_limit(one) else name
        name = f"**{name}**" if one.name == OURS else name
        if table.is_part(one):
            name += f" (on {one.megabytes:,.0f} MB)"
        if one.failure:
            why = one.failure.replace("|", "\\|")
            lines.append(f"| {name} | failed | {why} | | | | | |")
            continue
        ratio = table.ratio(one)
        gigabytes = one.bytes / 1e9
        cells = [
            name,
            "–" if ratio is None else f"{ratio:.2f}",
            f"{one.megabytes / one.time:,.1f}",
            f"{one.time:.2f} ({min(one.seconds):.2f} to {max(one.seconds):.2f})",
            str(len(one.seconds)),
            f"{one.client_cpu / gigabytes:.1f}",
            f"{one.server_cpu / gigabytes:.1f}",
            f"{one.memory:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _while(direction: str, values: Sequence[Value]) -> list[str]:
    size = values[0].bytes / 1e6
    lines = [
        f"## While it runs: {direction} of {values[0].data}, {size:,.0f} MB",
        "",
        "| | median | most | times measured |",
        "|---|--:|--:|--:|",
    ]
    for measure in dict.fromkeys(value.measure for value in values):
        of_it = [value for value in values if value.measure == measure]
        numbers, unit = [value.value for value in of_it], of_it[0].unit
        most = f"{max(numbers):,.1f} {unit}" if len(numbers) > 1 else ""
        lines.append(
            f"| {measure} | {statistics.median(numbers):,.1f} {unit} | {most} | {len(numbers)} |"
        )
    return lines


# What each measure of a large transfer should be, for whoever reads the table.
SCALE_WANTED = {
    "speed": "ratio 0.90 or more",
    "memory": "less than 200 MiB",
    "checkpoints, at most": "hundreds, for a file of any size",
    "events, at most": "dozens, for a file of any size",
    "resume": "less than 1,000 ms",
    "resume in a new process": "less than 1,000 ms",
    "the same, from tw.connect() on": "less than 1,000 ms",
}


def scale(values: Sequence[Value]) -> list[str]:
    """What a large file and a small one give, side by side, a table for each direction."""
    lines: list[str] = []
    for direction in PEERS:
        of_it = [value for value in values if value.part == f"scale {direction}"]
        if of_it:
            lines += ["", *_scale(direction, of_it)]
    if not lines:
        return []
    return [
        "## Scale",
        "",
        "Wanted: the large file moves within 10 % of the small one's speed, in as little memory,"
        " its checkpoints and events do not become more with its size, and it resumes within a"
        " second, also in a new process.",
        *lines,
        "",
    ]


def _scale(direction: str, values: Sequence[Value]) -> list[str]:
    sizes = sorted({value.bytes for value in values})
    names = " | ".join(f"{size / 1e9:.2f} GB" for size in sizes)
    lines = [
        f"| {direction} | {names} | ratio | wanted |",
        f"|---|{'--:|' * len(sizes)}--:|---|",
    ]
    for measure in dict.fromkeys(value.measure for value in values):
        cells, medians = [measure], []
        for size in sizes:
            of_it = [v for v in values if (v.measure, v.bytes) == (measure, size)]
            if of_it:
                medians.append(statistics.median(value.value for value in of_it))
                cells.append(f"{medians[-1]:,.0f} {of_it[0].unit}".rstrip())
            else:
                cells.append("")
        cells.append(f"{medians[-1] / medians[0]:.2f}" if len(medians) > 1 and medians[0] else "")
        lines.append(f"| {' | '.join(cells)} | {SCALE_WANTED.get(measure, '')} |")
    return lines


def watched(values: Sequence[Value]) -> list[str]:
    """Transfers with a panel on the page and without one, side by side."""
    values = [value for value in values if value.part.startswith("watched ")]
    if not values:
        return []
    ways = list(dict.fromkeys(value.peer for value in values))
    rounds = max(value.round for value in values)
    lines = [
        "## What a panel costs",
        "",
        f"In JupyterLab, {values[0].bytes / 1e6:,.0f} MB, medians, rounds: {rounds}; the ratio"
        " is the median of the rounds' own; CPU of the kernel with its own processes, of Jupyter's"
        " server, of all the browser's processes. Wanted: a ratio of the times below 1.03.",
        "",
        f"| | {' | '.join(ways)} | ratio |",
        f"|---|{'--:|' * len(ways)}--:|",
    ]
    for part, measure in dict.fromkeys((value.part, value.measure) for value in values):
        taken = [
            [v.value for v in values if (v.part, v.measure, v.peer) == (part, measure, way)]
            for way in ways
        ]
        cells = [f"{part.removeprefix('watched ')}, {measure}"]
        cells += [f"{statistics.median(seconds):.2f} s" for seconds in taken]
        pairs = [shown / bare for shown, bare in zip(taken[0], taken[-1], strict=False) if bare]
        ratio = f"{statistics.median(pairs):.3f}" if len(ways) > 1 and pairs else ""
        lines.append(f"| {' | '.join([*cells, ratio])} |")
    return [*lines, ""]


# ------------------------------------------------------------------------------ the picture


def _draw(tables: Sequence[Table], value: Value, path: Path) -> None:
    """A chart for each data set: a row for each, uploads on the left, downloads on the right."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    columns = [name for name in PEERS if any(table.direction == name for table in tables)]
    rows = [name for name in DATA_SETS if any(table.data == name for table in tables)]
    heights = [max(len(t.standings) for t in tables if t.data == name) for name in rows]
    figure, grid = pyplot.subplots(
        len(rows), len(columns), squeeze=False, layout="constrained",
        figsize=(7.2 * len(columns), sum(0.34 * height + 0.95 for height in heights) + 0.7),
        height_ratios=[height + 2 for height in heights],
    )  # fmt: skip
    for axes in grid.flat:
        axes.set_visible(False)
    for table in tables:
        axes = grid[rows.index(table.data)][columns.index(table.direction)]
        axes.set_visible(True)
        _chart(axes, table)
    what = "Speed as a ratio to psql \\copy = 1"
    if any(table.base is None for table in tables):
        what = "Speed in MB/s"
    figure.suptitle(f"{what} (longer is faster)", fontsize=14)
    figure.supxlabel(
        f"{value.machine}; {value.date}, commit {value.commit or 'unknown'}",
        fontsize=8, color="#666666",
    )  # fmt: skip
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _chart(axes: Any, table: Table) -> None:
    standings = table.standings[::-1]  # the first bar is drawn at the bottom
    bars = [table.ratio(one) or 0.0 for one in standings]
    if table.base is None:
        bars = [0.0 if one.failure else one.megabytes / one.time for one in standings]
    shown = [bar for bar, one in zip(bars, standings, strict=True) if not table.is_file_only(one)]
    limit = 1.18 * max(shown or bars, default=1.0) or 1.0
    for place, (one, bar) in enumerate(zip(standings, bars, strict=True)):
        kind = "limit" if table.is_limit(one) else "peer"
        kind = {OURS: "ours", BASE: "base"}.get(one.name, kind)
        axes.barh(place, min(bar, limit), color=COLOURS[kind], height=0.72)
        text = f"{bar:.2f}" if table.base else f"{bar:,.0f} MB/s"
        if one.failure:
            text = "failed"
        is_cut = bar > 0.92 * limit
        axes.text(
            min(bar, limit) + limit * (-0.012 if is_cut else 0.012), place,
            f"{text} →" if bar > limit else text,
            va="center", ha="right" if is_cut else "left", fontsize=9,
            fontweight="bold" if one.name == OURS else "normal",
            bbox=None if is_cut else {"facecolor": "white", "edgecolor": "none", "pad": 1},
        )  # fmt: skip
    axes.set_yticks(range(len(standings)))
    labels = axes.set_yticklabels(
        one.name + (f" ({one.megabytes:,.0f} MB)" if table.is_part(one) else "")
        for one in standings
    )
    for label, one in zip(labels, standings, strict=True):
        label.set_fontsize(9)
        if one.name == OURS:
            label.set_fontweight("bold")
            label.set_color(COLOURS["ours"])
        elif table.is_limit(one):
            label.set_fontstyle("italic")
            label.set_color("#777777")
    if table.base is not None:
        axes.axvline(1, color=COLOURS["base"], linewidth=1, linestyle=":")
    axes.set_xlim(0, limit)
    axes.tick_params(axis="x", labelsize=8)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.set_title(table.title, fontsize=10.5, loc="left")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "results.csv")

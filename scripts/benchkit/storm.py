"""The boot storm against its peers: every row of the table by its name, measured in one command.

A row is a function `(Options) -> list[Row]` in a module of benchkit, named in ROWS. It measures ours and its peers in
turn, in interleaved rounds, and says in the row itself when a peer could not be had.
"""

import fnmatch
import importlib
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

TITLE = "The boot storm, beside its peers"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    peer: str
    ours: str
    ratio: str
    wanted: str
    reached: bool
    note: str = ""  # where the time goes, when it is not reached; a peer that could not be had


@dataclass(frozen=True)
class Options:
    """How thoroughly to measure; `say` tells whoever waits."""

    rounds: int
    say: Callable[[str], None]


ROWS: dict[str, tuple[str, str]] = {
    "tftp-100k": ("benchkit.tftp:small", "TFTP 100 KiB, 1,000 clients at once; dnsmasq, tftpy"),
    "tftp-1m": (
        "benchkit.tftp:large",
        "TFTP 1 MiB, 1,000 clients at once; dnsmasq and four others",
    ),
    "tftp-cpu": ("benchkit.tftp:processor", "server CPU a GiB, 1 MiB x 100 clients; dnsmasq"),
    "tftp-window": ("benchkit.tftp:window", "windowsize 16: 1 MiB x 1,000 and 60 MiB x 10; atftpd"),
    "tftp-halfopen": ("benchkit.tftp:halfopen", "server CPU a packet beside 400 half-open sessions; dnsmasq"),
    "tftp-loss": ("benchkit.tftp:loss", "1 % loss each way, 1 MiB x 100 clients; dnsmasq, tftpd-hpa"),
    "answers": ("benchkit.answers:rows", "answer file, 50 clients at once; Cobbler"),
    "changes": ("benchkit.changing:rows", "one machine changed: boot decision, DHCP reservation; Cobbler's sync"),
    "start": ("benchkit.starting:rows", "start to ready with 100,000 machines; Cobbler's daemon"),
    "simulate": ("benchkit.simulated:rows", "2,000 simulated machines, the whole way; kill -9 in the middle"),
    "media": ("benchkit.mediaserving:rows", "300 MB initrd, 20 clients; nginx"),
}


def chosen(only: str) -> list[str]:
    """The names of the rows that `only` asks for: names or shell patterns, with commas between them; all when empty.

    Raises ValueError, naming the pattern, when one fits no row.
    """
    patterns = [each.strip() for each in only.split(",") if each.strip()]
    for pattern in patterns:
        if not fnmatch.filter(ROWS, pattern):
            raise ValueError(f"no row is named {pattern}; there are {', '.join(ROWS)}")
    return [name for name in ROWS if not patterns or any(fnmatch.fnmatch(name, each) for each in patterns)]


def run(names: Iterable[str], options: Options) -> list[Row]:
    """Measure these rows, telling each as it comes; one that cannot be measured is a row that says why."""
    names, rows = list(names), []
    for at, name in enumerate(names, 1):
        options.say(f"[{at}/{len(names)}] {name}: {ROWS[name][1]}")
        began = time.monotonic()
        for row in _measured(name, options):
            rows.append(row)
            options.say(_told(row))
        options.say(f"    {time.monotonic() - began:.0f} s")
    return rows


def table(rows: list[Row]) -> list[str]:
    """The rows as Markdown, what was not reached with its reason below the table."""
    lines = ["| what | peer | ours | ratio | to reach | reached |", "|---|---|---|---|---|---|"]
    for row in rows:
        cells = (row.what, row.peer, row.ours, row.ratio, row.wanted, "yes" if row.reached else "**no**")
        lines.append("| " + " | ".join(each.replace("|", "\\|") for each in cells) + " |")
    notes = [f"- {row.what}: {row.note}" for row in rows if row.note]
    return [*lines, *(["", *notes] if notes else [])]


def median(values: Iterable[float]) -> float:
    """The median of the rounds."""
    return statistics.median(values)


def ratio(ours: float, peer: float) -> float:
    """Ours by the peer's; infinite when the peer came to nothing."""
    return ours / peer if peer else float("inf")


def _measured(name: str, options: Options) -> list[Row]:
    module, function = ROWS[name][0].split(":")
    try:
        measure: Callable[[Options], list[Row]] = getattr(importlib.import_module(module), function)
        return measure(options)
    except Exception as problem:  # noqa: BLE001 - an hour of other rows must not be lost with one
        why = " ".join(f"{type(problem).__name__}: {problem}".split())
        return [Row(ROWS[name][1], "-", "-", "-", "-", False, f"not measured: {why[:300]}")]


def _told(row: Row) -> str:
    verdict = "reached" if row.reached else "NOT reached"
    parts = [f"    {row.what}", f"      peer   {row.peer}", f"      ours   {row.ours}"]
    parts.append(f"      ratio  {row.ratio}; to reach: {row.wanted}: {verdict}")
    return "\n".join([*parts, *([f"      {row.note}"] if row.note else [])])

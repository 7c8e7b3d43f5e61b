"""docs/benchmarks.md: a section a benchmark, written by the benchmark itself."""

import importlib.metadata
import os
import platform
import sqlite3
import sys
from datetime import UTC, datetime
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
_HEAD = """# Benchmarks

Figures of real runs, written by `scripts/bench`; run it on a host of yours to compare. They say how long the work takes
here, not how long it takes everywhere.
"""


def write(name: str, title: str, facts: list[str], lines: list[str]) -> None:
    """Put the section of that name into the page, in the place of an older one."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else _HEAD
    section = "\n".join([begin, f"## {title}", "", *facts, "", *lines, end])
    before, found, rest = text.partition(begin)
    after = rest.partition(end)[2] if found else ""
    PAGE.write_text(f"{before.rstrip()}\n\n{section}\n{after.lstrip()}".rstrip() + "\n", encoding="utf-8")


def circumstances(command: str) -> list[str]:
    """When, how, with what and on what it was measured."""
    alchemy, system = (
        importlib.metadata.version("sqlalchemy"),
        f"{platform.system()} {platform.release().split('-')[0]}",
    )
    load = f"load before it began {os.getloadavg()[0]:.1f}"
    return [
        f"- {datetime.now(UTC):%Y-%m-%d}, `{command}`",
        f"- Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, SQLAlchemy {alchemy}, {system}",
        f"- {os.cpu_count()} cores ({_processor()}), {_memory()} GiB of memory; {load}",
    ]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30))


def say(line: str) -> None:
    """Tell whoever waits."""
    print(line, file=sys.stderr, flush=True)

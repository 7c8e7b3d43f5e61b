"""The documentation that comes with the program."""

from functools import cache
from pathlib import Path

from provisioner.services.content import shipped

_MOST_FOUND = 50


@cache
def _pages() -> dict[str, str]:
    """The texts by their names; the first is where to begin."""
    place: Path = shipped()
    files = [place / "README.md", *sorted((place / "docs").glob("*.md")), place / "CHANGELOG.md"]
    return {file.stem.lower(): file.read_text(encoding="utf-8") for file in files if file.is_file()}


def page(name: str) -> str | None:
    """A page as Markdown; None if there is none of this name."""
    return _pages().get(name)


def titles() -> list[tuple[str, str]]:
    """The pages' names and titles, in the order in which they are best read."""
    return [(name, _title(text) or name) for name, text in _pages().items()]


def search(words: str) -> list[tuple[str, str, str]]:
    """Name, title and line of what holds all the words, at most fifty."""
    wanted = words.lower().split()
    found = [
        (name, _title(text) or name, line.strip("#|- ")[:200])
        for name, text in _pages().items()
        for line in text.splitlines()
        if wanted and all(word in line.lower() for word in wanted)
    ]
    return found[:_MOST_FOUND]


def _title(text: str) -> str:
    return next((line.removeprefix("# ").strip() for line in text.splitlines() if line.startswith("# ")), "")

"""The documentation holds to the code."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from provisioner import errors
from provisioner.cli.root import cli

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_generated_pages_are_fresh() -> None:
    """`scripts/docs` was run after the last change of a setting."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/docs", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file of the repository."""
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_docs_exist(page: Path) -> None:
    """Every `provisioner NOUN VERB` and every option after it is one that the program has."""
    for line in page.read_text().splitlines():
        for text in re.findall(r"(?:^|`|&& |\$ )provisioner ([a-z][^`#&]*)", line):
            _check_command(text.split(), f"{page.name}: {line.strip()}")


def _check_command(words: list[str], where: str) -> None:
    command: click.Command = cli
    while words and isinstance(command, click.Group) and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    assert command is not cli, where
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0] in known | {"--help"}, where


def test_scripts_in_the_docs_exist() -> None:
    """Every `scripts/NAME` that a page mentions is there."""
    for page in PAGES:
        for name in re.findall(r"scripts/([a-z][a-z.-]*[a-z])", page.read_text()):
            assert (ROOT / "scripts" / name).exists(), f"{page.name}: scripts/{name}"


def _leaves(root: type[errors.ProvisionerError]) -> list[type[errors.ProvisionerError]]:
    return [root, *(each for child in root.__subclasses__() for each in _leaves(child))]


def test_error_tree_is_drawn_and_codes_are_unique() -> None:
    """The drawing at the top of errors.py names every class, and no two share a code."""
    everything = _leaves(errors.ProvisionerError)
    codes = [each.code for each in everything]
    assert len(set(codes)) == len(codes)
    for each in everything:
        assert re.search(rf"\b{each.__name__}\b", errors.__doc__ or ""), each.__name__

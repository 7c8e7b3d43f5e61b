"""Directories of content for tests."""

from pathlib import Path


def tree(directory: Path) -> dict[str, bytes]:
    """Every file below the directory."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def write_tree(directory: Path, files: dict[str, str]) -> Path:
    """The files, below the directory."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    return directory

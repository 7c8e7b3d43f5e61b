"""What the tests of real tools share: a network of their own, and the service's directory of credentials."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Served
from handoff.rootdir import Wire, wire


@pytest.fixture(scope="module")
def lan() -> Iterator[Wire]:
    """A network of the module's own, in namespaces."""
    with wire() as network:
        yield network


@pytest.fixture(scope="module")
def credentials(served: Served) -> Path:
    """The service's credentials directory."""
    directory: Path = served.state / "credentials"
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory

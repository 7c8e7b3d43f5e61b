"""Checkers that run as programs do not get in each other's way."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from provisioner.render.validate.programs import run


@pytest.mark.skipif(shutil.which("debconf-set-selections") is None, reason="Debian's own program")
def test_preseeds_are_checked_at_the_same_time() -> None:
    """Debconf locks its database even to check; with one for all, all but one of these fail without a word."""
    good = "d-i debian-installer/locale string en_US.UTF-8\n" * 100
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: run(["debconf-set-selections", "--checkonly"], good, ".cfg"), range(12)))
    assert done == [(0, "")] * 12
    assert run(["debconf-set-selections", "--checkonly"], "d-i nonsense\n", ".cfg") == (
        1,
        "error: parse error on line 1: 'd-i nonsense'\n",
    )

"""Tests hash cheaply (see ``cheap``); this is what a hash costs as shipped."""

import cheap
from passlib.hash import sha512_crypt

from provisioner.services import crypthash, passwords


def test_s15_passwords_of_people_cost_what_rfc_9106_says() -> None:
    """Its second recommendation: 64 MiB, three passes, four lanes."""
    shipped = cheap.SHIPPED_HASHER
    assert (shipped.memory_cost, shipped.time_cost, shipped.parallelism) == (65536, 3, 4)
    assert passwords._HASHER.memory_cost < 100, "and not here"


def test_s22_passwords_of_machines_cost_half_a_million_rounds() -> None:
    assert cheap.SHIPPED_CRYPT is sha512_crypt
    assert cheap.SHIPPED_CRYPT.default_rounds >= 500_000
    assert crypthash.hashed("root_password", "x").startswith("$6$rounds=1000$"), "and not here"

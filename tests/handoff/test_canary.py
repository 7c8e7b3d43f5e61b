"""The canary harness finds what is planted: a search that finds nothing anywhere would prove nothing."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import wait_for
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from world import World

from provisioner.core.markers import marker
from tests.handoff.canary import Canaries, forms

pytestmark = pytest.mark.slow

SECRET = 'a secret+with/"quotes" & blanks'


def test_s80_what_stands_in_the_database_or_a_sealed_file_is_found_in_answers_and_rows(world: World) -> None:
    world.ready(parameters={"motd": SECRET})
    world.machine("web02", "52:54:00:12:34:57", "127.0.2.12", description="harmless")
    canaries = Canaries({"motd": SECRET})
    canaries.look_at_database(world.site)
    assert any("motd in machine.parameters" in hit for hit in canaries.hits)
    canaries.hits.clear()
    canaries.look_at_answers(world.site, ["web01"], [1])
    assert any("motd in GET /api/v1/machines/web01" in hit for hit in canaries.hits)
    assert any("motd in GET /machines/web01" in hit for hit in canaries.hits)
    assert not any("web02" in hit for hit in canaries.hits)


def test_s80_a_packed_sealed_file_and_raw_files_are_searched(world: World) -> None:
    world.armed()
    canaries = Canaries({"nothing": "never planted anywhere"})
    canaries.add("marker", marker("event_token"))
    canaries.look_at_database(world.site)
    assert canaries.hits.count("marker in sealed_file.content") > 0
    assert not any(hit.startswith("nothing") for hit in canaries.hits)
    canaries.hits.clear()
    (world.tmp / "deep").mkdir()
    (world.tmp / "deep" / "log").write_text("never planted anywhere")
    canaries.look_at_files([world.tmp / "deep"])
    assert canaries.hits == [f"nothing in {world.tmp / 'deep' / 'log'}"]
    canaries.hits.clear()
    canaries.look_at_files([world.tmp / "deep"], skip=[world.tmp / "deep"])
    assert canaries.hits == []


@pytest.mark.parametrize("place", ["cmdline", "environ"])
def test_s81_a_secret_in_a_process_list_is_found(place: str) -> None:
    canaries = Canaries({"planted": "canary-in-a-process"})
    given = ["canary-in-a-process"] if place == "cmdline" else []
    environment = {"SECRET": "canary-in-a-process"} if place == "environ" else {}
    with canaries.in_processes():
        program = [sys.executable, "-c", "input()", *given]
        with subprocess.Popen(program, env=environment, stdin=subprocess.PIPE) as process:
            proof = Path(f"/proc/{process.pid}/{place}")
            wait_for(lambda: b"canary-in-a-process" in proof.read_bytes() and _sampled(canaries), what="a sample")
            process.communicate(b"\n")
    canaries.look_at_processes()
    assert any(f"planted in {place} of" in hit for hit in canaries.hits)


def _sampled(canaries: Canaries) -> bool:
    return any(b"canary-in-a-process" in told for told in dict(canaries._samples))


def test_a_public_key_is_not_taken_for_its_private_one() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    canaries = Canaries({"key": private})
    canaries.look("public", public.replace("\n", ""))
    assert canaries.hits == []
    for written in (private, private.replace("\n", "\\n"), private.splitlines()[-4], private.replace("+", "%2B")):
        canaries.look("private", written)
    assert canaries.hits == ["key in private"] * 4


def test_short_values_are_refused_since_they_are_found_by_accident() -> None:
    with pytest.raises(AssertionError):
        forms("short")

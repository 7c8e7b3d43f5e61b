"""Simulated machines against a real service: all at once, with faults, and with a server that is killed."""

import contextlib
import itertools
import json
import os
import re
import signal
import threading
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import Served, wait_for
from played import processes
from sqlalchemy import select
from world import ACTOR

from provisioner.errors import Conflict, Unavailable
from provisioner.services import builds, catalogue, machines, profiles, subnets
from provisioner.services.machines import InterfaceInput
from provisioner.services.site import Site
from provisioner.simulate import FAILING, STEPS, Plan, Result, clean, fault, read_journal, run
from provisioner.store.engine import write
from provisioner.store.models import Attempt, Build

pytestmark = pytest.mark.slow
PLAYED = [step for step in STEPS if step != "dhcp"]


@pytest.fixture
def site(served: Served) -> Any:
    """The served installation, seen from inside; what was simulated is removed after the test."""
    opened = served.site
    yield opened
    clean(opened)
    opened.engine.dispose()


def play(site: Site, count: int, **more: Any) -> Result:
    """Play as fast as it goes; nothing may be wrong."""
    hook = {key: more.pop(key, None) for key in ("on_power_cut", "journal", "watch")}
    result = run(site, Plan(count, **({"speed": 20.0, "outage": 0.1} | more)), actor=ACTOR, **hook)
    assert result.ok, result.wrong
    return result


def age_attempts(site: Site, name: str) -> None:
    """As if the machine had been dark for two minutes: its next boot is another power-on."""
    with write(site.engine) as session:
        for attempt in session.scalars(select(Attempt).join(Build).where(Build.machine_name == name)):
            attempt.opened_at -= timedelta(minutes=2)


def states(site: Site) -> Counter[str]:
    """How many simulated machines are in which state."""
    return Counter(each["state"] for each in machines.search(site, "sim-"))


def test_r40_200_machines_at_once(site: Site) -> None:
    """Each through the loader, both scripts, kernel, initrd, answer, secret, events and handoff, to its own disk."""
    result = play(site, 200, speed=1.0)
    assert result.ends == {"configured": 200}
    assert states(site) == {"configured": 200}
    steps = {row["step"]: row for row in result.steps}
    assert {step: steps[step]["count"] for step in ("loader", "first-script", "script")} == dict.fromkeys(
        ("loader", "first-script", "script"), 600
    )
    once = ("kernel", "initrd", "answer", "installer", "secret", "disk", "packages", "handoff", "built", "configured")
    assert {step: steps[step]["count"] for step in once} == dict.fromkeys(once, 200)
    assert steps["initrd"]["bytes"] == 200 * (256 << 10)
    assert not any(row["failures"] for row in result.steps)


def test_a_failure_at_every_step_that_can_report_one(site: Site) -> None:
    """R01: before `built` the machine is halted; in the handoff it is a running server and gets its disk."""
    result = play(site, len(FAILING) + 1, faults=[fault("fail", f"{step}:1") for step in FAILING])
    assert result.ends == {"halted": len(FAILING) - 1, "handoff-failed": 1, "configured": 1}
    assert states(site) == {"failed": len(FAILING), "configured": 1}
    halted = {each["machine"] for each in result.records if each["what"] == "end" and each["kind"] == "halted"}
    for name in halted:
        assert "simulated failure after" in builds.show(site, name)["outcome"]


def test_r01_a_power_cut_at_every_step(site: Site) -> None:
    """A cut of more than a minute: before the disk is touched it goes on, then it halts; after `built` it is done."""
    faults = [fault("power-cut", f"{step}:1") for step in PLAYED]
    result = play(site, len(PLAYED), faults=faults, on_power_cut=lambda name: age_attempts(site, name))
    assert result.power_cuts == len(PLAYED)
    cut = {each["machine"]: each["step"] for each in result.records if each["what"] == "power-cut"}
    ended = {cut[each["machine"]]: each["kind"] for each in result.records if each["what"] == "end"}
    assert ended == {step: "halted" if step in {"disk", "packages", "handoff"} else "configured" for step in PLAYED}


def test_r01_a_third_attempt_is_halted(site: Site) -> None:
    faults = [fault("power-cut", "kernel")]
    result = play(site, 5, faults=faults, cuts=3, on_power_cut=lambda name: age_attempts(site, name))
    assert (result.ends, result.power_cuts) == ({"halted": 5}, 10)
    told = Counter(each["kind"] for each in result.records if each["what"] == "told")
    assert told == {"build": 10, "halt": 5}
    assert result.boots == 15


def test_the_same_power_on_within_a_minute_is_the_same_attempt(site: Site) -> None:
    result = play(site, 3, faults=[fault("power-cut", "kernel")], cuts=4)
    assert result.ends == {"configured": 3}
    tokens = {(each["machine"], each["token"]) for each in result.records if each["what"] == "told" and each["token"]}
    assert len(tokens) == 3


def test_a_short_power_cut_after_the_unwrap_gives_the_secret_to_nobody_twice(site: Site) -> None:
    """Back within a minute, from the same address: whatever the server makes of it, one nonce gets one secret."""
    result = play(site, 3, faults=[fault("power-cut", "secret")])
    taken = Counter((each["machine"], each["token"]) for each in result.records if each["what"] == "secret")
    assert set(taken.values()) == {1}


def test_machines_that_stop_dead_stay_where_they_were(site: Site) -> None:
    faults = [fault("never", f"{step}:1") for step in ("script", "answer", "disk", "built")]
    result = play(site, 4, faults=faults)
    assert result.ends == {"off": 4}
    assert states(site) == {"building": 3, "built": 1}


def test_t11_the_journal_has_every_answer_and_acknowledgement(site: Site, tmp_path: Path) -> None:
    """As data, in a file too; the events in the database are the acknowledged ones."""
    result = play(site, 5, journal=tmp_path / "journal")
    records = read_journal((tmp_path / "journal").read_text().splitlines())
    assert records == result.records
    acknowledged = [(each["step"], each["state"]) for each in records if each["what"] == "ack"]
    assert Counter(step for step, _ in acknowledged) == dict.fromkeys(
        ("installer", "disk", "packages", "built", "configured"), 5
    )
    assert set(acknowledged) >= {("built", "built"), ("configured", "configured")}
    secrets = [each for each in records if each["what"] == "secret"]
    assert len({each["nonce"] for each in secrets}) == 5
    # Neither tokens (54 characters) nor secrets: a journal may be shown to anybody.
    assert not any(re.search(r"[A-Za-z0-9_-]{40}|\$6\$", json.dumps(each)) for each in records)
    told = [each["kind"] for each in records if each["what"] == "told" and each["machine"] == "sim-0001"]
    assert told == ["build", "local", "local"]


def test_r23_the_server_is_killed_while_they_boot(served: Served, site: Site, tmp_path: Path) -> None:
    """kill -9 of the boot plane, media and TFTP in the middle: the machines ask again, and nothing is lost."""
    playing, over = threading.Event(), threading.Event()
    journal, killed = tmp_path / "journal", Counter[str]()

    def kill() -> None:
        playing.wait(120)
        names = itertools.cycle(("boot", "tftp", "boot", "media"))
        while not over.wait(0.5) and not (len(killed) == 3 and '"lost"' in journal.read_text()):
            name = next(names)
            for pid, child in processes(served.state).items():
                if child == name:
                    with contextlib.suppress(ProcessLookupError):  # it ended by itself meanwhile
                        os.kill(pid, signal.SIGKILL)
                        killed[name] += 1

    thread = threading.Thread(target=kill)
    thread.start()
    watch = {"watch": lambda *_: playing.set(), "journal": journal}
    try:
        result = play(site, 30, arrival=5.0, think=0.2, patience=10.0, speed=5.0, **watch)
    finally:
        playing.set()
        over.set()
        thread.join()
    assert set(killed) == {"boot", "tftp", "media"}
    assert result.ends == {"configured": 30}
    assert any(each["what"] == "lost" for each in result.records)
    wait_for(served._up, 120, "readiness")


def test_a_database_that_disagrees_is_noticed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle is no yes-man: an acknowledged event that is gone, and another state, are both found."""
    from provisioner.simulate import oracle

    real = builds.show

    def forgetful(site: Site, name: str, number: int | None = None) -> dict[str, Any]:
        view = real(site, name, number)
        return view | {"state": "installing", "events": [each for each in view["events"] if each["kind"] != "disk"]}

    monkeypatch.setattr(oracle.builds, "show", forgetful)
    result = run(site, Plan(1, speed=20.0, settle=0.5), actor=ACTOR)
    assert not result.ok
    text = "\n".join(result.wrong)
    assert "disk was acknowledged" in text
    assert "but the build is installing" in text


# --- the world --------------------------------------------------------------------------------------------------------


def test_it_is_made_again_and_cleaned_away(site: Site) -> None:
    """A second run uses what the first kept, whatever state it is in; cleaning leaves only what is real."""
    before = (subnets.listing(site), profiles.listing(site), catalogue.distros(site), machines.listing(site))
    files = set((site.media_dir / "sha256").rglob("*"))
    play(site, 3, faults=[fault("never", "disk:1"), fault("fail", "disk:1")])
    assert play(site, 5, kernel_bytes=100_000).ends == {"configured": 5}
    assert clean(site, ACTOR) == 5
    after = (subnets.listing(site), profiles.listing(site), catalogue.distros(site), machines.listing(site))
    assert after == before
    assert {path for path in (site.media_dir / "sha256").rglob("*") if path.is_file()} <= files
    assert clean(site, ACTOR) == 0


@pytest.mark.parametrize("kind", ["subnet", "profile", "machine"])
def test_what_is_not_simulated_is_left_alone(site: Site, kind: str) -> None:
    if kind == "subnet":
        subnets.add(site, ACTOR, "simulated", "127.99.0.0/24", {})
    elif kind == "profile":
        profiles.add(site, ACTOR, {"name": "simulated", "parent": "rocky9"})
    else:
        machines.add(site, ACTOR, "sim-0002", [InterfaceInput("52:54:00:99:00:01")], {"profile": "rocky9"})
    try:
        with pytest.raises(Conflict, match="not simulated") as caught:
            run(site, Plan(3), actor=ACTOR)
        assert "rename" in caught.value.hint
        with pytest.raises(Conflict, match="not simulated"):
            clean(site, ACTOR)
        assert not any(each["state"] == "building" for each in machines.search(site, "sim-"))
    finally:
        if kind == "machine":
            machines.remove(site, ACTOR, "sim-0002")
        else:
            (subnets if kind == "subnet" else profiles).remove(site, ACTOR, "simulated")


def test_a_profile_that_could_take_the_simulated_distro_stops_it(site: Site) -> None:
    profiles.add(site, ACTOR, {"name": "any-rocky", "parent": "linux", "distro": {"os": "rocky"}})
    try:
        with pytest.raises(Conflict, match="any-rocky takes any rocky"):
            run(site, Plan(1), actor=ACTOR)
    finally:
        profiles.remove(site, ACTOR, "any-rocky")


def test_no_service_no_play(site: Site, served: Served) -> None:
    served.stop()
    try:
        with pytest.raises(Unavailable, match="boot plane does not answer") as caught:
            run(site, Plan(1), actor=ACTOR)
        assert "provisioner serve" in caught.value.hint
        assert machines.search(site, "sim-") == []
    finally:
        served.start()

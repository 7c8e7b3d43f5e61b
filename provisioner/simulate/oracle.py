"""What the journals and the database must agree on after a run, whatever crashed on the way."""

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from provisioner.errors import ProvisionerError
from provisioner.services import builds
from provisioner.services.site import Site
from provisioner.simulate.journal import Record
from provisioner.simulate.machine import Machine

_STATES = {"configured": {"configured"}, "handoff-failed": {"failed"}}


def check_records(records: Sequence[Record]) -> list[str]:
    """What the journal alone shows to be wrong: a secret given twice in an attempt, a second wipe."""
    wrong = [f"{each['machine']}: {each['message']}" for each in records if each["what"] == "problem"]
    nonces: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    wipes: dict[str, set[int]] = defaultdict(set)
    for each in records:
        if each["what"] == "secret":
            nonces[each["machine"], each["token"], each["name"]].add(each["nonce"])
        elif each["what"] == "wipe":
            wipes[each["machine"]].add(each["boot"])
    wrong += [
        f"{machine}: the secret {name} was given to {len(asked)} different nonces in one attempt"
        for (machine, _, name), asked in nonces.items()
        if len(asked) > 1
    ]
    wrong += [f"{machine}: its disk was wiped {len(boots)} times" for machine, boots in wipes.items() if len(boots) > 1]
    return wrong


def check_database(site: Site, machines: Sequence[Machine], records: Sequence[Record], *, seconds: float) -> list[str]:
    """Where the database does not say what the machines were told: a lost acknowledged event, another state.

    Reports that the server took while its database was down come in later: they have ``seconds`` for that.
    """
    deadline = time.monotonic() + seconds
    while True:
        wrong = _compared(site, machines, records)
        if not wrong or time.monotonic() >= deadline:
            return wrong
        time.sleep(0.25)


def _compared(site: Site, machines: Sequence[Machine], records: Sequence[Record]) -> list[str]:
    acknowledged: dict[str, list[Record]] = defaultdict(list)
    for each in records:
        if each["what"] in {"ack", "secret"}:
            acknowledged[each["machine"]].append(each)
    wrong: list[str] = []
    for machine in machines:
        name = machine.part.name
        try:
            build = builds.show(site, name)
        except ProvisionerError as error:
            wrong.append(f"{name}: {error.message}")
            continue
        wrong += [f"{name}: {each}" for each in _differences(build, machine, acknowledged[name])]
    return wrong


def _differences(build: dict[str, Any], machine: Machine, acknowledged: Sequence[Record]) -> list[str]:
    events = [each["kind"] for each in build["events"]]
    wrong = []
    for each in acknowledged:
        kind = _kind_of(each, failed=machine.end == "handoff-failed")
        if kind not in events:
            wrong.append(f"{kind} was acknowledged in boot {each['boot']}, and is not in the build's events")
    states = _STATES.get(machine.end or "")
    if states is not None and build["state"] not in states:
        wrong.append(f"it ended {machine.end}, but the build is {build['state']}")
    last = next((each["state"] for each in reversed(acknowledged) if each["what"] == "ack"), None)
    if last in {"built", "configured", "failed"} and build["state"] not in {last, "configured", "failed"}:
        wrong.append(f"it was told {last}, but the build is {build['state']}")
    secrets = [each["attempt"] for each in build["events"] if each["kind"] == "secret"]
    if len(secrets) != len(set(secrets)):
        wrong.append(f"secrets were unwrapped in the attempts {secrets}")
    flags = [each["message"] for each in build["events"] if each["flagged"]]
    if flags and not machine.seen.refused:
        wrong.append(f"flagged: {flags[0]}")
    return wrong


def _kind_of(record: Record, *, failed: bool) -> str:
    """The kind of the event that this acknowledgement stands for."""
    if record["what"] == "secret":
        return "secret"
    return "handoff-failed" if failed and record["step"] == "configured" else str(record["step"])

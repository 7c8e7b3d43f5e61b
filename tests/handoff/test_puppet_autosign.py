"""S29: Puppet's CA may sign the request of a build's own machine, once; every other combination is refused."""

import dataclasses
import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from asking import Api
from conftest import both_engines
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from world import ACTOR, IP, MAC, World, token_in

from provisioner.core.lifecycle import Trigger
from provisioner.handoff import puppet_csr
from provisioner.handoff.puppet import SECRET
from provisioner.handoff.puppet_probe import PREFIX
from provisioner.services import (
    arming,
    attempts,
    boot,
    builds,
    handoffs,
    identities,
    machines,
    profiles,
    puppet,
    reports,
)
from provisioner.services.boot import BootRequest
from provisioner.services.lives import apply_trigger, lock
from provisioner.services.site import Site
from provisioner.store.engine import read, write
from provisioner.store.handoffs import Handoff
from provisioner.store.models import Build, Event
from tests.handoff.agent_requests import (
    AUTO_RENEW,
    CERTNAME,
    CHALLENGE,
    PP_IMAGE_NAME,
    PP_ROLE,
    SEALED,
    hostile,
    key,
    request,
)

pytestmark = pytest.mark.slow

PUPPET = {"tool": "puppet", "server": "puppet.example.com", "role": "web"}
CA = "192.0.2.9"
NAME = "web01"
FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "puppet"


def refusal(pem: str, **sealed: Any) -> str:
    """Why this request is refused, or nothing."""
    expected = {"certname": CERTNAME, "challenge": CHALLENGE, "extensions": SEALED} | sealed
    try:
        return puppet_csr.refusal(puppet_csr.read(pem.encode()), **expected)
    except puppet_csr.Unacceptable as error:
        return str(error)


def test_s29_what_agents_of_puppet_7_and_8_send_is_taken() -> None:
    assert not refusal(request())
    assert not refusal(request(signer=key(0, "ec")))
    assert not refusal(request(attributes={AUTO_RENEW: b"true"})), "Puppet 8 renews by itself"


@pytest.mark.parametrize(
    ("file", "certname", "challenge", "image"),
    [
        ("agent-7.23.0.csr", "web01.example", "abc-def_ghi", "debian12"),
        ("agent-8.10.0.csr", CERTNAME, CHALLENGE, "rocky9"),
    ],
)
def test_s29_requests_that_real_agents_made_are_taken(file: str, certname: str, challenge: str, image: str) -> None:
    """Both from Debian's packages, by a csr_attributes.yaml such as the handoff writes."""
    pem = (FIXTURES / file).read_text()
    sealed = {"certname": certname, "challenge": challenge, "extensions": SEALED | {PP_IMAGE_NAME: image}}
    assert not refusal(pem, **sealed)
    assert refusal(pem, **(sealed | {"challenge": "x"}))


@pytest.mark.parametrize("what", sorted(hostile()))
def test_s29_a_request_that_is_wrong_in_one_thing_is_refused(what: str) -> None:
    reason = refusal(hostile()[what])
    assert reason
    assert CHALLENGE not in reason


@given(
    st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1, max_size=60),
    st.text(st.characters(codec="ascii"), max_size=60),
    st.dictionaries(st.sampled_from([*SEALED, "1.3.6.1.4.1.34380.1.1.12"]), st.text(max_size=20), max_size=3),
)
def test_s29_only_the_very_same_words_are_taken(certname: str, challenge: str, extensions: dict[str, str]) -> None:
    pem = request(certname, challenge, extensions)
    assert not refusal(pem, certname=certname, challenge=challenge, extensions=extensions)
    for other in (
        {"certname": f"{certname}x"},
        {"challenge": f"{challenge}x"},
        {"extensions": extensions | {PP_ROLE: f"{extensions.get(PP_ROLE, '')}x"}},
    ):
        expected = {"certname": certname, "challenge": challenge, "extensions": extensions} | other
        assert refusal(pem, **expected)


@given(st.binary(max_size=400), st.integers(0, 900), st.integers(0, 255))
def test_s29_damage_is_a_refusal_and_no_crash(noise: bytes, at: int, byte: int) -> None:
    for pem in (noise, request().encode()[:at] + noise, _flipped(request().encode(), at, byte)):
        try:
            puppet_csr.read(pem)
        except puppet_csr.Unacceptable:
            continue
        assert pem == request().encode() or _same(pem)


def _flipped(pem: bytes, at: int, byte: int) -> bytes:
    return pem[:at] + bytes([byte]) + pem[at + 1 :]


def _same(pem: bytes) -> bool:
    """Whether it is the same request: white space and the last bits of base64 mean nothing."""
    return puppet_csr.read(pem) == puppet_csr.read(request().encode())


@dataclasses.dataclass
class Machine:
    """A machine whose handoff is Puppet, and the CA that asks about it."""

    site: Site
    name: str = NAME

    def arm(self) -> "Machine":
        arming.start(self.site, ACTOR, self.name)
        return self

    def boot(self, mac: str = MAC, source: str = IP) -> "Machine":
        boot.boot_script(self.site, BootRequest(mac, source))
        return self

    def row(self) -> Handoff:
        with read(self.site.engine) as session:
            found = session.scalars(
                select(Handoff).join(Build).where(Build.machine_name == self.name).order_by(Handoff.id)
            ).all()[-1]
            session.expunge(found)
            return found

    def enrolled(self) -> "Machine":
        """What the worker writes down once the CA holds nothing of that name."""
        with write(self.site.engine) as session:
            session.get_one(Handoff, self.row().id).state = "enrolled"
        return self

    def challenge(self) -> str:
        return identities.kept(self.site.keys, self.row())[SECRET]

    def trigger(self, trigger: Trigger) -> None:
        with write(self.site.engine) as session:
            build = lock(session, session.get_one(Build, self.row().build_id))
            apply_trigger(session, build, trigger)

    def request(self, **other: Any) -> str:
        return request(self.row().identity, **{"challenge": self.challenge()} | other)

    def asked(self, pem: str | None = None, certname: str | None = None) -> str:
        pem = self.request() if pem is None else pem
        return str(puppet.autosign(self.site, certname or self.row().identity, pem, CA))

    def events(self, kind: str) -> list[Event]:
        with read(self.site.engine) as session:
            return [each for each in session.scalars(select(Event).order_by(Event.id)) if each.kind == kind]


@pytest.fixture
def machine(site: Site, world: World) -> Machine:
    """Armed, booted, and enrolled: the CA may sign."""
    world.ready()
    profiles.edit(site, ACTOR, "rocky9", {"handoff": PUPPET})
    return Machine(site).arm().boot().enrolled()


@both_engines
def test_s29_the_right_request_is_signed_once_and_the_key_is_written_down(machine: Machine) -> None:
    pem = machine.request()
    others = [machine.request(signer=key(2)), machine.request(attributes={AUTO_RENEW: b"true"})]
    assert machine.asked(pem) == "sign"
    row = machine.row()
    assert (row.state, row.fingerprint) == ("issued", puppet_csr.read(pem.encode()).fingerprint)
    assert row.issued_at is not None
    (event,) = machine.events("identity-issued")
    assert row.fingerprint in event.message
    for again in (pem, *others):
        assert machine.asked(again) == "refuse"
    assert machine.row().fingerprint == row.fingerprint
    assert all(each.flagged and each.source == CA for each in machine.events("flag"))
    assert "refused, it was issued already" in machines.show(machine.site, NAME)["flag"]


@both_engines
def test_s29_of_many_at_once_one_is_signed(machine: Machine) -> None:
    requests = [machine.request(signer=key(number % 4)) for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        verdicts = list(pool.map(machine.asked, requests))
    assert sorted(verdicts) == ["refuse"] * 11 + ["sign"]


def test_s29_the_service_refuses_each_of_those_and_the_right_one_still_passes(
    site: Site, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.ready()
    monkeypatch.setattr(secrets, "token_urlsafe", lambda _bytes: CHALLENGE)
    profiles.edit(site, ACTOR, "rocky9", {"handoff": PUPPET | {"certname": CERTNAME}})
    machine = Machine(site).arm().boot().enrolled()
    monkeypatch.undo()
    for what, pem in hostile().items():
        assert machine.asked(pem) == "refuse", what
    assert CHALLENGE not in str([each.message for each in machine.events("flag")])
    assert machine.asked(request()) == "sign"


def test_s29_a_refusal_is_flagged_on_the_build_without_the_challenge(machine: Machine) -> None:
    assert machine.asked(machine.request(names=("puppet",))) == "refuse"
    (flagged,) = machine.events("flag")
    assert "refused, it asks for an extension" in flagged.message
    assert machine.row().identity in flagged.message
    assert (flagged.flagged, flagged.source) == (True, CA)
    assert machine.row().state == "enrolled"


def test_s29_a_wrong_name_beside_the_right_request_is_refused(machine: Machine) -> None:
    for certname in ("other.example.com", "", "x" * 253, "../../etc", f"{machine.row().identity} ", "\x00"):
        assert machine.asked(machine.request(), certname or "\n") == "refuse"
    assert machine.asked(request("other.example.com", machine.challenge())) == "refuse"
    assert machine.asked() == "sign"


def test_s29_another_builds_challenge_is_refused(machine: Machine, world: World) -> None:
    world.machine("web02", "52:54:00:12:34:57", "127.0.2.12")
    other = Machine(machine.site, "web02").arm().boot("52:54:00:12:34:57", "127.0.2.12").enrolled()
    assert other.challenge() != machine.challenge()
    assert machine.asked(machine.request(challenge=other.challenge())) == "refuse"
    assert other.asked(other.request(challenge=machine.challenge())) == "refuse"
    assert (machine.asked(), other.asked()) == ("sign", "sign")


@pytest.mark.parametrize(
    ("triggers", "verdict"),
    [
        ([Trigger.PROGRESS], "sign"),
        ([Trigger.PROGRESS, Trigger.BUILT], "sign"),
        ([Trigger.BUILT, Trigger.CONFIGURED], "refuse"),
        ([Trigger.BUILT, Trigger.FAILED], "refuse"),
        ([Trigger.BUILT, Trigger.CANCEL], "refuse"),
        ([Trigger.FAILED], "refuse"),
        ([Trigger.STOP], "refuse"),
        ([Trigger.CANCEL], "refuse"),
    ],
)
def test_s29_only_while_the_build_installs_or_waits(machine: Machine, triggers: list[Trigger], verdict: str) -> None:
    pem = machine.request()
    for each in triggers:
        machine.trigger(each)
    assert machine.asked(pem) == verdict


def test_s29_a_build_that_is_armed_only_is_refused(site: Site, world: World) -> None:
    world.ready()
    profiles.edit(site, ACTOR, "rocky9", {"handoff": PUPPET})
    assert Machine(site).arm().asked() == "refuse"


def test_s29_while_the_old_certificate_is_being_revoked_the_right_request_waits(machine: Machine) -> None:
    with write(machine.site.engine) as session:
        session.get_one(Handoff, machine.row().id).state = "prepared"
    assert machine.asked() == "later"
    assert machine.asked(machine.request(challenge="x")) == "refuse", "who does not know the challenge learns nothing"
    assert not machine.events("identity-issued")
    assert machine.enrolled().asked() == "sign"


def test_s29_a_revoked_identity_is_refused(machine: Machine) -> None:
    with write(machine.site.engine) as session:
        session.get_one(Handoff, machine.row().id).state = "revoked"
    assert machine.asked() == "refuse"


def test_s29_of_a_rebuild_only_the_new_challenge_is_good(machine: Machine) -> None:
    old = machine.request()
    assert machine.asked(old) == "sign"
    machine.trigger(Trigger.BUILT)
    machine.trigger(Trigger.CONFIGURED)
    machine.arm()
    assert machine.asked(old) == "refuse"
    machine.boot().enrolled()
    assert machine.asked(old) == "refuse"
    assert machine.asked() == "sign"


def test_s29_a_retried_handoff_has_a_challenge_of_its_own(machine: Machine) -> None:
    old = machine.request()
    machine.trigger(Trigger.BUILT)
    machine.trigger(Trigger.FAILED)
    handoffs.retry(machine.site, ACTOR, NAME)
    machine.enrolled()
    assert machine.asked(old) == "refuse"
    assert machine.asked() == "sign"


def test_s29_a_removed_machine_is_refused(machine: Machine) -> None:
    pem, certname = machine.request(), machine.row().identity
    builds.cancel(machine.site, ACTOR, NAME)
    machines.remove(machine.site, ACTOR, NAME)
    assert machine.asked(pem, certname) == "refuse"


def test_refusals_do_not_fill_the_database(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provisioner.services.lives._EVENTS_PER_BUILD", 10)
    for _ in range(20):
        assert machine.asked(machine.request(challenge="x")) == "refuse"
    assert len(machine.events("flag")) < 10
    assert machine.asked() == "sign"


@pytest.mark.parametrize(("issued", "state"), [(True, "configured"), (False, "failed")])
def test_a_good_run_counts_once_the_certificate_was_issued(machine: Machine, issued: bool, state: str) -> None:
    """The machine says that its run was good; without a certificate of this build it cannot have been."""
    answer = token_in(boot.boot_script(machine.site, BootRequest(MAC, IP)).text, "answer")
    token = token_in(attempts.fetch(machine.site, answer, "handoff", IP).text, "configured")
    machine.trigger(Trigger.BUILT)
    assert not issued or machine.asked() == "sign"
    assert reports.configured(machine.site, token, IP, ok=True, message="good", exit_code=2).state == state


def test_the_api_tells_a_verdict_and_no_reason(machine: Machine) -> None:
    api, right = Api(machine.site), machine.request()
    path, scope = "/handoffs/puppet:autosign", ("handoffs",)

    def ask(pem: str, certname: str = machine.row().identity, **who: Any) -> Any:
        return api.ask("POST", path, {"certname": certname, "csr": pem}, **{"role": "operator", "scope": scope} | who)

    refused = [ask(pem, certname) for pem in hostile().values() if len(pem) < 32_768 for certname in (CERTNAME, "x")]
    assert {(each.status, each.text()) for each in refused} == {(200, '{"verdict": "refuse"}')}
    assert ask(right, bearer="").status == 401
    assert ask(right, role="viewer", scope=()).status == 403
    assert ask(right, scope=("machines",)).status == 403
    assert ask(right, headers={"X-Dry-Run": "true"}).status == 400
    assert ask(right).json() == {"verdict": "sign"}
    assert ask(right).json() == {"verdict": "refuse"}
    assert api.ask("GET", "/machines", role="operator", scope=scope).status == 403, "such a token opens nothing else"


def test_a_probe_is_heard_and_never_signed(machine: Machine) -> None:
    echo = puppet.Echo(machine.site)
    mark = echo.mark()
    assert not echo.heard(mark)
    forged = mark[:-1] + ("0" if mark[-1] != "0" else "1")
    assert puppet.autosign(machine.site, f"{PREFIX}{forged}", request(), CA) == "refuse"
    assert not echo.heard(forged)
    assert puppet.autosign(machine.site, f"{PREFIX}{mark}", request(f"{PREFIX}{mark}"), CA) == "refuse"
    assert echo.heard(mark)
    assert not echo.heard(echo.mark())
    for odd in ("", "é", "x" * 300):
        assert puppet.autosign(machine.site, f"{PREFIX}{odd}", "", CA) == "refuse"


def test_s29_without_a_challenge_of_ours_an_empty_one_is_no_key(machine: Machine) -> None:
    pem = machine.request(challenge="")
    with write(machine.site.engine) as session:
        session.get_one(Handoff, machine.row().id).kept = None
    assert machine.asked(pem) == "refuse"
    assert "not kept any more" in machine.events("flag")[0].message

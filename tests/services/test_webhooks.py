"""Webhooks: what is told to whom, by a real receiver; where nothing goes (S60), whose secret it is (S62), what a body
holds (S65)."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import both_engines
from receiver import SECRET, Receiver, certificate, plain, raw, receiver
from sqlalchemy import func, select, update
from world import ACTOR, IP, MAC, World, token_in

from provisioner.core.facts import Facts
from provisioner.core.webhooks import BACKOFF, TRIES, networks, parse_url
from provisioner.errors import Conflict, InvalidInput, NameTaken, NotFound, Stale
from provisioner.services import (
    announcing,
    arming,
    attempts,
    boot,
    builds,
    check,
    deliveries,
    discovery,
    machines,
    outbound,
    records,
    reports,
    resealing,
    webhooks,
)
from provisioner.services.boot import BootRequest
from provisioner.services.machines import InterfaceInput
from provisioner.services.reports import Report
from provisioner.services.site import Site
from provisioner.store.engine import write
from provisioner.store.models import Counter, Event, Revision
from provisioner.store.webhooks import Delivery, Webhook


def allowing(site: Site, **settings: Any) -> Site:
    """The same installation where webhooks may reach loopback."""
    chosen = {"webhook_networks": ("127.0.0.0/8",)} | settings
    return replace(site, settings=site.settings.model_copy(update=chosen))


@pytest.fixture
def open_site(site: Site) -> Site:
    return allowing(site)


@pytest.fixture
def chat() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


def hook(site: Site, url: str, name: str = "chat", **fields: Any) -> dict[str, Any]:
    return webhooks.add(site, ACTOR, name, {"url": url, "secret": SECRET} | fields)


def deliver(site: Site, at: datetime | None = None) -> list[outbound.Outcome]:
    """What the worker does, once, for all webhooks."""
    while deliveries.queue_news(site, at):
        pass
    came = []
    for webhook_id in deliveries.due(site, at):
        while batch := deliveries.claim(site, webhook_id, at):
            outcomes = {job.uid: deliveries.send(site, batch, job) for job in batch.jobs}
            deliveries.settle(site, batch, outcomes, at)
            came += outcomes.values()
    return came


def rows(site: Site, name: str = "chat") -> list[dict[str, Any]]:
    return list(reversed(deliveries.listing(site, name, 500)["items"]))


def count(site: Site, model: type[Any]) -> int:
    with write(site.engine) as session:
        return session.scalar(select(func.count()).select_from(model)) or 0


class Story:
    """A machine's words on its way through a build."""

    def __init__(self, site: Site, world: World) -> None:
        self.site, self.world = site, world

    def boot(self, source: str = IP) -> str:
        return boot.boot_script(self.site, BootRequest(MAC, source, boot_url="http://127.0.0.1:8080")).text

    def install(self) -> None:
        answer = token_in(self.boot(), "answer")
        self.boot()  # the same attempt
        text = attempts.fetch(self.site, answer, "answer", IP).text
        self.event = token_in(text, "event")
        self.handoff = token_in(attempts.fetch(self.site, answer, "handoff", IP).text, "configured")
        self.answer = answer

    def says(self, step: str, message: str = "", log: str = "") -> None:
        reports.event(self.site, self.event, IP, Report(step, message, log))


@both_engines
def test_a_build_is_told_from_armed_to_configured(open_site: Site, world: World, chat: Receiver) -> None:
    world.ready(parameters={"motd": "canary-parameter"})
    world.secret("canary-secret horse")
    hook(open_site, chat.url())
    build = arming.start(open_site, ACTOR, "web01")
    story = Story(open_site, world)
    story.install()
    story.says("disk", "partitioning")
    story.says("cancelled", "an installer may say any word")
    story.says("built", log="canary-log")
    story.says("built")
    reports.configured(open_site, story.handoff, IP, ok=True, message="12 resources")
    assert all(outcome.delivered for outcome in deliver(open_site))
    assert chat.events() == [
        "build.armed",
        "build.booting",
        "build.installing",
        "build.progress",
        "build.progress",
        "build.built",
        "build.configured",
    ]
    assert all(got.signed() for got in chat.got)
    assert not any(got.signed("another secret of sixteen") for got in chat.got)
    assert len({got.uid for got in chat.got}) == len(chat.got)
    progress = chat.got[3].payload
    assert progress["id"] == chat.got[3].uid
    assert (progress["step"], progress["message"]) == ("disk", "partitioning")
    assert progress["build"] == {"id": build["id"], "number": 1, "attempt": 1, "state": "configured"}
    assert [got.payload["build"]["state"] for got in (chat.got[0], chat.got[5])] == ["armed", "built"]
    assert progress["machine"] == {"name": "web01", "state": "configured", "profile": "rocky9", "macs": [MAC]}
    assert datetime.fromisoformat(progress["at"]).tzinfo is not None
    everything = b"".join(got.body for got in chat.got).decode()
    for canary in ("canary", story.answer, story.event, story.handoff, SECRET):
        assert canary not in everything
    assert [row["state"] for row in rows(open_site)] == ["delivered"] * 7
    assert deliver(open_site) == []


@both_engines
def test_machines_are_told_without_their_values(open_site: Site, world: World, chat: Receiver) -> None:
    world.subnet()
    hook(open_site, chat.url(), events=["machine.*"])
    world.machine(parameters={"password": "canary"})
    actor = replace(ACTOR, reason="moved to rack 7\nforged line")
    machines.edit(open_site, actor, "web01", {"parameters": {"password": "canary2"}, "description": "canary3"})
    machines.rename(open_site, ACTOR, "web01", "web02")
    machines.remove(open_site, ACTOR, "web02")
    deliver(open_site)
    assert chat.events() == ["machine.added", "machine.changed", "machine.changed", "machine.removed"]
    added, changed, renamed, removed = (got.payload for got in chat.got)
    assert added["machine"]["macs"] == removed["machine"]["macs"] == [MAC]
    assert added["actor"] == "tester"
    assert changed["changed"] == ["description", "parameters"]
    assert changed["message"] == "moved to rack 7 forged line"
    assert renamed["changed"] == ["name"]
    assert removed["machine"] == {"name": "web02", "state": None, "profile": "rocky9", "macs": [MAC]}
    assert "canary" not in b"".join(got.body for got in chat.got).decode()


@both_engines
@pytest.mark.parametrize("mode", ["record", "register"])
def test_unknown_machines_are_told_once(site: Site, world: World, chat: Receiver, mode: str) -> None:
    open_site = allowing(site, discovery=mode)
    world.subnet()
    hook(open_site, chat.url())
    facts = Facts("SN\x1b[31m1", None, {"manufacturer": "Dell\r\nInc.", "product": "R6" * 200})
    sighting = discovery.Sighting("52:54:00:00:00:99", IP, facts, is_new=True)
    for _ in range(2):
        discovery.record(open_site, [sighting])
        deliver(open_site)
    assert chat.events() == ["machine.discovered"]
    told = chat.got[0].payload["machine"]
    assert told["macs"] == ["52:54:00:00:00:99"]
    assert told["state"] == "discovered"
    if mode == "record":
        assert told["vendor"] == "Dell  Inc."
        assert len(told["product"]) == 128


@both_engines
def test_a_stopped_build_and_flags_are_told(open_site: Site, world: World, chat: Receiver) -> None:
    world.ready()
    world.secret()
    hook(open_site, chat.url(), events=["build.flagged", "build.failed", "build.cancelled", "build.halted"])
    arming.start(open_site, ACTOR, "web01")
    answer = token_in(Story(open_site, world).boot(), "answer")
    attempts.unwrap(open_site, answer, "root_password", "one", IP)
    with pytest.raises(Exception, match="taken already"):
        attempts.unwrap(open_site, answer, "root_password", "two", IP)
    Story(open_site, world).boot()
    arming.start(open_site, ACTOR, "web01")
    builds.cancel(open_site, ACTOR, "web01")
    deliver(open_site)
    assert chat.events() == ["build.flagged", "build.failed", "build.halted", "build.cancelled"]


@both_engines
def test_a_build_that_a_new_one_cancels_is_told(open_site: Site, world: World, chat: Receiver) -> None:
    """It was built and waits for its handoff, or is still armed and sealed again: told once, with the reason."""
    world.ready()
    arming.start(open_site, ACTOR, "web01")
    story = Story(open_site, world)
    story.install()
    story.says("built")
    hook(open_site, chat.url(), events=["build.*"])
    arming.start(open_site, ACTOR, "web01")
    deliver(open_site)
    assert chat.events() == ["build.cancelled", "build.armed"]
    first, second = (got.payload for got in chat.got)
    assert (first["build"]["number"], first["build"]["state"]) == (1, "cancelled")
    assert first["message"] == "build 2 was armed"
    assert (second["build"]["number"], second["build"]["state"]) == (2, "armed")
    resealing.again(open_site, ACTOR, second["build"]["id"])
    deliver(open_site)
    assert chat.events()[2:] == ["build.cancelled", "build.armed"]
    assert chat.got[2].payload["message"] == "sealed again as build 3"


@both_engines
def test_it_is_told_of_what_happens_from_then_on(open_site: Site, world: World, chat: Receiver) -> None:
    world.ready()
    hook(open_site, chat.url())
    assert deliver(open_site) == []
    world.machine("web02", "52:54:00:00:00:02", "127.0.2.12")
    webhooks.edit(open_site, ACTOR, "chat", {"enabled": False})
    world.machine("web03", "52:54:00:00:00:03", "127.0.2.13")
    deliver(open_site)
    assert chat.got == []
    webhooks.edit(open_site, ACTOR, "chat", {"enabled": True})
    world.machine("web04", "52:54:00:00:00:04", "127.0.2.14")
    deliver(open_site)
    assert [got.payload["machine"]["name"] for got in chat.got] == ["web04"]


@both_engines
def test_without_webhooks_nothing_is_written_and_two_have_their_own_cursors(
    open_site: Site, world: World, chat: Receiver
) -> None:
    world.ready()
    before = count(open_site, Counter)
    assert deliver(open_site) == []
    assert (count(open_site, Counter), count(open_site, Delivery)) == (before, 0)
    hook(open_site, chat.url(), "one", events=["machine.added"])
    world.machine("web02", "52:54:00:00:00:02", "127.0.2.12")
    hook(open_site, chat.url(), "two")
    world.machine("web03", "52:54:00:00:00:03", "127.0.2.13")
    deliver(open_site)
    told = {name: [row["payload"]["machine"]["name"] for row in rows(open_site, name)] for name in ("one", "two")}
    assert told == {"one": ["web02", "web03"], "two": ["web03"]}
    webhooks.remove(open_site, ACTOR, "one")
    webhooks.remove(open_site, ACTOR, "two")
    assert (count(open_site, Counter), count(open_site, Delivery)) == (before, 0)


@both_engines
def test_what_is_derived_twice_is_one_delivery(open_site: Site, world: World, chat: Receiver) -> None:
    """Whatever a crash leaves of the cursor, the id of a delivery follows from its row."""
    world.ready()
    hook(open_site, chat.url())
    with write(open_site.engine) as session:
        webhook = session.scalars(select(Webhook)).one()
        start = announcing.load(session, webhook)
    world.machine("web02", "52:54:00:00:00:02", "127.0.2.12")
    deliver(open_site)
    with write(open_site.engine) as session:
        announcing.keep(session, webhook, start)
    deliver(open_site)
    assert chat.events() == ["machine.added"]


def test_ids_that_sqlite_gives_again_are_told(open_site: Site, world: World, chat: Receiver) -> None:
    world.armed()
    hook(open_site, chat.url(), events=["build.*"])
    builds.cancel(open_site, ACTOR, "web01")
    deliver(open_site)
    with write(open_site.engine) as session:
        newest = session.scalars(select(Event).order_by(Event.id.desc()).limit(1)).one()
        session.delete(newest)
    deliver(open_site)
    arming.start(open_site, ACTOR, "web01")
    deliver(open_site)
    assert chat.events() == ["build.cancelled", "build.armed"]


def test_many_rows_are_taken_in_batches(
    open_site: Site, world: World, chat: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcing, "BATCH", 7)
    monkeypatch.setattr(deliveries, "BATCH", 4)
    world.subnet()
    hook(open_site, chat.url(), events=["machine.changed"])
    world.machine()
    for number in range(30):
        machines.edit(open_site, ACTOR, "web01", {"description": str(number)})
    assert len(deliver(open_site)) == 30
    assert len({got.uid for got in chat.got}) == 30
    moments = [got.payload["at"] for got in chat.got]
    assert moments == sorted(moments)


@both_engines
def test_s65_retried_with_back_off_then_given_up_then_asked_for_again(
    open_site: Site, world: World, chat: Receiver
) -> None:
    chat.status = 500
    world.subnet()
    hook(open_site, chat.url())
    world.machine()
    at = datetime.now(UTC) + timedelta(seconds=1)
    for tries, wait in enumerate((*BACKOFF, None), start=1):
        assert [outcome.status for outcome in deliver(open_site, at)] == [500]
        row = rows(open_site)[0]
        assert (row["attempts"], row["status"], row["error"]) == (tries, 500, "answered 500")
        assert deliver(open_site, at + timedelta(seconds=5)) == []
        if wait is not None:
            due = datetime.fromisoformat(row["due_at"])
            assert wait * 0.9 - timedelta(seconds=1) <= due - at <= wait * 1.1
            at = due + timedelta(seconds=1)
    assert (row["state"], row["due_at"], len(chat.got)) == ("given-up", None, TRIES)
    assert deliver(open_site, at + timedelta(days=7)) == []
    assert len({(got.uid, got.body) for got in chat.got}) == 1, "every try says the same"
    chat.status = 200
    deliveries.redeliver(open_site, ACTOR, row["uid"])
    assert [outcome.status for outcome in deliver(open_site)] == [200]
    assert rows(open_site)[0]["state"] == "delivered"
    with pytest.raises(NotFound):
        deliveries.redeliver(open_site, ACTOR, "nothing")


def test_a_failure_holds_up_neither_later_events_nor_others(open_site: Site, world: World, chat: Receiver) -> None:
    """One payload that a receiver cannot digest; it comes again when its own time has come."""
    chat.answer = lambda handler, number: plain(handler, 400 if number == 1 else 200)
    world.subnet()
    hook(open_site, chat.url())
    world.machine()
    machines.edit(open_site, ACTOR, "web01", {"description": "x"})
    at = datetime.now(UTC) + timedelta(seconds=1)
    deliver(open_site, at)
    assert chat.events() == ["machine.added", "machine.changed"]
    assert [row["state"] for row in rows(open_site)] == ["waiting", "delivered"]
    deliver(open_site, at + timedelta(seconds=12))
    assert chat.events() == ["machine.added", "machine.changed", "machine.added"]


@both_engines
def test_two_workers_never_have_the_same_delivery(open_site: Site, world: World, chat: Receiver) -> None:
    world.subnet()
    hook(open_site, chat.url())
    world.machine()
    deliveries.queue_news(open_site)
    (webhook_id,) = deliveries.due(open_site)
    at = datetime.now(UTC)
    first = deliveries.claim(open_site, webhook_id, at)
    assert first is not None
    assert deliveries.claim(open_site, webhook_id, at) is None
    # whoever claimed it was killed
    again = deliveries.claim(open_site, webhook_id, at + deliveries.LEASE)
    assert again is not None
    assert [job.uid for job in again.jobs] == [job.uid for job in first.jobs]
    # what was not tried goes back to its place
    deliveries.settle(open_site, again, {})
    assert deliveries.due(open_site) == [webhook_id]
    assert rows(open_site)[0]["attempts"] == 0


def test_a_webhook_that_was_removed_meanwhile_is_no_error(open_site: Site, world: World, chat: Receiver) -> None:
    world.subnet()
    hook(open_site, chat.url())
    world.machine()
    deliveries.queue_news(open_site)
    batch = deliveries.claim(open_site, deliveries.due(open_site)[0])
    assert batch is not None
    webhooks.remove(open_site, ACTOR, "chat")
    hook(open_site, chat.url(), "other")
    machines.edit(open_site, ACTOR, "web01", {"description": "x"})
    deliveries.queue_news(open_site)
    outcomes = {job.uid: deliveries.send(open_site, batch, job) for job in batch.jobs}
    deliveries.settle(open_site, batch, outcomes)
    assert [row["state"] for row in rows(open_site, "other")] == ["waiting"]


@both_engines
def test_old_and_too_many_deliveries_go(
    open_site: Site, world: World, chat: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subnet()
    hook(open_site, chat.url())
    world.machine()
    for number in range(9):
        machines.edit(open_site, ACTOR, "web01", {"description": str(number)})
    deliver(open_site)
    at = datetime.now(UTC)
    assert deliveries.prune(open_site, at + deliveries.KEPT - timedelta(minutes=1)) == 0
    monkeypatch.setattr(deliveries, "MOST_KEPT", 6)
    assert deliveries.prune(open_site, at) == 4
    assert [row["event"] for row in rows(open_site)] == ["machine.changed"] * 6
    with write(open_site.engine) as session:
        session.execute(update(Delivery).where(Delivery.uid == rows(open_site)[0]["uid"]).values(due_at=at))
    assert deliveries.prune(open_site, at + deliveries.KEPT + timedelta(minutes=1)) == 5
    assert len(rows(open_site)) == 1, "what waits is not old"


# --- what a receiver may do


def send(site: Site, url: str, **options: Any) -> outbound.Outcome:
    allowed = networks(site.settings.webhook_networks)
    return outbound.post(parse_url(url), {"X-Test": "1"}, b"{}", allowed=allowed, **options)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_s60_redirects_are_not_followed(open_site: Site, chat: Receiver, status: int) -> None:
    chat.answer = lambda handler, _: plain(handler, status, Location=chat.url(path="/elsewhere"))
    came = send(open_site, chat.url())
    assert (came.status, came.delivered) == (status, False)
    assert "redirects are not followed" in came.error
    assert [got.path for got in chat.got] == ["/hook"]


def test_s60_a_giant_answer_is_cut_and_never_kept(open_site: Site, world: World) -> None:
    sent = []

    def talk(peer: socket.socket) -> None:
        hear(peer)
        peer.sendall(b"HTTP/1.1 500 canary-reason\r\nX-Canary: canary-header\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            sent.append(peer.send(b"canary-body" * 1000))

    with raw(talk) as giant:
        world.subnet()
        hook(open_site, giant.url())
        world.machine()
        (came,) = deliver(open_site)
    assert (came.status, came.error) == (500, "answered 500")
    assert sum(sent) < 50_000_000, "far less than it wanted to send"
    assert "canary" not in json.dumps([rows(open_site), webhooks.show(open_site, "chat")])


def hear(peer: socket.socket) -> None:
    """The whole request: a socket that is closed with some of it unread resets the connection."""
    heard = b""
    while not heard.endswith(b"}"):
        heard += peer.recv(65536) or b"}"


DRIPS = {
    "never answers": lambda peer: list(iter(lambda: peer.recv(65536), b"")),
    "head": lambda peer: drip(peer, b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 1000),
    "body": lambda peer: drip(peer, b"x" * 1000, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
    "hundred continues": lambda peer: drip(peer, b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
}


def drip(peer: socket.socket, slowly: bytes, first: bytes = b"") -> None:
    hear(peer)
    peer.sendall(first)
    for number in range(len(slowly)):
        peer.sendall(slowly[number : number + 1])
        time.sleep(0.05)


@pytest.mark.parametrize("talk", DRIPS.values(), ids=DRIPS)
def test_s60_a_slow_answer_ends_at_the_limit(open_site: Site, talk: Any) -> None:
    with raw(talk) as slow:
        began = time.monotonic()
        came = send(open_site, slow.url(), seconds=1.0)
        assert time.monotonic() - began < 45, "a minute and more would be the drip's own time"
    assert (came.status, came.error) == (None, "no whole answer within 1 s")


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"SSH-2.0-canary\r\n",
        b"HTTP/1.1 canary OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: canary\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 " + b"canary" * 20000,
        b"HTTP/1.1 200 OK\r\nContent-Length: canary\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 50_000,
    ],
    ids=["nothing", "ssh", "no-status", "many-headers", "long-line", "cut", "continues"],
)
def test_s60_whatever_answers_is_no_crash_and_is_not_echoed(open_site: Site, said: bytes) -> None:
    def talk(peer: socket.socket) -> None:
        hear(peer)
        peer.sendall(said)

    with raw(talk) as strange:
        came = send(open_site, strange.url())
    assert "canary" not in came.error
    assert came.delivered is (b"Content-Length: canary" in said)


def test_s60_a_head_without_end_is_cut(open_site: Site) -> None:
    def talk(peer: socket.socket) -> None:
        hear(peer)
        while True:
            peer.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)

    with raw(talk) as endless:
        assert send(open_site, endless.url(), seconds=60).error == "what answered does not speak HTTP"


def test_nobody_listens(open_site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert send(open_site, f"http://127.0.0.1:{port}/").error == "Connection refused"


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_s62_tls_is_verified(site: Site, tmp_path: Path, name: str) -> None:
    # A localhost that is ::1 first is tried there, in vain.
    open_site = allowing(site, webhook_networks=("127.0.0.0/8", "::1/128"))
    pair = certificate(tmp_path, name)
    with receiver(certificate=pair) as secure:
        untrusted = send(open_site, secure.url(name))
        assert "certificate is not trusted" in untrusted.error
        assert secure.got == []
        assert send(open_site, secure.url(name), ca_file=pair[0]).delivered
        other = "localhost" if name == "127.0.0.1" else "127.0.0.1"
        assert "certificate is not trusted" in send(open_site, secure.url(other), ca_file=pair[0]).error
        missing = send(open_site, secure.url(name), ca_file=tmp_path / "none")
        assert "webhook_ca_file" in missing.error
    with receiver() as clear:
        assert "TLS failed" in send(open_site, clear.url().replace("http", "https", 1)).error


def test_the_ca_file_of_the_settings_is_used(site: Site, world: World, tmp_path: Path) -> None:
    pair = certificate(tmp_path, "127.0.0.1")
    open_site = allowing(site, webhook_ca_file=pair[0])
    with receiver(certificate=pair) as secure:
        hook(open_site, secure.url())
        assert webhooks.test(open_site, ACTOR, "chat")["delivered"]
    assert secure.got[0].signed()


# --- S60: where nothing goes


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost", "169.254.169.254", "0.0.0.0", "[::ffff:7f00:1]"])
def test_s60_addresses_are_refused_at_input(site: Site, host: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        hook(site, f"http://{host}/hook")
    assert "webhook_networks" in refused.value.hint
    assert webhooks.listing(site) == []


def test_s60_addresses_are_checked_when_connecting(site: Site, world: World, chat: Receiver) -> None:
    """What was allowed when it was configured, and is not any more."""
    world.subnet()
    hook(allowing(site), chat.url())
    world.machine()
    (came,) = deliver(site)
    assert came.status is None
    assert "127.0.0.1: this host itself; the setting webhook_networks can allow it" in came.error
    assert chat.got == []
    assert "this host itself" in webhooks.test(site, ACTOR, "chat")["error"]


@pytest.mark.parametrize(
    "answers",
    [["169.254.169.254"], ["127.0.0.1"], ["10.255.255.1", "127.0.0.1"], ["::1"], ["64:ff9b::7f00:1"], ["fe80::1%lo"]],
)
def test_s60_a_name_that_leads_inside_is_refused(
    site: Site, chat: Receiver, monkeypatch: pytest.MonkeyPatch, answers: list[str]
) -> None:
    """DNS is somebody else's: every address of a name is looked at, and one that is refused refuses the name."""
    asked = resolving(monkeypatch, answers)
    came = send(site, f"http://receiver.example:{chat.port}/hook")
    assert came.status is None
    assert "webhook_networks" in came.error
    assert chat.got == []
    assert asked == ["receiver.example"]


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """DNS that gives these answers, one after the other; what it was asked."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def answer(host: str, port: Any, *rest: Any, **options: Any) -> Any:
        if not host.endswith(".example"):
            return real(host, port, *rest, **options)
        found = answers[min(len(asked), len(answers) - 1)]
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 0)) for each in found]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return asked


def test_s60_dns_that_changes_its_answer_changes_nothing(
    site: Site, chat: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rebinding: the address that was checked is the one that is connected to, and nobody asks again."""
    open_site = allowing(site, webhook_networks=("127.0.0.2/32",))
    asked = resolving(monkeypatch, ["127.0.0.2"], ["127.0.0.1"])
    came = send(open_site, f"http://receiver.example:{chat.port}/hook")
    assert asked == ["receiver.example"]
    assert came.error == "Connection refused"
    assert chat.got == []


def test_s60_dns_that_hangs_ends_at_the_limit(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    over, ended = threading.Event(), threading.Event()

    def hang(*_: Any, **__: Any) -> Any:
        over.wait(60)
        ended.set()
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    assert send(site, "http://receiver.example/", seconds=0.2).error == "no whole answer within 0.2 s"
    over.set()
    assert ended.wait(30)


def test_s60_this_hosts_own_addresses_are_refused(site: Site) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this host has no address but loopback")
        own = probe.getsockname()[0]
    came = send(site, f"http://{own}:9/")
    assert f"{own} is {own}: this host itself" in came.error
    assert send(allowing(site, webhook_networks=(f"{own}/32",)), f"http://{own}:9/").error == "Connection refused"


def test_no_proxy_of_the_environment_is_used(open_site: Site, chat: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert send(open_site, chat.url()).delivered


# --- S62 and the objects


@both_engines
@pytest.mark.parametrize("where", ["host", "port", "scheme"])
def test_s62_another_receiver_does_not_get_the_old_secret(
    open_site: Site, world: World, chat: Receiver, where: str
) -> None:
    world.subnet()
    hook(open_site, chat.url())
    world.machine()
    deliveries.queue_news(open_site)
    url = {
        "host": chat.url("127.0.0.2"),
        "port": f"http://127.0.0.1:{chat.port + 1}/hook",
        "scheme": chat.url().replace("http", "https", 1),
    }[where]
    changed = webhooks.edit(open_site, ACTOR, "chat", {"url": url})
    assert (changed["secret"], changed["enabled"], changed["waiting"]) == (None, False, 0)
    assert deliver(open_site) == []
    assert chat.got == []
    assert "another receiver" in rows(open_site)[0]["error"]
    with pytest.raises(Conflict):
        webhooks.test(open_site, ACTOR, "chat")
    with pytest.raises(Conflict):
        webhooks.edit(open_site, ACTOR, "chat", {"enabled": True})
    again = webhooks.edit(open_site, ACTOR, "chat", {"enabled": True, "secret": SECRET})
    assert again["secret"].startswith("****")
    assert again["enabled"]


def test_s62_with_the_secret_or_on_the_same_host_it_stays(open_site: Site, chat: Receiver) -> None:
    hook(open_site, chat.url())
    path = webhooks.edit(open_site, ACTOR, "chat", {"url": chat.url(path="/other")})
    assert path["enabled"]
    assert path["secret"]
    moved = webhooks.edit(open_site, ACTOR, "chat", {"url": chat.url("127.0.0.2"), "secret": SECRET})
    assert moved["enabled"]
    assert moved["secret"]


@both_engines
def test_objects_as_all_others(open_site: Site, chat: Receiver) -> None:
    made = webhooks.add(open_site, ACTOR, "chat", {"url": chat.url(), "events": ["build.*"], "description": "d"})
    assert len(made["key"]) >= 32
    shown = webhooks.show(open_site, "chat")
    assert shown == {key: value for key, value in made.items() if key != "key"}
    assert made["key"] not in json.dumps([webhooks.listing(open_site), records.listing(open_site, "chat")])
    with pytest.raises(NameTaken):
        hook(open_site, chat.url())
    with pytest.raises(Stale):
        webhooks.edit(open_site, ACTOR, "chat", {"description": "x"}, expect="9.9")
    with pytest.raises(Stale):
        webhooks.rename(open_site, ACTOR, "chat", "talk", expect="9.9")
    with pytest.raises(Stale):
        webhooks.remove(open_site, ACTOR, "chat", expect="9.9")
    renamed = webhooks.rename(open_site, ACTOR, "chat", "talk", expect=made["revision"])
    assert renamed["revision"] != made["revision"]
    fresh = webhooks.edit(open_site, ACTOR, "talk", {}, new_secret=True)
    assert fresh["key"] != made["key"]
    assert webhooks.test(open_site, ACTOR, "talk")["status"] == 204
    assert chat.got[0].signed(fresh["key"])
    assert chat.got[0].event == "ping"
    webhooks.remove(open_site, ACTOR, "talk", expect=fresh["revision"])
    with pytest.raises(NotFound):
        webhooks.show(open_site, "talk")
    actions = [row["action"] for row in records.listing(open_site) if row["kind"] == "webhook"]
    assert actions == ["remove", "edit", "edit", "add"]


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({}, "url"),
        ({"url": "file:///etc/passwd"}, "url"),
        ({"url": "http://10.0.2.9/", "secret": "short"}, "secret"),
        ({"url": "http://10.0.2.9/", "secret": "x" * 256}, "secret"),
        ({"url": "http://10.0.2.9/", "secret": "sixteen and more\n"}, "secret"),
        ({"url": "http://10.0.2.9/", "events": ["build.fail"]}, "events"),
        ({"url": "http://10.0.2.9/", "enabled": "no"}, "enabled"),
        ({"url": "http://10.0.2.9/", "description": "x" * 4001}, "description"),
        ({"url": "http://10.0.2.9/", "colour": "red"}, ""),
    ],
)
def test_wrong_input_is_refused_and_nothing_is_left(site: Site, fields: dict[str, Any], where: str) -> None:
    before = count(site, Revision)
    with pytest.raises(InvalidInput) as refused:
        webhooks.add(site, ACTOR, "chat", fields)
    assert refused.value.where == where
    assert webhooks.listing(site) == []
    assert count(site, Revision) == before


@both_engines
def test_secrets_are_bound_to_their_rows(open_site: Site, chat: Receiver) -> None:
    """Two swapped ciphertexts sign nothing."""
    hook(open_site, chat.url(), "one")
    hook(open_site, chat.url(), "two", secret="another secret of sixteen")
    with write(open_site.engine) as session:
        one, two = session.scalars(select(Webhook).order_by(Webhook.name)).all()
        assert SECRET.encode() not in (one.ciphertext or b"")
        one.ciphertext, two.ciphertext = two.ciphertext, one.ciphertext
    with pytest.raises(Exception, match="moved or damaged"):
        webhooks.test(open_site, ACTOR, "one")
    machines.add(open_site, ACTOR, "web09", [InterfaceInput("52:54:00:00:00:09")], {})
    assert all("moved or damaged" in outcome.error for outcome in deliver(open_site))
    assert chat.got == []


def test_check_tells_of_a_webhook_that_keeps_failing(open_site: Site, world: World, chat: Receiver) -> None:
    chat.status = 503
    world.subnet()
    hook(open_site, chat.url())
    world.machine()
    at = datetime.now(UTC) + timedelta(seconds=1)
    deliver(open_site, at)
    assert not list(check.webhooks(open_site))
    deliver(open_site, at + timedelta(minutes=1))
    (finding,) = check.webhooks(open_site)
    assert finding.what == "webhook chat fails: answered 503"
    assert "webhook test chat" in finding.remedy
    chat.status = 200
    deliver(open_site, at + timedelta(minutes=10))
    assert not list(check.webhooks(open_site))


def test_pages_of_deliveries(open_site: Site, world: World, chat: Receiver) -> None:
    world.subnet()
    hook(open_site, chat.url())
    world.machine()
    for number in range(4):
        machines.edit(open_site, ACTOR, "web01", {"description": str(number)})
    deliver(open_site)
    first = deliveries.listing(open_site, "chat", 3)
    second = deliveries.listing(open_site, "chat", 3, first["next"])
    assert [len(first["items"]), len(second["items"]), second["next"]] == [3, 2, None]
    assert [row["uid"] for row in first["items"] + second["items"]] == [got.uid for got in reversed(chat.got)]
    with pytest.raises(InvalidInput):
        deliveries.listing(open_site, "chat", 3, "nonsense")
    with pytest.raises(NotFound):
        deliveries.listing(open_site, "nobody")

"""The worker: many webhooks at once, and kill -9 in the middle."""

import os
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from conftest import Served, both_engines, served_environment, wait_for
from played import processes
from receiver import SECRET, plain, raw, receiver
from sqlalchemy import update
from world import ACTOR, World

from provisioner.services import deliveries, machines, webhooks
from provisioner.services.machines import InterfaceInput
from provisioner.services.site import Site
from provisioner.store.engine import write
from provisioner.store.webhooks import Delivery
from provisioner.worker import child


@pytest.fixture
def open_site(site: Site) -> Site:
    return replace(site, settings=site.settings.model_copy(update={"webhook_networks": ("127.0.0.0/8",)}))


@pytest.fixture
def working(open_site: Site) -> Iterator[Site]:
    """The worker's loop runs in a thread."""
    stop = threading.Event()
    thread = threading.Thread(target=child.run, args=(open_site, stop), daemon=True)
    thread.start()
    yield open_site
    stop.set()
    thread.join(60)
    assert not thread.is_alive()


def add_machines(site: Site, numbers: range) -> None:
    for number in numbers:
        machines.add(
            site, ACTOR, f"m{number}", [InterfaceInput(f"52:54:00:00:{number >> 8:02x}:{number & 255:02x}")], {}
        )


@both_engines
def test_deliveries_arrive_by_themselves_and_in_order(working: Site) -> None:
    with receiver() as one, receiver() as two:
        webhooks.add(working, ACTOR, "one", {"url": one.url(), "secret": SECRET})
        webhooks.add(working, ACTOR, "two", {"url": two.url(), "secret": SECRET})
        add_machines(working, range(30))
        wait_for(lambda: len(one.got) >= 30 and len(two.got) >= 30, 60, "thirty deliveries each")
        wait_for(lambda: not deliveries.due(working), 120, "an empty queue")
    for each in (one, two):
        assert [got.payload["machine"]["name"] for got in each.got] == [f"m{number}" for number in range(30)]
    assert not {got.uid for got in one.got} & {got.uid for got in two.got}


def test_a_hanging_receiver_holds_up_nobody_else(working: Site) -> None:
    """A single queue would stand still for ten seconds each; each is asked once and then rests."""
    connections = []
    over = threading.Event()

    def hang(peer: object) -> None:
        connections.append(peer)
        over.wait(60)

    with raw(hang) as hanging, receiver() as good:
        for number in range(8):
            webhooks.add(working, ACTOR, f"hanging{number}", {"url": hanging.url(), "secret": SECRET})
        webhooks.add(working, ACTOR, "good", {"url": good.url(), "secret": SECRET})
        add_machines(working, range(5))
        wait_for(lambda: len(good.got) == 5, 120, "the good receiver's deliveries")
        wait_for(lambda: len(connections) >= 8, 120, "every hanging one asked")
        states = [deliveries.listing(working, f"hanging{number}", 50)["items"] for number in range(8)]
        assert all(row["attempts"] <= 1 for rows in states for row in rows)
        over.set()


def test_at_most_one_in_flight_for_one_webhook(open_site: Site) -> None:
    """However often the worker looks while a delivery hangs and many wait behind it."""
    go = threading.Event()

    def answer(handler: BaseHTTPRequestHandler, _: int) -> None:
        go.wait(30)
        plain(handler, 200)

    worker = child.Worker(open_site, threading.Event())
    with receiver(answer) as one:
        webhooks.add(open_site, ACTOR, "one", {"url": one.url(), "secret": SECRET})
        add_machines(open_site, range(2 * deliveries.BATCH + 10))
        worker.look()
        wait_for(lambda: one.got, 120, "the first delivery")
        for _ in range(3):
            worker.look()
        running = [thread for thread in threading.enumerate() if thread.name.startswith("webhook")]
        go.set()
        wait_for(lambda: len(one.got) == 2 * deliveries.BATCH + 10, 60, "all deliveries")
        worker.end()
    assert len(running) == 1


def test_a_receiver_that_fails_and_comes_back(working: Site) -> None:
    with receiver(lambda handler, number: plain(handler, 503 if number <= 2 else 200)) as flaky:
        webhooks.add(working, ACTOR, "flaky", {"url": flaky.url(), "secret": SECRET})
        add_machines(working, range(1))

        def taken() -> bool:
            soon(working)
            return deliveries.listing(working, "flaky", 1)["items"][:1] != [] and (
                deliveries.listing(working, "flaky", 1)["items"][0]["state"] == "delivered"
            )

        wait_for(taken, 120, "the third try")
    assert len(flaky.got) == 3
    assert len({got.uid for got in flaky.got}) == 1


def soon(site: Site) -> None:
    """As if the back-off, or the lease of whoever was killed, were over."""
    with write(site.engine) as session:
        session.execute(update(Delivery).where(Delivery.due_at > datetime.now(UTC)).values(due_at=datetime.now(UTC)))


@pytest.mark.slow
def test_killed_in_the_middle_nothing_is_lost_and_nothing_doubled(_template: Path, tmp_path: Path) -> None:
    """kill -9 at whatever it does, again and again, while machines are added: each is told, under one id."""
    shutil.copytree(_template, tmp_path / "state")
    environment = served_environment(tmp_path / "state") | {"PROVISIONER_WEBHOOK_NETWORKS": "127.0.0.0/8"}
    served = Served(environment, tmp_path / "state", log=tmp_path / "log")
    served.start()
    site = served.site
    killed = []

    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        # Sometimes before it hears the answer, sometimes while it writes down what came.
        if number % 17 == 3 and len(killed) < 8:
            kill()
        plain(handler, 200)
        if number % 17 == 9 and len(killed) < 8:
            kill()

    def kill() -> None:
        for pid, name in processes(served.state).items():
            if name == "worker":
                killed.append(pid)
                os.kill(pid, signal.SIGKILL)

    try:
        with receiver(answer) as one:
            webhooks.add(site, ACTOR, "one", {"url": one.url(), "secret": SECRET})
            add_machines(site, range(120))

            def told() -> bool:
                soon(site)
                return len({got.uid for got in one.got}) >= 120

            wait_for(told, 120, "every machine told")
            wait_for(lambda: soon(site) or not deliveries.due(site), 60, "an empty queue")
            World(site, tmp_path).subnet()
    finally:
        served.stop()
        site.engine.dispose()
    assert len(killed) >= 4
    by_name = {got.payload["machine"]["name"]: got.uid for got in one.got}
    assert set(by_name) == {f"m{number}" for number in range(120)}
    assert len({got.uid for got in one.got}) == 120, "one id for each event"
    rows = [*pages(site, "one")]
    assert sorted(row["uid"] for row in rows) == sorted(by_name.values())
    assert {row["state"] for row in rows} == {"delivered"}
    site.engine.dispose()


def pages(site: Site, name: str) -> Iterator[dict[str, str]]:
    """Every delivery."""
    cursor = None
    while True:
        page = deliveries.listing(site, name, 50, cursor)
        yield from page["items"]
        cursor = page["next"]
        if cursor is None:
            return


def test_the_database_is_away_and_comes_back(open_site: Site, tmp_path: Path) -> None:
    worker = child.Worker(open_site, threading.Event())
    path = open_site.settings.state_dir / "provisioner.db"
    with receiver() as one:
        webhooks.add(open_site, ACTOR, "one", {"url": one.url(), "secret": SECRET})
        add_machines(open_site, range(1))
        open_site.engine.dispose()
        path.rename(tmp_path / "away")
        worker.look()
        assert one.got == []
        (tmp_path / "away").rename(path)
        worker.look()
        wait_for(lambda: one.got, 120, "the delivery")
        worker.end()
    assert deliveries.listing(open_site, "one")["items"][0]["state"] == "delivered"


def test_where_nobody_answers_the_webhook_rests(open_site: Site) -> None:
    """One try for all that waits, then a rest: order is kept, and a dead receiver costs ten seconds at most."""
    clock = [0.0]
    worker = child.Worker(open_site, threading.Event(), lambda: clock[0])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    webhooks.add(open_site, ACTOR, "gone", {"url": url, "secret": SECRET})
    add_machines(open_site, range(3))

    def tried() -> list[int]:
        worker.look()
        wait_for(lambda: not worker._busy, 120, "an idle worker")
        return [row["attempts"] for row in reversed(deliveries.listing(open_site, "gone")["items"])]

    assert tried() == [1, 0, 0]
    assert tried() == [1, 0, 0]
    clock[0] += child._REST_SECONDS + 1
    assert tried() == [1, 1, 0]
    worker.end()

"""`GET /metrics`: what all processes counted together, who may read it, and that labels stay few."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Served, tftp_answers, wait_for
from ownservice import own_service
from played import Played, processes, tftp_get
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import select

from provisioner.services.site import Site
from provisioner.store.engine import read
from provisioner.store.models import Build, BuildTraffic

pytestmark = pytest.mark.slow
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(scope="module")
def token(served: Any) -> str:
    """A token as Prometheus would get one: it may read builds, and nothing else."""
    return reader(served)


def reader(served: Any) -> str:
    """Makes it."""
    options = ("--user", "admin", "--role", "viewer", "--scope", "builds")
    return str(served.cli_json("token", "add", "prometheus", *options)["token"])


def scrape(served: Any, token: str) -> Samples:
    """All samples, read by Prometheus' own parser."""
    reply = served.http(f"{served.admin}/metrics", headers={"Authorization": f"Bearer {token}"})
    assert reply.status == 200, reply.text
    assert reply.headers["content-type"].startswith("text/plain; version=")
    families = list(text_string_to_metric_families(reply.text))
    assert all(family.documentation for family in families)
    assert len({family.name for family in families}) == len(families)
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for each in families for one in each.samples}


def value(samples: Samples, name: str, **labels: str) -> float:
    """The sum of the samples with these labels."""
    return sum(
        number
        for (sample, pairs), number in samples.items()
        if sample == f"provisioner_{name}" and labels.items() <= dict(pairs).items()
    )


def test_who_may_read_metrics(served: Any, token: str) -> None:
    place = f"{served.admin}/metrics"
    assert served.http(place).status == 401
    assert served.http(place).headers["www-authenticate"].startswith("Bearer")
    assert served.http(place, headers={"Authorization": "Bearer pvt_nobody"}).status == 401
    other = served.cli_json("token", "add", "inventory", "--user", "admin", "--role", "viewer", "--scope", "subnets")
    refused = served.http(place, headers={"Authorization": f"Bearer {other['token']}"})
    assert (refused.status, refused.json()["code"]) == (403, "forbidden")
    assert served.http(place, headers={"Authorization": f"Bearer {token}"}).status == 200
    for base in (served.boot, served.media):
        assert served.http(f"{base}/metrics").status == 404


def test_a_boot_is_counted_once_by_every_process_it_meets(
    served: Any, token: str, play: Callable[..., Played], inside: Site, tmp_path: Path
) -> None:
    machine = play(profile="rocky9").arm()
    before = scrape(served, token)
    assert machine.tftp("autoexec.ipxe") is not None
    assert machine.tftp("autoexec.ipxe") is not None
    assert machine.tftp("nothing-like-that") is None
    script = machine.ipxe()
    tokens = machine.tokens()
    assert machine.event(tokens["event"], "disk").status == 200
    kernel = next(part for part in script.split() if "/media/sha256/" in part)
    assert served.http(kernel, source=machine.ip).status == 200
    assert machine.event(tokens["event"], "built").status == 200

    def counted() -> Samples | None:
        after = scrape(served, token)
        return after if gained("media_downloads_total", after) and gained("tftp_server_events_total", after) else None

    def gained(name: str, after: Samples, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    after: Samples = wait_for(counted, what="the counts of all processes")
    assert gained("tftp_transfers_total", after, outcome="complete", file="autoexec.ipxe") == 2
    assert gained("tftp_transfers_total", after, outcome="not-found", file="other") == 1
    assert gained("tftp_transfer_seconds_count", after, outcome="complete") == 2
    assert gained("tftp_sent_bytes_total", after, file="autoexec.ipxe") == 2 * len(machine.tftp("autoexec.ipxe") or b"")
    assert gained("boot_requests_total", after, kind="script", decision="build", status="200") == 2
    assert gained("boot_requests_total", after, kind="answer", status="200") == 1
    assert gained("boot_requests_total", after, kind="handoff") == 1
    assert gained("boot_requests_total", after, kind="event", status="200") == 2
    assert gained("boot_request_seconds_count", after, kind="event") == 2
    assert gained("media_downloads_total", after, kind="media", outcome="complete") == 1
    assert gained("media_sent_bytes_total", after, kind="media") > 0
    assert value(after, "database_up") == 1
    assert value(after, "builds", state="built") + value(after, "machines", state="configured") >= 1
    assert gained("machines", after) == 0
    assert value(after, "build_info") == 1


def test_s28_s81_what_a_machine_sends_is_no_label(served: Any, token: str, play: Callable[..., Played]) -> None:
    machine = play(profile="rocky9").arm()
    tokens = machine.tokens()
    names = [f'x{number}"}} provisioner_evil 1 #' for number in range(40)]
    names += [f"grub/by-mac/52:54:00:ee:00:{number:02x}" for number in range(40)]
    for name in names:
        tftp_get(served.tftp, name, machine.ip)
    for number in range(40):
        served.http(f"/evil{number}/%22%7d/{tokens['answer']}", source=machine.ip)
        served.http(f"/boot/evil{number}", source=machine.ip)
        served.http(f"/build/{tokens['answer']}/evil{number}", source=machine.ip)
        served.http(f"{served.media}/media/evil{number}/a", source=machine.ip)
    reply = served.http(f"{served.admin}/metrics", headers={"Authorization": f"Bearer {token}"})
    for secret in (*tokens.values(), machine.mac, machine.ip, "evil", "ee:00"):
        assert secret not in reply.text
    samples = scrape(served, token)
    files = {dict(pairs)["file"] for name, pairs in samples if name == "provisioner_tftp_transfers_total"}
    assert {"other", "grub/by-mac"} <= files
    assert len(samples) < 600


def test_openmetrics_is_spoken_to_who_asks_for_it(served: Any, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/openmetrics-text; version=1.0.0"}
    reply = served.http(f"{served.admin}/metrics", headers=headers)
    assert reply.headers["content-type"].startswith("application/openmetrics-text")
    assert reply.text.endswith("# EOF\n")


@pytest.fixture
def service(_template: Path, tmp_path: Path) -> Iterator[Served]:
    """A service of the test's own, since the test breaks it."""
    with own_service(_template, tmp_path) as served:
        yield served


def test_counts_outlive_the_process_that_counted_and_what_it_had_under_way_does_not(service: Served) -> None:
    token = reader(service)
    for _ in range(3):
        assert tftp_get(service.tftp, "autoexec.ipxe", "127.0.0.1") is not None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.sendto(b"\0\1autoexec.ipxe\0octet\0", service.tftp)
        wait_for(lambda: value(scrape(service, token), "tftp_sessions") == 1, what="a transfer under way")
        victims = [pid for pid, name in processes(service.state).items() if name == "tftp"]
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: value(scrape(service, token), "child_restarts_total") == len(victims), what="another child")
    wait_for(lambda: tftp_answers(service.tftp), what="TFTP again")
    assert tftp_get(service.tftp, "autoexec.ipxe", "127.0.0.1")

    def four() -> bool:
        samples = scrape(service, token)
        done = value(samples, "tftp_transfers_total", outcome="complete", file="autoexec.ipxe")
        return done == 4 and value(samples, "tftp_sessions") == 0

    wait_for(four, what="the transfers before and after")


def test_transfers_are_in_the_build_s_timeline(served: Any, play: Callable[..., Played], inside: Site) -> None:
    machine = play(profile="rocky9").arm()
    assert machine.tftp("autoexec.ipxe") is not None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind((machine.ip, 0))
        client.settimeout(15)
        client.sendto(b"\0\1undionly.kpxe\0octet\0", served.tftp)
        _, peer = client.recvfrom(2048)
        client.sendto(b"\0\4\0\1", peer)
        client.recvfrom(2048)
        client.sendto(b"\0\5\0\0enough\0", peer)

    def events(kind: str) -> list[str]:
        shown = served.cli_json("build", "show", machine.name)
        return [each["message"] for each in shown["events"] if each["kind"] == kind]

    failed = wait_for(lambda: events("loader-failed"), what="the transfer that broke off")
    assert len(failed) == 1
    assert failed[0].startswith("undionly.kpxe: aborted after 1024 bytes sent of ")
    assert "blksize 512, windowsize 1" in failed[0]
    loaded = wait_for(lambda: events("loader"), what="the transfer that was complete")
    assert loaded[0].startswith("autoexec.ipxe, ")
    script = machine.ipxe()
    kernel = next(part for part in script.split() if "/media/sha256/" in part)
    for _ in range(3):
        assert served.http(kernel, source=machine.ip).status == 200
    fetched = wait_for(lambda: events("media"), what="the kernel")
    assert served.http(kernel, source=machine.ip).status == 200
    assert len(fetched) == 1
    assert "bytes by HTTP in" in fetched[0]
    assert served.cli_json("build", "show", machine.name)["state"] == "booting"


def test_a_row_of_traffic_for_each_way(served: Any, play: Callable[..., Played], inside: Site) -> None:
    machine = play(profile="rocky9").arm()
    size = len(machine.tftp("autoexec.ipxe") or b"")
    assert machine.tftp("autoexec.ipxe") is not None

    def rows() -> dict[str, tuple[int, int]]:
        with read(inside.engine) as session:
            found = session.execute(
                select(BuildTraffic.way, BuildTraffic.bytes, BuildTraffic.transfers)
                .join(Build, Build.id == BuildTraffic.build_id)
                .where(Build.machine_name == machine.name)
            )
            return {way: (sent, count) for way, sent, count in found}

    wait_for(lambda: rows() == {"tftp": (2 * size, 2)}, what="both transfers")

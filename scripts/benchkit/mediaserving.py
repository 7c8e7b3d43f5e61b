"""Media: an initrd of 300 MB, twenty clients at once; ours beside nginx, both with the kernel's sendfile."""

import contextlib
import os
import random
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchkit import groups, peers
from benchkit.api import ACTOR
from benchkit.groups import Group
from benchkit.private import Load, Told, await_true, free_port, scratch, serving, storm, where_time_goes
from benchkit.storm import Options, Row, median, ratio
from provisioner.services import media
from provisioner.services.setup import init
from provisioner.settings import Settings

SIZE = 300_000_000
CLIENTS = 20
_LOAD = Load(CLIENTS, seconds=300, each=2)
_CONFIGURATION = """
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
worker_processes auto;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


def rows(options: Options) -> list[Row]:
    """The row `media`."""
    home = scratch() / "media"
    home.mkdir()
    state, sha256 = _content(home)
    path = f"/media/sha256/{sha256}/initrd.img"
    ours: list[Told] = []
    theirs: list[Told] = []
    named, why_not = "", ""
    for number in range(options.rounds):
        try:
            with _nginx(home) as (group, port, named):
                theirs.append(storm(port, _LOAD, [("127.0.0.1", "/initrd.img", "-")], group))
        except peers.Missing as problem:
            why_not = f"nginx: {problem}"
        with serving(state) as server:
            server.group.settle()
            ours.append(storm(server.ports["media"], _LOAD, [("127.0.0.1", path, "-")], server.group))
        options.say(f"    round {number + 1}: ours {_told(ours[-1:])}; nginx {_told(theirs[-1:])}")
    what = f"media: {SIZE // 10**6} MB initrd, {CLIENTS} clients at once"
    if not theirs:
        return [Row(what, "not to be had", _told(ours), "-", "at least 1.0 x", False, why_not)]
    faster = ratio(median(each.speed for each in ours), median(each.speed for each in theirs))
    cost = ratio(median(each.cpu for each in ours), median(each.cpu for each in theirs))
    shown = f"throughput {faster:.2f} x, CPU {cost:.2f} x"
    note = "" if faster >= 1.0 else where_time_goes(ours, lambda each: each.bytes / 2**30, "seconds a GiB")
    return [Row(what, f"{named}: {_told(theirs)}", _told(ours), shown, "at least 1.0 x", faster >= 1.0, note)]


def _told(several: list[Told]) -> str:
    if not several:
        return "-"
    cost = median(each.cpu / each.bytes for each in several) * 2**30
    return f"{median(each.speed for each in several):,.0f} MB/s, {cost:.2f} s of CPU a GiB"


def _content(home: Path) -> tuple[Path, str]:
    """A state directory with the file in its media store; the same bytes are in ``home`` for nginx."""
    chance = random.Random(1)
    with (home / "initrd.img").open("wb") as file:
        for _ in range(SIZE // 10**6):
            file.write(chance.randbytes(10**6))
    site = init(Settings(state_dir=home / "state", boot_url="http://127.0.0.1:8080"), ACTOR).site
    stored = media.ingest(site, str(home / "initrd.img"), "bench")
    site.engine.dispose()
    return home / "state", stored.sha256


@contextlib.contextmanager
def _nginx(home: Path) -> Iterator[tuple[Group, int, str]]:
    """A fresh nginx of our own, its port and what it calls itself. Raises peers.Missing."""
    program, environment = peers.provide("nginx", "nginx", "usr/sbin/nginx")
    port, configuration = free_port(), home / "nginx.conf"
    configuration.write_text(_CONFIGURATION.format(directory=home, root=home, port=port))
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=False, env=environment or None)
    named = said.stderr.strip().rpartition(": ")[2].replace("/", " ")
    # its workers would become nobody, who may not read a private directory
    command = [program, "-c", str(configuration), "-e", str(home / "error.log")]
    command += ["-g", "user root;"] if os.geteuid() == 0 else []
    with groups.started(command, log=home / "nginx.log", environment=environment or None) as group:
        await_true(lambda: _listens(port), group.last_words)
        yield group, port, named


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0

"""Answer files, fifty clients at once: ours beside Cobbler's, each with a thousand machines.

Each client is one machine after the other: it asks from that machine's address, twenty times on a connection, which is
more than installers do. Ours checks the token and the address of each request, and answers what was sealed; Cobbler
renders. Both answers must hold the machine's own name.
"""

import re
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path

from benchkit import cobbler
from benchkit.api import ACTOR, body
from benchkit.private import Load, Server, Told, scratch, serving, storm, where_time_goes
from benchkit.storm import Options, Row, median, ratio
from provisioner.errors import ProvisionerError
from provisioner.services import arming, installables, plans, subnets
from provisioner.services.installables import DistroInput
from provisioner.services.setup import init
from provisioner.settings import Settings

MACHINES = 1000
CLIENTS = 50
_FIRST = IPv4Address("127.17.0.1")
_LOAD, _COBBLERS_LOAD = Load(CLIENTS, 5, keep=20), Load(CLIENTS, 8, keep=20)
_TOKEN = re.compile(rb"/build/([A-Za-z0-9_-]{54})/answer")
_FASTER, _P99 = 60, 1 / 20

Asked = list[tuple[str, str, str]]


def rows(options: Options) -> list[Row]:
    """The row `answers`."""
    ours: list[Told] = []
    theirs: list[Told] = []
    why_not = ""
    state = _make(scratch() / "answers", options)
    with serving(state) as server:
        asked = _attempts(server)
    try:
        with cobbler.installed(MACHINES) as peer:
            for number in range(options.rounds):
                peer.begin()
                peer.serve_answers()
                theirs.append(storm(peer.web_port, _COBBLERS_LOAD, _of_cobbler()))
                peer.end()
                ours.append(_one_round(state, asked))
                options.say(f"    round {number + 1}: {_told(theirs[-1])}; ours {_told(ours[-1])}")
    except cobbler.NotToBeHad as problem:
        why_not = f"{cobbler.NAMED} is not to be had here: {problem}"
    while len(ours) < options.rounds:
        ours.append(_one_round(state, asked))
    return [_row(ours, theirs, why_not)]


def _one_round(state: Path, asked: Asked) -> Told:
    with serving(state) as server:
        server.group.settle()
        return storm(server.ports["boot"], _LOAD, asked, server.group)


def _row(ours: list[Told], theirs: list[Told], why_not: str) -> Row:
    rate, late = median(each.rate for each in ours), median(each.p99 for each in ours)
    cost = median(each.cpu / each.answers for each in ours) * 1e6
    told = f"{rate:,.0f}/s, p99 {late * 1000:.0f} ms, {cost:.0f} us of CPU each"
    what, wanted = f"answer file, {CLIENTS} clients at once, {MACHINES:,} machines", "at least 60 x, p99 at most 1/20"
    if not theirs:
        return Row(what, "not to be had", told, "-", wanted, False, why_not)
    faster = ratio(rate, median(each.rate for each in theirs))
    later = ratio(late, median(each.p99 for each in theirs))
    peer = f"{cobbler.NAMED}: {median(each.rate for each in theirs):.0f}/s, p99 "
    peer += f"{median(each.p99 for each in theirs):.1f} s"
    shown = f"{faster:.0f} x, p99 1/{1 / later:.0f}"
    reached = faster >= _FASTER and later <= _P99
    note = "" if reached else where_time_goes(ours, lambda each: each.answers / 1000, "milliseconds an answer")
    return Row(what, peer, told, shown, wanted, reached, note)


def _told(one: Told) -> str:
    return f"{one.rate:.0f}/s, p99 {one.p99 * 1000:.0f} ms"


def _of_cobbler() -> Asked:
    paths = [(f"/cblr/svc/op/autoinstall/system/node{number:05d}", f"node{number:05d}") for number in range(MACHINES)]
    return [("127.0.0.1", path, word) for path, word in paths]


def _make(home: Path, options: Options) -> Path:
    """A state directory with a thousand machines, a build armed for each."""
    home.mkdir()
    state, kernel = home / "state", home / "kernel"
    site = init(Settings(state_dir=state, boot_url="http://127.0.0.1:8080", lock_seconds=30), ACTOR).site
    subnets.add(site, ACTOR, "storm", "127.17.0.0/16", {})
    kernel.write_bytes(b"kernel")
    given = DistroInput("rocky", "9.6", str(kernel), str(kernel), "http://mirror.example.com/rocky/9.6")
    installables.add_distro(site, ACTOR, "rocky-9.6", given)
    wanted = body(MACHINES)
    for number, each in enumerate(wanted):
        each["interfaces"] = [{"mac": _mac(number), "ip": str(_FIRST + number), "name": "eth0"}]
    plans.apply(site, ACTOR, plan_id=plans.plan(site, ACTOR, wanted)["id"])
    for number, (_, result) in enumerate(arming.start_all(site, ACTOR, [each["name"] for each in wanted]), 1):
        if isinstance(result, ProvisionerError):
            raise result
        if number % 200 == 0:
            options.say(f"    {number} of {MACHINES} builds armed")
    site.engine.dispose()
    return state


def _mac(number: int) -> str:
    return f"52:54:07:00:{number >> 8:02x}:{number & 255:02x}"


def _attempts(server: Server) -> Asked:
    """Every machine fetches its boot script, as its firmware would, and tells which answer file it was given."""

    def boot(number: int) -> tuple[str, str, str]:
        source = str(_FIRST + number)
        status, script, _ = server.get("boot", f"/boot/ipxe/{_mac(number)}?platform=pcbios", source=source)
        token = _TOKEN.search(script)
        if status != 200 or token is None:
            raise RuntimeError(f"no build for machine {number}: HTTP {status}, {script[:200]!r}")
        return source, f"/build/{token[1].decode()}/answer", f"node{number:05d}"

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(boot, range(MACHINES)))

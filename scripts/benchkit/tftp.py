"""The TFTP rows of the boot storm: ours and the daemons of others under the same clients, with the same files."""

import atexit
import random
import resource
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchkit import peers, tftpclient, tftpours
from benchkit.groups import Group, Used, accounting
from benchkit.storm import Options, Row, median, ratio
from benchkit.tftpclient import Load, Told

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
_SIZES = (100 * KIB, MIB, 16 * MIB, 60 * MIB)
_DESCRIPTORS = 20_000
_HALF_OPEN = 400
_START_SECONDS = 30.0
OURS = "ours"


@dataclass(frozen=True)
class Taken:
    """One round with one server."""

    told: Told
    used: Used
    parts: dict[str, float]
    died: bool


@dataclass(frozen=True)
class Figures:
    """The medians of a server's rounds; of a peer's, those that it lived through, where there are any.

    ``complete`` is the worst round's share of clients that have the whole file; ``died`` says in how many rounds.
    """

    title: str
    speed: float
    p99: float
    complete: float
    per_gib: float
    per_packet: float
    load: str
    resent: float
    died: str
    problem: str


@dataclass(frozen=True)
class _Bench:
    """What all rows share: the load client, our state directory, the directory that the peers serve."""

    base: Path
    program: Path
    prepared: tftpours.Prepared
    root: Path


# Rows


def small(options: Options) -> list[Row]:
    """100 KiB for 1,000 clients at once."""
    taken = _measured(options, 100 * KIB, Load(1000), {OURS: 0, "dnsmasq": 0, "tftpy": 1})
    return [
        compared(
            "storm: TFTP 100 KiB, 1,000 clients at once",
            taken,
            {"dnsmasq": 2.5},
            "100 %; throughput at least 2.5 x dnsmasq, p99 at most 0.25 x",
            p99=0.25,
        )
    ]


def large(options: Options) -> list[Row]:
    """1 MiB for 1,000 clients at once; those that do not live through it are shown once."""
    who = {OURS: 0, "dnsmasq": 0, "tftpd-hpa": 0, "pin/tftp": 0, "atftpd": 1, "tftpy": 1}
    taken = _measured(options, MIB, Load(1000), who)
    wanted = "100 %; throughput at least 1.0 x dnsmasq and 1.5 x tftpd-hpa"
    return [compared("TFTP 1 MiB, 1,000 clients at once", taken, {"dnsmasq": 1.0, "tftpd-hpa": 1.5}, wanted)]


def processor(options: Options) -> list[Row]:
    """Server CPU a GiB."""
    taken = _measured(options, MIB, Load(100), {OURS: 0, "dnsmasq": 0})
    return [
        _cheaper("TFTP 1 MiB, 100 clients: server CPU per GiB", taken, "dnsmasq", 0.95, "at most 0.95 x dnsmasq"),
    ]


def window(options: Options) -> list[Row]:
    """RFC 7440 with sixteen blocks, beside the one daemon that has it."""
    rows = []
    who = {OURS: 0, "atftpd": 0}
    for what, size, clients, least in (("1 MiB x 1,000", MIB, 1000, 4.0), ("60 MiB x 10", 60 * MIB, 10, 2.0)):
        taken = _measured(options, size, Load(clients, windowsize=16), who)
        name = f"TFTP windowsize 16, {what}"
        wanted = f"100 %; throughput at least {least:g} x atftpd"
        rows.append(compared(name, taken, {"atftpd": least}, wanted))
        rows.append(_cheaper(f"{name}: server CPU per GiB", taken, "atftpd", 0.25, "at most 0.25 x atftpd"))
    return rows


def halfopen(options: Options) -> list[Row]:
    """What sessions that nobody acknowledges cost those of others."""
    alone = _measured(options, 16 * MIB, Load(4), {OURS: 0})
    beside = _measured(options, 16 * MIB, Load(4, half_open=_HALF_OPEN), {OURS: 0, "dnsmasq": 0})
    name = f"TFTP server CPU per packet beside {_HALF_OPEN} half-open sessions"
    ours, without = beside[OURS], alone[OURS]
    if isinstance(ours, str) or isinstance(without, str):
        return [_unmeasured(name, ours if isinstance(ours, str) else str(without))]
    own = ratio(ours.per_packet, without.per_packet)
    rows = [_packets(name, beside, ours)]
    text = f"{without.per_packet:.2f} us a packet without, {_speed(without)}"
    rows.append(
        Row(
            f"{name}, beside its own without them",
            text,
            f"{ours.per_packet:.2f} us a packet, {_speed(ours)}",
            f"{own:.2f} x",
            "at most 1.3 x",
            own <= 1.3 and ours.complete == 1.0,
            _why(ours, reached=own <= 1.3),
        )
    )
    return rows


def loss(options: Options) -> list[Row]:
    """One datagram in a hundred lost in each direction."""
    taken = _measured(options, MIB, Load(100, loss=1.0, limit=120), {OURS: 0, "dnsmasq": 0, "tftpd-hpa": 0})
    wanted = "all complete; throughput at least 5 x dnsmasq"
    return [compared("TFTP 1 MiB, 100 clients, 1 % loss each way", taken, {"dnsmasq": 5.0}, wanted)]


# Measuring


def _measured(options: Options, size: int, load: Load, who: Mapping[str, int]) -> dict[str, Figures | str]:
    """The figures of each server, or why there are none; so many rounds each, 0 for as many as asked for."""
    bench, found = _bench(options), {name: _found(name) for name in who}
    rounds: dict[str, list[Taken]] = {name: [] for name in who}
    for number in range(options.rounds):
        for name, peer in found.items():
            if isinstance(peer, str) or (who[name] and number >= who[name]):
                continue
            taken = _one(bench, peer, size, load, seed=number + 1)
            rounds[name].append(taken)
            options.say(f"    round {number + 1} of {options.rounds}, {name}: {_short(taken)}")
    answers: dict[str, Figures | str] = {}
    for name, peer in found.items():
        title = peer if isinstance(peer, str) else (peer.title if peer else OURS)
        answers[name] = f"{name}: {peer}" if isinstance(peer, str) else figures(title, rounds[name])
    return answers


def _found(name: str) -> peers.Peer | str | None:
    """The peer, or why it cannot be had; None for ours."""
    if name == OURS:
        return None
    try:
        return peers.find(name)
    except peers.Missing as problem:
        return f"not measured: {problem}"


def _one(bench: _Bench, peer: peers.Peer | None, size: int, load: Load, *, seed: int) -> Taken:
    """A fresh server, one storm; what it does when the clients are gone counts too."""
    name = bench.prepared.names[size]
    with tempfile.TemporaryDirectory(dir=bench.base) as scratch, _serving(bench, peer, Path(scratch)) as served:
        group, address = served
        compare = bench.root / name
        _await(bench, group, address, name)
        before, parts = group.used(), group.by_name()
        told = tftpclient.storm(bench.program, address, name, compare, load, seed=seed)
        group.settle()
        spent = {part: seconds - parts.get(part, 0.0) for part, seconds in group.by_name().items()}
        return Taken(told, group.used().since(before), spent, died=not group.alive())


@contextmanager
def _serving(bench: _Bench, peer: peers.Peer | None, scratch: Path) -> Iterator[tuple[Group, tuple[str, int]]]:
    if peer is None:
        with tftpours.serving(bench.prepared, scratch) as served:
            yield served
    else:
        with peers.serving(peer, bench.root, scratch / "log") as served:
            yield served


def _await(bench: _Bench, group: Group, address: tuple[str, int], name: str) -> None:
    """Until it served the file once, so that it is in memory, and is quiet again."""
    host, port = address
    words = ["--host", host, "--port", port, "--file", name, "--compare", bench.root / name]
    deadline, told = time.monotonic() + _START_SECONDS, {"first_problem": ""}
    while time.monotonic() < deadline and group.alive():
        told = tftpclient.ask(bench.program, *words, "--timeout", 0.2, "--retries", 2)
        if told["completed"]:
            group.settle()
            return
        time.sleep(0.1)
    raise RuntimeError(f"the server at {host}:{port} serves nothing: {told['first_problem']}; {group.last_words()}")


@cache
def _bench(options: Options) -> _Bench:
    stack = ExitStack()
    atexit.register(stack.close)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < _DESCRIPTORS:
        options.say(f"    only {most} descriptors may be open (ulimit -Hn): big storms may not fit")
    wanted = _DESCRIPTORS if most == resource.RLIM_INFINITY else min(most, _DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-storm-", ignore_cleanup_errors=True)))
    base.chmod(0o755)  # some daemons give up root, and must still get at the files
    program = stack.enter_context(tftpclient.compiled())
    options.say(f"    making {tftpours.MACHINES} machines and their builds; processor time by {accounting()}")
    made = []
    for size in _SIZES:
        made.append(base / f"content-{size}")
        made[-1].write_bytes(random.Random(size).randbytes(size))
    prepared = tftpours.prepare(base, made)
    root = base / "root"
    for content in made:
        path = root / prepared.names[content.stat().st_size]
        path.parent.mkdir(parents=True, exist_ok=True)
        content.rename(path)
    return _Bench(base, program, prepared, root)


def figures(title: str, rounds: list[Taken]) -> Figures:
    """The medians of these rounds."""
    total, worst = len(rounds), min(rounds, key=lambda each: each.told.completed)
    deaths = sum(each.died for each in rounds)
    if title != OURS:  # what a daemon did until it died says nothing about how fast it is
        rounds = [each for each in rounds if each.told.completed == each.told.clients] or rounds
    one = sorted(rounds, key=lambda each: each.told.speed)[len(rounds) // 2]
    return Figures(
        title=title,
        speed=median(each.told.speed for each in rounds),
        p99=median(each.told.p99 for each in rounds),
        complete=worst.told.completed / worst.told.clients,
        per_gib=median(ratio(each.used.total, each.told.bytes / GIB) for each in rounds),
        per_packet=median(ratio(1e6 * each.used.total, each.told.packets) for each in rounds),
        load=_load(one),
        resent=median(each.told.requests_resent for each in rounds),
        died=f", died in {deaths} of {total} rounds" if deaths else "",
        problem=worst.told.problem,
    )


# Telling


def _load(one: Taken) -> str:
    """Where the server's time went."""
    used = one.used
    parts = sorted(((seconds, part) for part, seconds in one.parts.items() if seconds >= 0.01), reverse=True)
    each = ", ".join(f"{part} {seconds:.2f}" for seconds, part in parts)
    of_kernel = 100 * used.system / used.total if used.total else 0
    return (
        f"{used.total:.2f} processor seconds in {one.told.wall:.2f} s ({each}), {of_kernel:.0f} % of them the kernel's"
    )


def _short(taken: Taken) -> str:
    told = taken.told
    text = (
        f"{told.completed} of {told.clients}, {told.speed:.1f} MB/s, p99 {told.p99:.2f} s, {taken.used.total:.2f} s CPU"
    )
    half_open = f", {told.half_open} half-open" if told.half_open else ""
    return text + half_open + (f"; {told.problem}" if told.problem else "") + ("; IT DIED" if taken.died else "")


def _speed(figures: Figures) -> str:
    if not figures.complete:
        return f"nobody has the file{figures.died}"
    return f"{figures.speed:.0f} MB/s, p99 {figures.p99:.2f} s, {100 * figures.complete:.4g} %{figures.died}"


def _all(taken: Mapping[str, Figures | str], tell: Mapping[str, str]) -> str:
    """What the peers did, each with its version; or why it was not measured."""
    others = {name: each for name, each in taken.items() if name != OURS}
    return "; ".join(each if isinstance(each, str) else f"{each.title}: {tell[name]}" for name, each in others.items())


def _speeds(taken: Mapping[str, Figures | str]) -> str:
    return _all(taken, {name: "" if isinstance(each, str) else _speed(each) for name, each in taken.items()})


def compared(
    name: str, taken: Mapping[str, Figures | str], least: Mapping[str, float], wanted: str, *, p99: float | None = None
) -> Row:
    """A row by throughput, and by p99 where that counts, beside the first of the peers in ``least``."""
    ours = taken[OURS]
    if isinstance(ours, str):
        return _unmeasured(name, ours)
    reached, told, missing = ours.complete == 1.0 and not ours.died, [], []
    for peer, factor in least.items():
        theirs = taken[peer]
        if isinstance(theirs, str):
            reached = False
            missing.append(theirs)
            continue
        faster = ratio(ours.speed, theirs.speed)
        told.append(f"throughput {faster:.2f} x {peer}")
        reached = reached and faster >= factor
        if p99 is not None:
            later = ratio(ours.p99, theirs.p99)
            told.append(f"p99 {later:.2f} x")
            reached = reached and later <= p99
    note = "; ".join([*missing, *filter(None, [_why(ours, reached=reached)])])
    return Row(name, _speeds(taken), _speed(ours), ", ".join(told) or "-", wanted, reached, note)


def _cheaper(name: str, taken: Mapping[str, Figures | str], peer: str, most: float, wanted: str) -> Row:
    """A row by the server's processor time for each GiB."""
    ours, theirs = taken[OURS], taken[peer]
    if isinstance(ours, str) or isinstance(theirs, str):
        return _unmeasured(name, ours if isinstance(ours, str) else str(theirs))
    cost = ratio(ours.per_gib, theirs.per_gib)
    reached = cost <= most and ours.complete == 1.0
    text = f"{theirs.title}: {theirs.per_gib:.2f} s; {_speed(theirs)}"
    mine = f"{ours.per_gib:.2f} s; {_speed(ours)}"
    return Row(name, text, mine, f"{cost:.2f} x", wanted, reached, _why(ours, reached=reached))


def _packets(name: str, taken: Mapping[str, Figures | str], ours: Figures) -> Row:
    theirs = taken["dnsmasq"]
    if isinstance(theirs, str):
        return _unmeasured(name, theirs)
    cost = ratio(ours.per_packet, theirs.per_packet)
    reached = cost <= 0.2 and ours.complete == 1.0
    text = f"{theirs.title}: {theirs.per_packet:.2f} us a packet, {_speed(theirs)}"
    mine = f"{ours.per_packet:.2f} us a packet, {_speed(ours)}"
    return Row(name, text, mine, f"{cost:.2f} x", "at most 0.2 x dnsmasq", reached, _why(ours, reached=reached))


def _unmeasured(name: str, why: str) -> Row:
    return Row(name, "-", "-", "-", "-", False, why)


def _why(ours: Figures, *, reached: bool) -> str:
    """Where our time went, for a figure that was not reached."""
    if reached:
        return ""
    resent = f"; {ours.resent:.0f} requests were sent again" if ours.resent else ""
    return f"ours took {ours.load}{resent}" + (f"; {ours.problem}" if ours.problem else "")

"""From the start of the program until all its planes are ready, with 100,000 machines; ours beside Cobbler's daemon.

Cobbler's has 5,000 systems, a twentieth. Both find their files in the page cache.
"""

from functools import cache
from pathlib import Path

from benchkit import cobbler, listing
from benchkit.api import ACTOR
from benchkit.private import scratch, serving
from benchkit.storm import Options, Row, median, ratio
from provisioner.services import tokens
from provisioner.services.setup import init
from provisioner.settings import Settings

MACHINES = 100_000
SYSTEMS = 5_000
_LIMIT = 3.0


@cache
def large() -> tuple[Path, str]:
    """A state directory with 100,000 machines, and a token for its API; made once."""
    state = scratch() / "large" / "state"
    state.parent.mkdir()
    site = init(Settings(state_dir=state, boot_url="http://127.0.0.1:8080", lock_seconds=30), ACTOR).site
    listing.populate(site, MACHINES)
    token = tokens.add(site, ACTOR, None, "bench", {"role": "admin"})["token"]
    site.engine.dispose()
    return state, token


def rows(options: Options) -> list[Row]:
    """The row `start`."""
    state, _ = large()
    options.say(f"    {MACHINES:,} machines made")
    ours: list[float] = []
    cost: list[float] = []
    theirs: list[float] = []
    why_not = ""
    try:
        with cobbler.installed(SYSTEMS) as peer:
            for _ in range(options.rounds):
                theirs.append(peer.begin())
                known = peer.systems()
                peer.end()
                if known != SYSTEMS:
                    raise RuntimeError(f"Cobbler knows {known} systems, not {SYSTEMS}")
                _begin(state, ours, cost)
                options.say(f"    round {len(ours)}: ours {ours[-1]:.2f} s; Cobbler {theirs[-1]:.2f} s")
    except cobbler.NotToBeHad as problem:
        why_not = f"{cobbler.NAMED} is not to be had here: {problem}"
    while len(ours) < options.rounds:
        _begin(state, ours, cost)
    what = f"start to ready, {MACHINES:,} machines (DHCP apart)"
    took = median(ours)
    told = f"{took:.2f} s; {median(cost):.2f} s of CPU"
    peer_told = f"{cobbler.NAMED}: {median(theirs):.1f} s at {SYSTEMS:,} systems" if theirs else "not to be had"
    shown = f"{ratio(took, median(theirs)):.2f} x" if theirs else "-"
    return [Row(what, peer_told, told, shown, f"under {_LIMIT:.0f} s", took < _LIMIT, why_not)]


def _begin(state: Path, seconds: list[float], cost: list[float]) -> None:
    with serving(state) as server:
        cost.append(server.group.used().total)
        seconds.append(server.ready_seconds)

"""Callers in processes of their own, forked from one that has the program loaded, who all begin at once."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from provisioner.services import addresses, machines
from provisioner.services.interfaces import InterfaceInput
from provisioner.services.site import Actor, Site, open_site
from provisioner.settings import load

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["applying", "calling"])
_all_there: Any = None


def given_to_processes(site: Site, callers: int, rounds: int) -> list[str]:
    """The addresses that each of them was given: machines and holds in turn."""
    environ = {
        "PROVISIONER_STATE_DIR": str(site.settings.state_dir),
        "PROVISIONER_DATABASE_URL": site.settings.database_url,
        "PROVISIONER_LOCK_SECONDS": "60",
    }
    barrier = PROCESSES.Barrier(callers)
    with ProcessPoolExecutor(callers, PROCESSES, initializer=_begin, initargs=(barrier,)) as pool:
        told = [pool.submit(_call, environ, who, rounds) for who in range(callers)]
        return [ip for each in told for ip in each.result()]


def _begin(barrier: Any) -> None:
    global _all_there  # noqa: PLW0603 - a barrier reaches a process only when that begins
    _all_there = barrier


def _call(environ: dict[str, str], who: int, rounds: int) -> list[str]:
    site, actor, given = open_site(load(environ=environ)), Actor(f"p{who}", "t"), []
    _all_there.wait(120)
    for number in range(rounds):
        one = who * 10_000 + number
        mac = f"52:54:{one >> 24:02x}:{one >> 16 & 255:02x}:{one >> 8 & 255:02x}:{one & 255:02x}"
        nic = InterfaceInput(mac, "next", subnet="lab")
        given.append(machines.add(site, actor, f"p{who}-{number}", [nic], {})["interfaces"][0]["ip"])
        given += addresses.hold(site, actor, "lab")
    site.engine.dispose()
    return given

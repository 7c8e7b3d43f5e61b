"""Blast radius: what the change of one snippet does to a thousand machines, rendered before and after.

What is timed are the service calls behind ``template edit --dry-run``: the rehearsed change with its watch, then the
report. Validation by the installers' own programs is shown apart: one output of each kind of difference.
"""

import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from benchkit import report
from benchkit.api import ACTOR, body, timed
from provisioner.services import installables, plans, radius, subnets, templates
from provisioner.services.installables import DistroInput
from provisioner.services.setup import init
from provisioner.services.site import Site, open_site
from provisioner.settings import Settings
from provisioner.store.engine import write

SNIPPET = "snippets/events.sh.j2"
LINE = "\n# {{ machine.fqdn }}, {{ machine.ip }}: a line that the benchmark added\n"
LIMIT = 10.0
"""Seconds for a thousand machines on two cores, validation aside."""


def populate(state: Path, count: int) -> None:
    """An installation with so many machines of the profile rocky9, with two interfaces and parameters of their own."""
    site = init(Settings(state_dir=state, boot_url="http://127.0.0.1:8080", lock_seconds=30), ACTOR).site
    for number in (1, 2):
        subnets.add(site, ACTOR, f"net{number}", f"10.{number}.0.0/16", {})
    kernel = state / "kernel"
    kernel.write_bytes(b"kernel")
    given = DistroInput("rocky", "9.6", str(kernel), str(kernel), "http://mirror.example.com/rocky/9.6")
    installables.add_distro(site, ACTOR, "rocky-9.6", given)
    plans.apply(site, ACTOR, plan_id=plans.plan(site, ACTOR, body(count))["id"])
    site.engine.dispose()


def rehearse(site: Site) -> tuple[radius.Watch, float]:
    """The change of the snippet, taken back; and how long its transaction took, which holds the write lock."""
    watch = radius.Watch(site)
    text = templates.show(site, SNIPPET)["text"] + LINE

    def change() -> None:
        with write(site.rehearsing(watch).engine) as session:
            templates.put(session, ACTOR, SNIPPET, text)

    return watch, timed(change)[0]


def one_run(state: Path, count: int) -> dict[str, Any]:
    """The seconds of each part."""
    site = open_site(Settings(state_dir=state, lock_seconds=30))
    watch, locked = rehearse(site)
    wall, cpu, found = timed(partial(radius.report, site, watch))
    site.engine.dispose()
    if found is None or found["changed"] != count or len(found["groups"]) != 1:
        raise SystemExit(f"the change should reach {count} machines alike: {found and found['reached']}")
    apart = found["seconds"]["validating"]
    return {"locked": locked, "rendering": wall - apart, "computing": cpu, "validating": apart}


def run(count: int, runs: int) -> list[str]:
    """The table."""
    with tempfile.TemporaryDirectory() as directory:
        state = Path(directory) / "state"
        populate(state, count)
        report.say(f"{count} machines made")
        rows = []
        for number in range(runs):
            rows.append(one_run(state, count))
            report.say(f"run {number + 1} of {runs}: " + ", ".join(f"{key} {rows[-1][key]:.2f} s" for key in rows[-1]))
    median = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    return [
        f"{count} machines of the shipped profile rocky9 with two interfaces each, on SQLite; one snippet changes that",
        f"their kickstart includes. Their {count} answer files, boot scripts and handoffs are made before and after,",
        f"compared and grouped: one kind of difference. The median of {runs} runs; to reach: {LIMIT:.0f} s for 1000.",
        "",
        "| | seconds |",
        "|---|---|",
        f"| rendered before and after, compared, grouped | {median['rendering']:.2f} |",
        f"| of that, computed in the server's own process (rendering is in two others) | {median['computing']:.2f} |",
        f"| apart: one output validated (ksvalidator, bash) | {median['validating']:.2f} |",
        f"| the write lock was held for the rehearsed change | {median['locked']:.2f} |",
    ]

"""A run of the service's writing work in which one system call fails; `tests/faults/test_write_faults.py` starts it.

    strace -f -e inject=CALL:error=ERROR:when=MARK story.py STATE CALL MARK FIRST LAST STEP

For each number from FIRST to LAST in steps of STEP a child is forked. It first makes the system call MARK - number
times with no effect, so that the one that strace fails is its number-th real one, and then does a day's work on a copy
of STATE. Whatever an operation says, it is repeated once, as an installer or an administrator would. The verdicts go to
standard output.
"""

import json
import mmap
import os
import shutil
import sqlite3
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from provisioner import logs
from provisioner.core.lifecycle import NextBoot
from provisioner.errors import ProvisionerError
from provisioner.netboot.dhcp.files import write_whole
from provisioner.services import attempts, boot, builds, keeper, loaders, machines, media, records, reports, spool
from provisioner.services.boot import BootRequest
from provisioner.services.reports import Report
from provisioner.services.site import Actor, Site, open_site
from provisioner.settings import Settings
from provisioner.store.engine import open_engine

ACTOR = Actor(who="tester", origin="tests", request="test")
MAC, IP = "52:54:00:12:34:56", "127.0.2.11"
Saying = Callable[[], Any]


def burn(call: str, times: int) -> None:
    """Make the system call that often without any effect."""
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        handle = file.fileno()
        idle: dict[str, Callable[[], object]] = {
            "write": lambda: os.write(handle, b""),
            "pwrite64": lambda: os.pwrite(handle, b"", 0),
            "fsync": lambda: os.fsync(handle),
            "fdatasync": lambda: os.fdatasync(handle),
        }
        for _ in range(times):
            with suppress(OSError):
                idle[call]()


class Day:
    """A day's work: one machine from its script to configured, an administrator, generated files."""

    def __init__(self, site: Site, call: str) -> None:
        self.site, self.call = site, call
        self.said: dict[str, str] = {}
        self.tokens: dict[str, str] = {}
        self.secrets: list[str] = []

    def work(self) -> None:
        """Every operation, each repeated once when it did not work."""
        for name in ("edit", "keep", "boot", "fetch", "unwrap", "disk", "spooled", "catch_up", "built", "configured"):
            self.twice(name, getattr(self, f"do_{name}"))
        if self.call in {"pwrite64", "fdatasync"}:
            return  # SQLite's alone
        self.twice("hosts", lambda: write_whole(self.site.settings.state_dir / "dhcp/hosts", "one\ntwo\n"))
        self.twice("loaders", lambda: loaders.make(self.site, anew=True))
        self.twice("media", self.do_media)

    def twice(self, name: str, what: Saying) -> None:
        """One of our errors, or an answer; anything else is a bug and ends the child."""
        try:
            self.said[name] = str(what())
        except (ProvisionerError, OSError) as error:
            if isinstance(error, OSError) and name != "hosts":  # the DHCP child catches that one
                raise
            self.said[name] = f"error {type(error).__name__}"
            self.said[f"{name} again"] = str(what())

    def do_edit(self) -> str:
        return str(machines.edit(self.site, ACTOR, "web01", {"description": "changed"})["description"])

    def do_keep(self) -> None:
        keeper.look(self.site)

    def do_boot(self) -> str:
        for _ in range(2):  # a machine that gets its local disk is powered on again
            answer = boot.boot_script(self.site, BootRequest(MAC, IP, boot_url="http://127.0.0.1:8080"))
            if answer.decision.next_boot is NextBoot.BUILD:
                break
        assert answer.decision.next_boot is NextBoot.BUILD, answer
        self.tokens["answer"] = answer.text.split("/build/")[1][:54]
        return "build"

    def do_fetch(self) -> str:
        text = attempts.fetch(self.site, self.tokens["answer"], "answer", IP).text
        self.tokens["event"] = text.split("/event")[0].rpartition("/build/")[2]
        handoff = attempts.fetch(self.site, self.tokens["answer"], "handoff", IP).text
        self.tokens["handoff"] = handoff.split("/configured")[0].rpartition("/build/")[2]
        return "fetched"

    def do_unwrap(self) -> str:
        value = attempts.unwrap(self.site, self.tokens["answer"], "root_password", "nonce", IP)
        self.secrets.append(value)
        return "unwrapped"

    def event(self, site: Site, step: str) -> str:
        return str(reports.event(site, self.tokens["event"], IP, Report(step)).state)

    def do_disk(self) -> str:
        return self.event(self.site, "disk")

    def do_spooled(self) -> str:
        with gone(self.site) as broken:
            return self.event(broken, "packages")

    def do_catch_up(self) -> str:
        reports.catch_up(self.site)
        return "in"

    def do_built(self) -> str:
        return self.event(self.site, "built")

    def do_configured(self) -> str:
        return str(reports.configured(self.site, self.tokens["handoff"], IP, ok=True, message="").state)

    def do_media(self) -> str:
        source = self.site.settings.state_dir.parent / "kernel"
        return media.ingest(self.site, str(source), "kernel").sha256

    def check(self) -> None:
        """What must hold afterwards, with no fault any more."""
        keeper.look(self.site)  # as it does every second
        assert not spool.pending(self.site)
        again = [text for name, text in self.said.items() if name.endswith(" again")]
        assert not any(text.startswith("error") for text in again), "space is back, and it works again"
        shown = builds.show(self.site, "web01")
        kinds = [each["kind"] for each in shown["events"]]
        for step in ("disk", "packages", "built", "configured"):
            assert kinds.count(step) >= 1, f"{step} was acknowledged and is lost: {kinds}"
        assert kinds.count("packages") == 1, f"applied twice: {kinds}"
        assert shown["state"] == "configured", shown["state"]
        assert len(set(self.secrets)) == 1
        assert machines.show(self.site, "web01")["description"] == "changed"
        edits = [each for each in records.listing(self.site) if each["changed"] == ["description"]]
        assert len(edits) == 1, f"one change, {len(edits)} revisions"
        assert records.verify(self.site) == []
        self.check_files()

    def check_files(self) -> None:
        """No half file has a name under which it is read."""
        state = self.site.settings.state_dir
        assert self.call not in {"write", "fsync"} or (state / "dhcp/hosts").read_text() == "one\ntwo\n"
        json.loads((state / "standby.json").read_text())
        for path in state.glob("loaders/*.efi"):
            assert path.read_bytes()[:2] == b"MZ", path
        with sqlite3.connect(state / "provisioner.db") as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()


@contextmanager
def gone(site: Site) -> Any:
    """The same installation without its database."""
    from dataclasses import replace

    engine = open_engine(f"sqlite:///{site.settings.state_dir}/gone/none.db", lock_seconds=1)
    yield replace(site, engine=engine)
    engine.dispose()


def child(template: Path, directory: Path, call: str, mark: int, number: int) -> str:
    """One day with one fault; the verdict."""
    state = directory / "state"
    shutil.copytree(template, state)
    (directory / "kernel").write_bytes(b"kernel" * 1000)
    settings = Settings(state_dir=state, boot_url="http://127.0.0.1:8080", lock_seconds=1)
    logs.configure(settings)
    site = open_site(settings)
    day = Day(site, call)
    try:
        burn(call, mark - number)
        day.work()
        burn(call, number)  # whatever was not met by the work is met here
        day.check()
    except BaseException:  # noqa: BLE001 - whatever it is, it is the verdict
        return f"{day.said}\n{traceback.format_exc()}"
    finally:
        site.engine.dispose()
    hurt = [name for name, text in day.said.items() if text.startswith("error")]
    return f"ok {' '.join(hurt)}"


def main() -> None:
    """Fork a child for each number; one line of JSON for each."""
    template, call, mark, first, last, step = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:7])
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        for number in range(first, last + 1, step):
            shared = mmap.mmap(-1, 1 << 16)
            place = Path(directory) / str(number)
            place.mkdir()
            pid = os.fork()
            if pid == 0:
                verdict = child(template, place, call, mark, number).encode()[: len(shared) - 1]
                shared[: len(verdict)] = verdict
                os._exit(0)
            _, status = os.waitpid(pid, 0)
            verdict = bytes(shared).rstrip(b"\0").decode()
            print(json.dumps({"number": number, "status": status, "verdict": verdict}), flush=True)
            shared.close()
            shutil.rmtree(place)


if __name__ == "__main__":
    main()

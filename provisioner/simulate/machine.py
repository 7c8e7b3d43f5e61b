"""One machine: firmware, boot loader, installer, first boot; over real sockets, from its own address."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from provisioner.simulate import expect, http, tftp
from provisioner.simulate.dhcp import DhcpError
from provisioner.simulate.installer import Orders, answer_urls, configured_url, digest, orders
from provisioner.simulate.ipxe import Interpreter, Outcome, classify
from provisioner.simulate.plan import Part
from provisioner.simulate.speaker import InstallerFailed, PowerCut, Speaker, Stage

_FIRMWARE_PAUSE = 10.0
_SCRIPT_SECONDS = 60.0
_FILE_SECONDS = 600.0
_IPXE = "iPXE/1.0.0+git-20190125"

# The pauses between the tries of the shipped templates (kickstarts/snippets) and of the handoff script.
_EVENT = (2.0, 4.0)
_DISK = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 64.0)
_FAILED = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 64.0, 64.0, 64.0)
_BUILT = (2.0, 4.0, 8.0, 16.0, 32.0, *[64.0] * 26)
_SECRET = (1.0, 2.0, 4.0, 8.0)
_GET = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
_CONFIGURED = (2.0, 4.0, 8.0, 16.0, 32.0, *[64.0] * 20)


class Machine(Speaker):
    """One machine of the play. After `run`: ``end``, ``problems`` and what it has ``seen``."""

    def __init__(self, part: Part, stage: Stage) -> None:
        super().__init__(part, stage)
        self.seconds = 0.0
        """From power-on to the end."""
        self._installed = False
        self._handoff = ""
        self._handoff_failed = False

    @property
    def as_expected(self) -> bool:
        """Whether it ended as its part says, and nothing happened that must not."""
        return not self.problems and self.end in expect.ends(self.part.fault, self.seen, self._plan.cuts)

    async def run(self) -> None:
        """Play the part to its end."""
        self._be("off")
        await asyncio.sleep(self.part.arrival)
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._plan.limit):
                while self.end is None:
                    try:
                        await self._power_on()
                    except PowerCut:
                        await self._dark()
        except TimeoutError:
            self._finish("given-up")
        self.seconds = time.monotonic() - began

    async def _power_on(self) -> None:
        self.boots += 1
        self._be("booting")
        await self._think("power-on")
        outcome = await self._network_boot()
        if outcome.kind == "boot":
            await self._install(outcome.arguments)
        elif outcome.kind in {"local", "exit"}:
            await self._from_disk()
        elif outcome.kind == "halt":
            self._finish("halted")
        else:
            await self.pause(_FIRMWARE_PAUSE)

    async def _dark(self) -> None:
        if self.end is not None:
            return
        self._be("dark")
        if self._stage.on_power_cut is not None:
            self._stage.on_power_cut(self.part.name)
        await asyncio.sleep(self._plan.outage)

    async def _network_boot(self) -> Outcome:
        if not (await self._lease_as("rom") and await self._loader() and await self._lease_as("ipxe")):
            return Outcome("failed")
        first = await self.script(f"{self._stage.boot_url}/boot/ipxe")
        if first is None:
            return Outcome("failed")
        try:
            return await Interpreter(self, self._settings()).run(first)
        except ValueError as error:
            self._problem(f"iPXE stops at its script: {error}")
            return Outcome("failed")

    def _settings(self) -> Mapping[str, str]:
        part = self.part
        return {
            "netX/mac": part.mac,
            "net0/mac": part.mac,
            "netX/ip": part.ip,
            "net0/ip": part.ip,
            "uuid": part.uuid,
            "serial": f"SIM{part.index:06d}",
            "manufacturer": "Provisioner",
            "product": "Simulated machine",
            "asset": "",
            "buildarch": "x86_64" if part.platform == "efi" else "i386",
            "platform": part.platform,
        }

    async def _loader(self) -> bool:
        efi = self.part.platform == "efi"
        name = "snponly.efi" if efi else "undionly.kpxe"
        began = time.perf_counter()
        try:
            got = await tftp.fetch(self.part.ip, self._stage.tftp, name, edk2=efi)
        except tftp.TftpError as error:
            self._lost("loader", str(error))
            return False
        self._stage.figures.good("loader", time.perf_counter() - began, got.size, got.resends)
        if self._stage.loaders.setdefault(name, (got.size, got.sha256)) != (got.size, got.sha256):
            self._problem(f"{name} arrived different: {got.size} bytes, SHA-256 {got.sha256[:12]}")
        self._cross("loader")
        return True

    # --- iPXE's host --------------------------------------------------------------------------------------------------

    async def script(self, url: str) -> str | None:
        """Fetch a boot script; the one for this machine says what the server decided."""
        own = urlsplit(url).path.rpartition("/")[2] != "ipxe"
        step = "script" if own else "first-script"
        began = time.perf_counter()
        try:
            reply = await http.get(self.part.ip, url, agent=_IPXE, seconds=_SCRIPT_SECONDS)
        except http.HttpError as error:
            self.seen.lost_scripts += own
            self._lost(step, str(error))
            return None
        self._answered(step, reply)
        if not reply.ok:
            self._stage.figures.retries[step] += 1
            return None
        self._stage.figures.good(step, time.perf_counter() - began, reply.size)
        if own:
            self._told(reply.text)
        self._cross(step)
        return reply.text

    def _told(self, text: str) -> None:
        """Hold what the server decided against what this machine knows."""
        kind, token, now = classify(text), digest(text), time.monotonic()
        allowed = expect.next_boots(self.seen, now)
        good = kind in allowed or kind == "local"
        self._note("told", kind=kind, token=token, expected=kind in allowed)
        if kind == "build":
            self.seen.attempts.setdefault(token, now)
            self.seen.lost_scripts = 0
        if not good:
            self._problem(f"a network boot got {kind}, expected {' or '.join(sorted(allowed))}")
            if kind == "build" and self.seen.disk != "no":
                # Never touch a disk twice, not even in a play: what follows would only hide it.
                self._finish("stuck")
                raise PowerCut

    async def image(self, name: str, url: str) -> bool:
        """Load a kernel or an initrd, and hold it against the hash that was sealed."""
        began = time.perf_counter()
        try:
            reply = await http.get(self.part.ip, url, agent=_IPXE, seconds=_FILE_SECONDS, hashed=True)
        except http.HttpError as error:
            self._lost(name, str(error))
            return False
        self._answered(name, reply)
        if not reply.ok:
            self._stage.figures.retries[name] += 1
            return False
        self._stage.figures.good(name, time.perf_counter() - began, reply.size)
        sealed = url.partition("/media/sha256/")[2].partition("/")[0]
        if sealed and sealed != reply.sha256:
            self._problem(f"the {name} arrived with SHA-256 {reply.sha256[:12]}, sealed was {sealed[:12]}")
        self._cross(name)
        return True

    async def lease(self) -> bool:
        """iPXE's `dhcp`."""
        return await self._lease_as("ipxe")

    async def _lease_as(self, client: str) -> bool:
        """Ask DHCP, where the play has it; whether the machine has its own address then."""
        if self._stage.lease is None:
            return True
        began = time.perf_counter()
        try:
            address = await self._stage.lease(self.part, client)
        except DhcpError as error:
            self._lost("dhcp", str(error))
            return False
        self._stage.figures.good("dhcp", time.perf_counter() - began, 0)
        if address != self.part.ip:
            self._problem(f"DHCP gave {address} to {client}, assigned is {self.part.ip}")
            return False
        self._cross("dhcp")
        return True

    # --- the installer ------------------------------------------------------------------------------------------------

    async def _install(self, arguments: Sequence[str]) -> None:
        self._be("installing")
        await self._think("kernel")
        text = ""
        for url in answer_urls(arguments):
            reply = await self._persist("answer", self._getting(url), _GET)
            if reply is None or not reply.ok:
                self._stopped(f"no answer file: {'silence' if reply is None else reply.status}")
                return
            text += reply.text
        try:
            wanted = orders(text)
        except ValueError as error:
            self._problem(str(error))
            self._finish("stuck")
            return
        try:
            self._cross("answer", installer=True)
            await self._follow(wanted)
        except InstallerFailed as failure:
            await self._failed(wanted.event, str(failure))

    async def _follow(self, wanted: Orders) -> None:
        """From the first report to the reboot. Raises InstallerFailed."""
        await self._event(wanted.event, "installer", _EVENT)
        for url in wanted.secrets:
            await self._think("secret")
            await self._unwrap(url)
        self._cross("secret", installer=True)
        await self._think("disk")
        if not await self._event(wanted.event, "disk", _DISK):
            raise InstallerFailed("the server did not acknowledge step=disk; no disk was touched")
        await self._think("packages")
        await self._event(wanted.event, "packages", _EVENT)
        handoff = await self._persist("handoff", self._getting(wanted.handoff), _GET) if wanted.handoff else None
        if handoff is None or not handoff.ok:
            raise InstallerFailed("could not fetch the handoff script")
        self._cross("handoff", installer=True)
        self._handoff = configured_url(handoff.text)
        self._installed = True
        await self._event(wanted.event, "built", _BUILT)
        self._be("rebooting")
        await self._think("reboot")

    async def _event(self, url: str, step: str, pauses: Sequence[float]) -> bool:
        """Report a step until it is acknowledged or the patience is over."""
        form = {"step": step, "message": f"simulated, boot {self.boots}"}
        reply = await self._persist(step, self._posting(url, form), pauses)
        good = reply is not None and reply.ok
        if good and step == "disk":
            self._note("wipe", token=digest(url))
        self._cross(step, installer=step != "built")
        return good

    async def _unwrap(self, url: str) -> None:
        nonce, token = f"{self._chance.getrandbits(128):032x}", digest(url)
        reply = await self._persist("secret", self._posting(url, {"nonce": nonce}), _SECRET)
        if reply is None or not reply.ok:
            if reply is not None and token in self.seen.unwrapped:
                self.seen.refused = True
            raise InstallerFailed("the secret was refused or not to be had")
        self.seen.unwrapped.add(token)
        self._note("secret", name=url.rpartition("/")[2], token=token, nonce=nonce)
        if not reply.body.startswith(b"$6$"):
            self._problem("the root password is no crypt hash")

    async def _failed(self, url: str, why: str) -> None:
        form = {"step": "failed", "message": why, "log": "simulated log\n" * 100}
        await self._persist("failed", self._posting(url, form), _FAILED)
        # Somebody reads the message and switches the machine off and on.
        self._be("failed")
        await self._think("reboot")

    def _stopped(self, why: str) -> None:
        self._note("stopped", why=why)
        self._stage.figures.failures["answer"] += 1
        self._finish("stuck")

    # --- the installed system -----------------------------------------------------------------------------------------

    async def _from_disk(self) -> None:
        if not self._installed:
            # Nothing to boot: the firmware comes round to the network again.
            await self.pause(_FIRMWARE_PAUSE)
            return
        if not self._handoff:
            self._finish("handoff-failed" if self._handoff_failed else "configured")
            return
        self._be("first boot")
        await self._think("configured")
        fails = self.part.fault is not None and (self.part.fault.kind, self.part.fault.step) == ("fail", "configured")
        form = {"status": "failed" if fails else "ok", "exit_code": "1" if fails else "0", "message": "simulated"}
        reply = await self._persist("configured", self._posting(self._handoff, form), _CONFIGURED)
        if reply is None or not reply.ok:
            self._note("stopped", why=f"the handoff was not acknowledged: {reply.status if reply else 'silence'}")
            self._finish("stuck")
            return
        self._handoff, self._handoff_failed = "", fails
        self._be("configured")
        self._cross("configured")
        await self._think("reboot")

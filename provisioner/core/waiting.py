"""What a build waits for, in words that tell somebody at the rack where to look."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from provisioner.core.lifecycle import Phase
from provisioner.core.progress import BEFORE_SCRIPT, NO_SIGNS


@dataclass(frozen=True)
class Waiting:
    """What a build waits for; nothing once it ended."""

    what: str = ""
    where: str = ""
    """Where to look if it takes long, or what is known of it; may be empty."""
    person: bool = False
    """Whether it goes on only if somebody does something, which is ``what``."""

    @property
    def sentence(self) -> str:
        """All of it, for people; empty for nothing."""
        return ("you: " if self.person else "") + self.what + (f": {self.where}" if self.where else "")


_AFTER_EVENT: Mapping[str, Waiting] = {
    "dhcp": Waiting("the firmware to fetch its loader", "is TFTP (UDP 69) open between the machine and this server?"),
    "loader": Waiting("the loader to ask for its boot script", "is the boot plane's port open to the machine?"),
    "loader-failed": Waiting(
        "the firmware to fetch its loader again", "the last transfer broke off: `build log` has how far it came"
    ),
    "script": Waiting(
        "the installer to ask for its answer file", "kernel and initrd load now; watch the machine's console"
    ),
    "answer": Waiting("the installer's first report", "watch the machine's console for a question"),
    "disk": Waiting("the installer to finish", "it is writing to the disk"),
    "packages": Waiting("the installer to finish", "it is installing the packages"),
    "configure": Waiting("the installer to finish", "the packages are in, it sets up the system"),
}
_AFTER_BUILT: Mapping[str, Waiting] = {
    "handoff-log": Waiting("its configuration management, which runs on the machine", "`build log` has what it says"),
    "handoff-ready": Waiting("its configuration management, which runs from here", "`build log` has what it says"),
    "handoff-waits": Waiting(
        "the server of its configuration management", "`provisioner check` says what is wrong there"
    ),
    "handoff-enrol": Waiting("the first boot from the disk and the report of its handoff"),
    "retry-handoff": Waiting("the machine to fetch its new handoff script, within five minutes or at its next boot"),
}
PEOPLE = frozenset({Phase.FAILED, Phase.FAILED_HANDOFF})
"""Where a build is that ended without being done: somebody has to decide."""


def waiting(phase: Phase, events: Sequence[tuple[str, str]], machine: str) -> Waiting:
    """What a build of ``machine`` waits for, from the kinds and messages of all that happened in it, in order."""
    # Installers ask DHCP and TFTP too; once the machine has its script, that says nothing about what it waits for.
    passing = NO_SIGNS if phase is Phase.ARMED else (*NO_SIGNS, *BEFORE_SCRIPT)
    kind, message = next((each for each in reversed(events) if each[0] not in passing), ("", ""))
    if phase in {Phase.BOOTING, Phase.INSTALLING}:
        if kind == "halt" and message:
            way = f"{message}. `provisioner build continue {machine}` lets one more attempt through"
            return Waiting(way, person=True)
        return _AFTER_EVENT.get(kind, Waiting("the installer's next report"))
    if phase is Phase.ARMED:
        return _AFTER_EVENT.get(kind, Waiting("the machine to boot from the network", "power it on"))
    if phase is Phase.BUILT:
        return _AFTER_BUILT.get(kind, Waiting("the first boot from the disk and the report of its handoff"))
    if phase is Phase.FAILED_HANDOFF:
        way = f"the machine is installed, its handoff failed. `provisioner build retry-handoff {machine}`"
        return Waiting(way, person=True)
    if phase is Phase.FAILED:
        way = f"`provisioner build log {machine}` tells why; `provisioner build start {machine}` tries anew"
        return Waiting(way, person=True)
    return Waiting()

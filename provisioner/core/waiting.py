"""What a build waits for, in words that tell somebody at the rack where to look."""

from provisioner.core.lifecycle import Phase

_AFTER_EVENT = {
    "dhcp": "the firmware to fetch its loader: is TFTP (UDP 69) open between the machine and this server?",
    "loader": "the loader to ask for its boot script: is the boot plane's port open to the machine?",
    "script": "the installer to ask for its answer file: kernel and initrd load now; watch the machine's console",
    "answer": "the installer's first report: watch the machine's console for a question",
    "disk": "the installer to finish: it is writing to the disk",
    "packages": "the installer to finish: it is installing the packages",
    "configure": "the installer to finish: the packages are in, it sets up the system",
}
_AFTER_BUILT = {
    "handoff-log": "its configuration management, which runs on the machine: `build log` has what it says",
    "handoff-ready": "its configuration management, which runs from here: `build log` has what it says",
    "handoff-waits": "the server of its configuration management: `provisioner check` says what is wrong there",
    "handoff-enrol": "the first boot from the disk and the report of its handoff",
    "retry-handoff": "the machine to fetch its new handoff script, within five minutes or at its next boot",
}


def waits_for(phase: Phase, last_event: str, machine: str, *, halted_because: str = "") -> str:
    """One sentence; empty when the build ended."""
    if halted_because and phase in {Phase.BOOTING, Phase.INSTALLING}:
        return f"you: {halted_because}. `provisioner build continue {machine}` lets one more attempt through"
    if phase is Phase.ARMED:
        return _AFTER_EVENT.get(last_event, "the machine to boot from the network: power it on")
    if phase in {Phase.BOOTING, Phase.INSTALLING}:
        return _AFTER_EVENT.get(last_event, "the installer's next report")
    if phase is Phase.BUILT:
        return _AFTER_BUILT.get(last_event, "the first boot from the disk and the report of its handoff")
    if phase is Phase.FAILED_HANDOFF:
        return f"you: the machine is installed, its handoff failed. `provisioner build retry-handoff {machine}`"
    if phase is Phase.FAILED:
        return f"you: `provisioner build log {machine}` tells why; `provisioner build start {machine}` tries anew"
    return ""

"""The world of the play: a subnet in loopback, a distro of made-up files, a profile, machines, armed builds.

All of it is marked as simulated, and only what is so marked is ever changed, armed or removed.
"""

import random
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from provisioner.core.content import parse_profile
from provisioner.core.lifecycle import MachineState
from provisioner.errors import Conflict, NotFound, ProvisionerError
from provisioner.services import arming, builds, catalogue, content, installables, machines, media, profiles, subnets
from provisioner.services.installables import DistroInput
from provisioner.services.machines import InterfaceInput
from provisioner.services.site import Actor, Site
from provisioner.settings import bind_address
from provisioner.simulate.plan import MARK, Part, Plan

NAME = "simulated"
"""The name of the subnet, the distro and the profile."""
DESCRIPTION = "played by `provisioner simulate`; remove with `provisioner simulate --clean`"
_TREE = "http://simulated.invalid/tree"
_MACHINE = re.compile(r"sim-\d{4,}")
_OS = "rocky"
# Dots alone come before every version, so that no profile which takes the newest of an os takes this one.
_VERSION = "..."
_SALT = "$6$simulated$"
_CRYPT = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Server:
    """Where the running service answers on this host."""

    boot_url: str
    media_url: str
    tftp: tuple[str, int]


def server(site: Site, plan: Plan) -> Server:
    """Where the machines reach the service: from loopback at its listeners, with DHCP at the URLs that it tells."""
    settings = site.settings
    if plan.dhcp:
        host = urlsplit(settings.boot).hostname or ""
        return Server(settings.boot, settings.media, (host, bind_address(settings.tftp_bind)[1]))
    boot, media_, tftp = (_reached(getattr(settings, name)) for name in ("boot_bind", "media_bind", "tftp_bind"))
    return Server(f"http://{boot[0]}:{boot[1]}", f"http://{media_[0]}:{media_[1]}", tftp)


def _reached(bind: str) -> tuple[str, int]:
    host, port = bind_address(bind)
    return ("127.0.0.1" if host in {"0.0.0.0", "::"} else host, port)  # noqa: S104 - compared, not bound


def make(site: Site, actor: Actor, plan: Plan, parts: Sequence[Part], progress: Progress) -> None:
    """Make the world, or bring what an earlier run kept up to this plan, and arm every machine.

    Raises Conflict where one of the names belongs to something that is not simulated; nothing is armed then.
    """
    known = ours(site)
    _refuse_takers(site)
    _subnet(site, actor, plan)
    _distro(site, actor, plan)
    _profile(site, actor)
    for done, part in enumerate(parts, 1):
        _machine(site, actor, part, known.get(part.name), plan)
        progress("adding machines", done, len(parts))
    armed = arming.start_all(site, actor, [part.name for part in parts])
    for done, (_, result) in enumerate(armed, 1):
        if isinstance(result, ProvisionerError):
            raise result
        progress("arming builds", done, len(parts))


def clean(site: Site, actor: Actor, progress: Progress) -> int:
    """Remove everything that is simulated; the number of machines that were. History and builds stay, as always."""
    removed = list(ours(site).values())
    for done, machine in enumerate(removed, 1):
        _stop_build(site, actor, machine)
        machines.remove(site, actor, machine["name"])
        progress("removing machines", done, len(removed))
    for show, remove in (
        (_simulated_profile, profiles.remove),
        (_simulated_distro, catalogue.remove_distro),
        (_simulated_subnet, subnets.remove),
    ):
        found = show(site)
        if found is not None:
            remove(site, actor, NAME)
            for key in ("kernel_sha256", "initrd_sha256"):
                _forget_file(site, found.get(key))
    return len(removed)


def ours(site: Site) -> dict[str, dict[str, Any]]:
    """The simulated machines by name. Raises Conflict if a machine has such a name and is none."""
    found = {each["name"]: each for each in machines.search(site, "sim-") if _MACHINE.fullmatch(each["name"])}
    for machine in found.values():
        if machine["description"] != DESCRIPTION:
            raise _foreign("machine", machine["name"])
    return found


def _machine(site: Site, actor: Actor, part: Part, known: Mapping[str, Any] | None, plan: Plan) -> None:
    interfaces = [InterfaceInput(part.mac, part.ip)]
    if known is None:
        fields = {"profile": NAME, "description": DESCRIPTION, "uuid": part.uuid, "serial": f"SIM{part.index:06d}"}
        machines.add(site, actor, part.name, interfaces, fields)
        chance = random.Random(f"{plan.seed} {part.name}")  # noqa: S311 - the hash of no password at all
        secret = _SALT + "".join(chance.choices(_CRYPT, k=86))
        machines.set_secret(site, actor, part.name, "root_password", secret)
        return
    _stop_build(site, actor, known)
    machines.edit(site, actor, part.name, {}, interfaces)
    machines.clear_flag(site, part.name)


def _stop_build(site: Site, actor: Actor, machine: Mapping[str, Any]) -> None:
    if machine["state"] == MachineState.BUILDING:
        builds.cancel(site, actor, machine["name"])


def _subnet(site: Site, actor: Actor, plan: Plan) -> None:
    urls = server(site, plan)
    fields: dict[str, Any] = {"boot_url": urls.boot_url, "media_url": urls.media_url, "parameters": {NAME: True}}
    fields["dhcp"] = "authoritative" if plan.dhcp else "off"
    known = _simulated_subnet(site)
    if known is None:
        subnets.add(site, actor, NAME, plan.cidr, fields)
        return
    if known["cidr"] != str(ip_network(plan.cidr, strict=False)):
        raise Conflict(
            f"the simulated machines of an earlier run are in {known['cidr']}, not in {plan.cidr}",
            hint="`provisioner simulate --clean` removes them",
        )
    subnets.edit(site, actor, NAME, fields)


def _distro(site: Site, actor: Actor, plan: Plan) -> None:
    known = _simulated_distro(site)
    with tempfile.TemporaryDirectory(prefix="provisioner-simulate-") as directory:
        files = {"kernel": Path(directory, "vmlinuz"), "initrd": Path(directory, "initrd.img")}
        for key, size in (("kernel", plan.kernel_bytes), ("initrd", plan.initrd_bytes)):
            _write(files[key], key, size)
        paths = {key: str(path) for key, path in files.items()}
        if known is None:
            given = DistroInput(_OS, _VERSION, paths["kernel"], paths["initrd"], _TREE)
            installables.add_distro(site, actor, NAME, given)
            return
        edited = installables.edit_distro(site, actor, NAME, paths)
    for key in ("kernel_sha256", "initrd_sha256"):
        if edited[key] != known[key]:
            _forget_file(site, known[key])


def _write(path: Path, key: str, size: int) -> None:
    """A file that says what it is and does not compress; the same for the same size."""
    chance = random.Random(f"{key} {size}")  # noqa: S311 - filler
    with path.open("wb") as file:
        file.write(MARK)
        for chunk in _chunks(size - len(MARK)):
            file.write(chance.randbytes(chunk))


def _chunks(size: int) -> Iterator[int]:
    while size > 0:
        yield min(size, 1 << 20)
        size -= 1 << 20


def _forget_file(site: Site, sha256: str | None) -> None:
    """Remove a made-up file from the media store; nothing else begins with our mark."""
    path = media.path_of(site, sha256) if sha256 else None
    if path is not None and path.is_file():
        with path.open("rb") as file:
            simulated = file.read(len(MARK)) == MARK
        if simulated:
            path.unlink()


def _profile(site: Site, actor: Actor) -> None:
    data = {
        "description": DESCRIPTION,
        "distro": {"name": NAME},
        "template": "kickstart/el9.ks.j2",
        "parameters": _shipped_parameters("linux"),
        "handoff": {"tool": "none"},
    }
    if _simulated_profile(site) is None:
        profiles.add(site, actor, {"name": NAME, **data})
    else:
        profiles.edit(site, actor, NAME, data)


def _shipped_parameters(name: str) -> dict[str, Any]:
    """Those of a profile as it comes with the program, whatever the site made of it."""
    where = f"profiles/{name}.yaml"
    return parse_profile((content.shipped() / where).read_text(), where).parameters


def _refuse_takers(site: Site) -> None:
    """No profile of the site may take the simulated distro for a real one."""
    for profile in profiles.listing(site):
        wanted = profile["distro"] or {}
        loose = "name" not in wanted and "version" not in wanted and wanted.get("os") in {None, _OS}
        if profile["distro"] is not None and loose:
            raise Conflict(
                f"profile {profile['name']} takes any {wanted.get('os') or 'distro'}, even the simulated one",
                hint=f"name its distro or a version: `provisioner profile edit {profile['name']} --distro NAME`",
            )


def _simulated_subnet(site: Site) -> dict[str, Any] | None:
    found = _found(subnets.show, site)
    if found is not None and found["parameters"].get(NAME) is not True:
        raise _foreign("subnet", NAME)
    return found


def _simulated_distro(site: Site) -> dict[str, Any] | None:
    found = _found(catalogue.distro, site)
    if found is not None and found["tree"] != _TREE:
        raise _foreign("distro", NAME)
    return found


def _simulated_profile(site: Site) -> dict[str, Any] | None:
    found = _found(profiles.show, site)
    if found is not None and found["description"] != DESCRIPTION:
        raise _foreign("profile", NAME)
    return found


def _found(show: Callable[[Site, str], dict[str, Any]], site: Site) -> dict[str, Any] | None:
    try:
        return show(site, NAME)
    except NotFound:
        return None


def _foreign(kind: str, name: str) -> Conflict:
    return Conflict(
        f"there is a {kind} {name!r} that is not simulated; it is left alone",
        hint=f"`provisioner {kind} rename {name} NEW_NAME`, then simulate again",
    )

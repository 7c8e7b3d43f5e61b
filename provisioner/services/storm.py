"""The plan of a boot storm: how much a profile's machines load from here, so how long it takes, and in what waves."""

import statistics
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from provisioner.core import firmware as kinds
from provisioner.core import storm
from provisioner.core.storm import Boot, Limit, Path, Plan, amount, duration, speed
from provisioner.errors import BuildNotPossible, InvalidInput, NotFound
from provisioner.services import bootfiles, installables, media
from provisioner.services.resolve import lineage
from provisioner.services.site import Site
from provisioner.store.engine import read
from provisioner.store.models import Attempt, Build, BuildTraffic, Distro, Image, Machine, Profile, SealedFile

MOST_MACHINES = 1_000_000
_LOOKED_AT = 500
_COMPARED = 20
"""The newest builds, of which the medians are taken."""
_OPTIONS = {"bios": (1456, 1), "uefi": (1468, 4)}
"""The blksize and windowsize that a PXE ROM and EDK2 ask for."""
_LIMITS: Mapping[Limit, str] = {
    Limit.LINK: "the server's link is what limits: a faster one, a second one, or a second server makes it shorter",
    Limit.SERVER: "the server itself is what limits: more cores or a second server make it shorter",
    Limit.TFTP: "the round trips of TFTP are what limits one machine: UEFI HTTP boot, or a smaller loader, is quicker",
    Limit.CLIENT: "the machines' own links are what limits: the server could feed more of them at once",
    Limit.INSTALLER: "the installers' own work is what limits: all is loaded sooner than they are done",
}


@dataclass(frozen=True)
class _Known:
    """What one boot loads, and where that is known from."""

    boot: Boot
    builds: int = 0
    """How many were measured; none: it is computed."""
    install_seconds: float | None = None
    remarks: tuple[str, ...] = ()


def plan(
    site: Site,
    machines: int,
    link: str,
    profile: str | None = None,
    firmware: str = "uefi",
    *,
    tftp_rate: float | None = None,
    media_rate: float | None = None,
) -> dict[str, Any]:
    """Plan the boot of so many machines over a link such as ``10G``.

    Without a ``profile`` it is that of the most machines. The rates are what the server can send, in megabytes a
    second; None where nobody knows, and then they count for nothing. Raises InvalidInput, NotFound, BuildNotPossible.
    """
    if not 1 <= machines <= MOST_MACHINES:
        raise InvalidInput(f"{machines} machines", where="machines", hint=f"from 1 to {MOST_MACHINES}")
    for name, value in (("tftp_rate", tftp_rate), ("media_rate", media_rate)):
        if value is not None and not 0.001 <= value < 1e6:
            raise InvalidInput(f"{value} MB/s", where=name, hint="megabytes a second, for example 150")
    kind = kinds.firmware(firmware)
    blksize, windowsize = _OPTIONS[kind.name]
    path = Path(
        link=storm.rate(link),
        blksize=blksize,
        windowsize=windowsize,
        tftp_rate=tftp_rate and tftp_rate * 1e6,
        media_rate=media_rate and media_rate * 1e6,
    )
    with read(site.engine) as session:
        chosen = _profile(session, profile)
        known = _measured(session, chosen) or _computed(session, site, chosen, kind.loader)
        name = chosen.name
    found = storm.plan(machines, known.boot, path, known.install_seconds)
    return _told(name, machines, kind.name, path, known, found)


def _profile(session: Session, name: str | None) -> Profile:
    if name is not None:
        found = session.scalars(select(Profile).where(Profile.name == name)).one_or_none()
        if found is None:
            raise NotFound(f"there is no profile {name!r}", where="profile", hint="see `provisioner profile list`")
        return found
    most = select(Machine.profile_id).where(Machine.profile_id.is_not(None)).group_by(Machine.profile_id)
    number = session.scalar(most.order_by(func.count().desc(), Machine.profile_id).limit(1))
    if number is None:
        raise NotFound("no machine has a profile yet", where="profile", hint="say which with --profile NAME")
    return session.get_one(Profile, number)


def _measured(session: Session, profile: Profile) -> _Known | None:
    """The medians of the newest builds whose machines loaded their kernel from here; None if there are none."""
    name = Build.sealed["profile"]["name"].as_string()
    newest = select(Build.id, Build.built_at, name).where(Build.built_at.is_not(None)).order_by(Build.id.desc())
    rows = [(number, at) for number, at, each in session.execute(newest.limit(_LOOKED_AT)) if each == profile.name]
    traffic: dict[int, dict[str, int]] = {}
    of_these = select(BuildTraffic).where(BuildTraffic.build_id.in_([number for number, _ in rows]))
    for each in session.scalars(of_these):
        traffic.setdefault(each.build_id, {})[each.way] = each.bytes
    used = [(number, at) for number, at in rows if traffic.get(number, {}).get("media")][:_COMPARED]
    if not used:
        return None
    medians = {way: _median([traffic[number].get(way, 0) for number, _ in used]) for way in ("tftp", "media", "tree")}
    took = []
    for number, at in used:
        opened = session.scalar(
            select(func.max(Attempt.opened_at)).where(Attempt.build_id == number, Attempt.opened_at <= at)
        )
        took += [(at - opened).total_seconds()] if opened is not None else []
    boot = Boot(boot=_sealed_bytes(session, used[0][0]), **medians)
    return _Known(boot, len(used), statistics.median(took) if took else None)


def _median(values: Sequence[int]) -> int:
    return round(statistics.median(values))


def _sealed_bytes(session: Session, build_id: int) -> int:
    """The texts that one boot fetches: it takes one of the two loaders' scripts."""
    files = session.execute(select(SealedFile.name, SealedFile.content).where(SealedFile.build_id == build_id))
    return sum(len(zlib.decompress(content)) for name, content in files if name != "grub")


def _computed(session: Session, site: Site, profile: Profile, loader: str) -> _Known:
    """What the profile's files are long, as they are registered now."""
    remarks: list[str] = []
    kind, thing = _installable(session, profile)
    if isinstance(thing, Image):
        sizes = [thing.size]
    else:
        sizes = [_size(site, sha256) for sha256 in (thing.kernel_sha256, thing.initrd_sha256)]
        sizes += [int(file["size"]) for file in (thing.files or {}).values()]
        if thing.tree.startswith("/"):
            remarks.append(f"what installers load from the tree of {thing.name} here is not counted: no build tells")
        elif thing.tree:
            remarks.append(f"the install tree is not served from here and not counted: {thing.tree}")
    file = bootfiles.loaders().get(loader)
    if file is None:
        remarks.append(f"{loader} is not installed on this host and not counted")
    name = Build.sealed["profile"]["name"].as_string()
    latest = session.scalar(select(Build.id).where(name == profile.name).order_by(Build.id.desc()).limit(1))
    if latest is None:
        remarks.append("no build of this profile is sealed, so its scripts and answer file (some kB) are not counted")
    boot = Boot(
        tftp=file.stat().st_size if file is not None else 0,
        boot=_sealed_bytes(session, latest) if latest is not None else 0,
        media=sum(sizes),
    )
    return _Known(boot, remarks=(f"{kind} {thing.name}", *remarks))


def _installable(session: Session, profile: Profile) -> tuple[str, Distro | Image]:
    for each in reversed(lineage(session, profile)):
        if each.image is not None:
            return "image", installables.select_newest(session, Image, each.image, f"profile {each.name}")
        if each.distro is not None:
            return "distro", installables.select_newest(session, Distro, each.distro, f"profile {each.name}")
    raise BuildNotPossible(
        f"profile {profile.name} has neither a distro nor an image",
        hint=f"`provisioner profile edit {profile.name} --distro NAME`, or give it a parent that has one",
    )


def _size(site: Site, sha256: str) -> int:
    return media.require(site, sha256, "a file of the distro").stat().st_size


def _told(profile: str, machines: int, firmware: str, path: Path, known: _Known, found: Plan) -> dict[str, Any]:
    return {
        "profile": profile,
        "machines": machines,
        "firmware": firmware,
        "link": path.link,
        "measured_builds": known.builds,
        "bytes": {**vars(known.boot), "total": known.boot.total},
        "link_seconds": round(found.link_seconds, 1),
        "server_seconds": round(found.server_seconds, 1),
        "alone_seconds": round(found.alone_seconds, 1),
        "install_seconds": None if known.install_seconds is None else round(known.install_seconds, 1),
        "seconds": round(found.together, 1),
        "limit": found.limit.value,
        "wave": found.wave,
        "waves": found.waves,
        "apart_seconds": round(found.apart, 1),
        "waves_seconds": round(found.in_waves, 1),
        "mean_seconds": round(found.mean_together, 1),
        "mean_waves_seconds": round(found.mean_in_waves, 1),
        "sentences": _sentences(profile, machines, path, known, found),
    }


def _sentences(profile: str, machines: int, path: Path, known: _Known, found: Plan) -> list[str]:
    """The plan as an administrator reads it."""
    boot = known.boot
    parts = {"TFTP": boot.tftp, "scripts and answer file": boot.boot, "kernel, initrd, image": boot.media}
    parts["install tree"] = boot.tree
    each = ", ".join(f"{amount(size)} {what}" for what, size in parts.items() if size)
    builds = "1 build" if known.builds == 1 else f"{known.builds} builds"
    source = f"the median of {builds}" if known.builds else f"computed from {known.remarks[0]}, no build was measured"
    whole = f"{amount(machines * boot.total)}: {amount(boot.total)} each ({each or 'nothing'}; {source})"
    alone = f"one machine alone loads its part in {duration(found.alone_seconds)}"
    told = [
        f"{_machines(machines)} of {profile} need {whole}.",
        *(f"{remark[0].upper()}{remark[1:]}." for remark in known.remarks[1:]),
        f"{speed(path.link)} carries that in {duration(found.link_seconds)}; {alone}.",
    ]
    if path.tftp_rate or path.media_rate:
        told.append(f"The server sends that in {duration(found.server_seconds)}.")
    else:
        told.append("What the server can send is not counted: say it with --tftp-rate and --media-rate (MB/s).")
    if known.install_seconds is not None:
        told.append(f"From its boot script to `built` a machine took {duration(known.install_seconds)}.")
    told.append(f"{_LIMITS[found.limit][0].upper()}{_LIMITS[found.limit][1:]}.")
    return [*told, _advice(machines, found)]


def _advice(machines: int, found: Plan) -> str:
    if found.waves == 1:
        return f"Start {'it' if machines == 1 else 'them'} all at once."
    return (
        f"Start them in {found.waves} waves of {found.wave}, {duration(found.apart)} apart: the last has loaded after "
        f"{duration(found.in_waves)} as when all start at once, but on average a machine has after "
        f"{duration(found.mean_in_waves)} instead of {duration(found.mean_together)}."
    )


def _machines(count: int) -> str:
    return "1 machine" if count == 1 else f"{count:,} machines"

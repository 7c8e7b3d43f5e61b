"""`provisioner check`: one function a finding, each with what is wrong, why it matters, and the remedy."""

import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from sqlalchemy import select

from provisioner import handoff
from provisioner.core.addresses import contains
from provisioner.errors import ProvisionerError
from provisioner.render import validate
from provisioner.services import (
    bootfiles,
    deliveries,
    dhcp,
    logins,
    media,
    netbox,
    outbox,
    people,
    profiles,
    puppet,
    spool,
    templates,
    tokens,
    trees,
    validating,
)
from provisioner.services import loaders as localdisk
from provisioner.services.keys import Keys
from provisioner.services.site import Site
from provisioner.settings import address_in
from provisioner.store import schema
from provisioner.store.engine import read
from provisioner.store.models import Distro, Image, Machine, Profile, Subnet

_LEAST_FREE_BYTES = 2 << 30
# dnsmasq re-reads all reservations at every change; beyond this many that takes seconds.
_DNSMASQ_MACHINES = 20_000
_FORGOTTEN_DAYS = 180


@dataclass(frozen=True)
class Finding:
    """Something that an administrator should know. ``error``: builds or boots fail; ``warning``: they may."""

    level: Literal["error", "warning"]
    what: str
    why: str
    remedy: str


def run(
    site: Site, *, templates: bool = False, only: Sequence[Callable[[Site], Iterator[Finding]]] | None = None
) -> list[Finding]:
    """All findings, errors first, or those of some of `CHECKS`. A check that itself fails is a finding too.

    ``templates``: what every profile renders is validated too.
    """
    checks = CHECKS if only is None else only
    findings: list[Finding] = []
    for check in (*checks, rendered) if templates else checks:
        try:
            findings += check(site)
        except ProvisionerError as error:
            findings.append(Finding("error", error.message, f"the check {check.__name__} could not run", error.hint))
    return sorted(findings, key=lambda finding: finding.level)


def database(site: Site) -> Iterator[Finding]:
    """The database answers and has this program's schema."""
    schema.check(site.engine)
    yield from ()


def keys(site: Site) -> Iterator[Finding]:
    """The master key opens secrets, and nobody else reads the keys."""
    directory = site.settings.state_dir / "keys"
    try:
        Keys(directory).seal("", "check")
    except ProvisionerError as error:
        yield Finding("error", error.message, "stored secrets are unusable; boots go on", error.hint)
    for path in sorted(directory.glob("*.key")):
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            yield Finding("error", f"{path} can be read by others", "it opens every secret", f"chmod 600 {path}")


def space(site: Site) -> Iterator[Finding]:
    """There is room for the database and media."""
    free = shutil.disk_usage(site.settings.state_dir).free
    if free < _LEAST_FREE_BYTES:
        why = "a full disk refuses every change, and media cannot be added"
        yield Finding("warning", f"only {free >> 20} MiB are free for {site.settings.state_dir}", why, "make room")


def urls(site: Site) -> Iterator[Finding]:
    """Machines are told URLs that they can reach."""
    with read(site.engine) as session:
        subnets = list(session.scalars(select(Subnet)))
    for subnet in subnets:
        for key, url in (
            ("boot_url", subnet.boot_url or site.settings.boot_in(subnet.cidr)),
            ("media_url", subnet.media_url or site.settings.media_in(subnet.cidr)),
        ):
            if _is_loopback(url) and not contains("127.0.0.0/8", subnet.cidr.split("/")[0]):
                ours = address_in(subnet.cidr) or "ADDRESS"
                option = f"--{key.replace('_', '-')} http://{ours}:{urlsplit(url).port}"
                yield Finding(
                    "error",
                    f"machines in subnet {subnet.name} are told {key} {url}",
                    "a machine that asks its own loopback gets no answer",
                    f"provisioner subnet edit {subnet.name} {option}; or set {key}, for all subnets",
                )


def subnets(site: Site) -> Iterator[Finding]:
    """There is a subnet at all: without one no machine's address can be trusted."""
    with read(site.engine) as session:
        if session.scalars(select(Subnet).limit(1)).one_or_none() is None:
            yield Finding(
                "warning",
                "there is no subnet",
                "builds and TFTP serve only machines in a known subnet",
                "provisioner subnet add lab --cidr 10.0.2.0/24 --gateway 10.0.2.1 --dns 10.0.2.1",
            )


def loaders(_site: Site) -> Iterator[Finding]:
    """The boot loaders are installed."""
    missing = bootfiles.missing_loaders()
    if missing:
        why = "network cards with a plain PXE ROM cannot start iPXE"
        yield Finding("warning", f"not found: {', '.join(missing)}", why, "apt install ipxe")


def local_loaders(site: Site) -> Iterator[Finding]:
    """The small loaders are there that take UEFI machines to their local disk."""
    absent = localdisk.missing(site)
    if absent:
        obstacle = localdisk.obstacle()
        what = f"not made, or made by another version: {', '.join(absent)}"
        why = "UEFI machines are left to their firmware, which may try other networks for minutes before the disk"
        remedy = "run `provisioner init`, which makes them"
        yield Finding("warning", what, why, f"{obstacle.hint}, then {remedy}" if obstacle else remedy)


def dhcp_server(site: Site) -> Iterator[Finding]:
    """Authoritative subnets have a DHCP server that knows every reservation."""
    with read(site.engine) as session:
        names = list(session.scalars(select(Subnet.name).where(Subnet.dhcp == "authoritative")))
        machines = session.query(Machine).count() if names else 0
    if not names:
        return
    # A plain user's PATH leaves out where daemons are; whoever starts dnsmasq looks there too.
    if shutil.which("dnsmasq", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin") is None:
        why = f"nobody answers DHCP in {', '.join(names)}"
        yield Finding("error", "dnsmasq is not installed", why, "apt install dnsmasq-base")
    elif not dhcp.acknowledged(site):
        why = "a machine added since then gets no address, and builds there are refused"
        yield Finding("error", "DHCP has not taken the newest changes", why, "run `provisioner serve`; `dhcp check`")
    if machines > _DNSMASQ_MACHINES:
        why = "dnsmasq re-reads them all at every change"
        yield Finding("warning", f"{machines} machines are many for dnsmasq", why, "use an external Kea")


def proxy_server(site: Site) -> Iterator[Finding]:
    """Subnets in proxy mode have a proxy that answers."""
    subnets = dhcp.proxied(site)
    if not subnets:
        return
    report = dhcp.proxy_report(site)
    why = f"nobody tells machines in {', '.join(each.name for each in subnets)} what to boot"
    if not report.running:
        yield Finding("error", "the DHCP proxy does not run", why, "run `provisioner serve`")
    elif report.error:
        yield Finding("error", report.error, "machines there are not told what to boot", report.hint)
    elif not report.interfaces:
        yield Finding("error", "the DHCP proxy answers on no interface", why, "see the log of `provisioner serve`")


def validators(_site: Site) -> Iterator[Finding]:
    """Answer files can be validated by their families' own tools before a machine is armed."""
    for kind, program, remedy in validate.missing_programs():
        what = f"{program} is not installed: each {kind} is checked for its structure alone"
        yield Finding("warning", what, "what it alone would find is found by the machine, not by you", remedy)


def drafts(site: Site) -> Iterator[Finding]:
    """The newest text of every template is the one in force."""
    for each in templates.drafts(site):
        problem = each["problems"][0]
        what = f"template {each['name']} has a draft that fails: {problem['where']}: {problem['message']}"
        why = "machines still get the last good text" if each["text"] else "no build can be armed with it"
        remedy = f"provisioner template show {each['name']} --draft, mend it, then provisioner template edit"
        yield Finding("warning", what, why, remedy)


def rendered(site: Site) -> Iterator[Finding]:
    """What every profile renders is valid. It takes a second or so for each, so only if asked for."""
    for each in validating.everything(site):
        what = f"{each.where}: {each.message}" if each.where else each.message
        why = "builds with it are refused" if each.level == "error" else "builds with it may be refused"
        yield Finding(each.level, what, why, each.hint)


def media_files(site: Site) -> Iterator[Finding]:
    """Every registered kernel, initrd, ISO and image is in the media store."""
    with read(site.engine) as session:
        wanted = [(f"kernel of distro {d.name}", d.kernel_sha256) for d in session.scalars(select(Distro))]
        wanted += [(f"initrd of distro {d.name}", d.initrd_sha256) for d in session.scalars(select(Distro))]
        for distro in session.scalars(select(Distro)):
            files = (distro.files or {}).items()
            wanted += [(f"{role} of distro {distro.name}", file["sha256"]) for role, file in files]
        wanted += [(f"image {each.name}", each.sha256) for each in session.scalars(select(Image))]
    for what, sha256 in wanted:
        if not media.path_of(site, sha256).is_file():
            why = "builds with it are refused, and sealed ones fail"
            yield Finding("error", f"the {what} is not in the media store", why, "add it again, or restore the media")


def imported_trees(site: Site) -> Iterator[Finding]:
    """Imported trees are there, and nothing lies beside them that nobody needs."""
    left = trees.leftovers(site)
    if left:
        what = f"{len(left)} unfinished imports were found in {trees.directory(site)}, and removed"
        yield Finding("warning", what, "an import was killed; nobody saw any of it", "import that medium again")
    with read(site.engine) as session:
        rows = session.execute(select(Distro.name, Distro.tree).where(Distro.tree.startswith("/"))).all()
    for name, tree in rows:
        if not Path(tree).is_dir():
            why = "installers find nothing there"
            remedy = f"import it again under another name, or provisioner distro edit {name} --tree URL|DIR"
            yield Finding("error", f"the tree of distro {name} is gone: {tree}", why, remedy)
    for name, path in trees.all_kept(site):
        why = f"no build under way needs it; it takes room, and `build repeat` of one sealed with {name} would want it"
        remedy = f"if none is to be repeated: rm -r {path}"
        yield Finding("warning", f"the tree of the removed distro {name} is kept", why, remedy)


def ramdisk(site: Site) -> Iterator[Finding]:
    """Image profiles have the deploy ramdisk that writes them."""
    with read(site.engine) as session:
        uses_images = any(session.scalars(select(Image.id).limit(1))) and any(
            image is not None for image in session.scalars(select(Profile.image))
        )
    if uses_images and not (site.ramdisk_dir / "initrd.img").is_file():
        yield Finding("warning", "the deploy ramdisk is not built", "no image can be written", "scripts/build-ramdisk")


def spooled(site: Site) -> Iterator[Finding]:
    """Reports of machines are in the database."""
    waiting, left = spool.attempts(site), spool.aside(site)
    if waiting:
        why = "no machine is built before they are in the database"
        what = f"reports of {len(waiting)} attempts wait in {site.spool_dir}"
        yield Finding("warning", what, why, "`provisioner serve` applies them within a second: is it up?")
    if left:
        why = "what these machines reported is not in any build; the log says why"
        yield Finding("warning", f"{len(left)} reports were set aside", why, f"look at {left[0].parent}, then empty it")


def webhooks(site: Site) -> Iterator[Finding]:
    """Receivers take what they are told."""
    for name, error, waiting in deliveries.failing(site):
        why = f"{waiting} deliveries wait; each is given up after eight tries, a day and a half"
        remedy = f"provisioner webhook test {name}; provisioner webhook deliveries {name}"
        yield Finding("warning", f"webhook {name} fails: {error}", why, remedy)


def netbox_inventory(site: Site) -> Iterator[Finding]:
    """NetBox, where one is configured, takes our token, and nobody else reads it."""
    settings = site.settings.netbox
    if settings is None:
        return
    for path in (settings.token_file, settings.webhook_secret_file):
        if path is not None and path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o007:
            yield Finding("error", f"{path} can be read by everybody", "it is a secret", f"chmod o= {path}")
    if settings.verify == "off" or (settings.url.startswith("http://") and not _is_loopback(settings.url)):
        why = "whoever is on the way reads the token, and says which machines there are"
        yield Finding("warning", f"nobody checks that {settings.url} is NetBox", why, "use https, and netbox.ca_file")
    try:
        netbox.reach(site)
        if settings.webhook_secret_file is not None:
            netbox.secret(settings)
    except ProvisionerError as error:
        why = "`provisioner inventory sync netbox` and NetBox's webhooks need it"
        yield Finding("error", str(error), why, error.hint)


def handoffs(site: Site) -> Iterator[Finding]:
    """The servers of configuration management take machines, and what was to be done there is done."""
    directory = site.settings.credentials
    for path in sorted(directory.glob("*")) if directory.is_dir() else ():
        if path.is_file() and path.suffix in {".key", ".pem"} and stat.S_IMODE(path.stat().st_mode) & 0o007:
            yield Finding("warning", f"{path} can be read by everybody", "it may be a secret", f"chmod o= {path}")
    host = replace(site.host, echo=puppet.Echo(site))
    for tool, settings in profiles.handoffs(site):
        for found in handoff.tool(tool).probe(settings, host):
            yield Finding(found.level, f"handoff {tool}: {found.what}", found.why, found.remedy)
    for each in outbox.waiting(site):
        what = f"{each['tool']}: {each['kind']} of {each['identity']} ({each['machine']}) fails: {each['error']}"
        why = "no later build of that machine gets an identity before, and an old one may still be good"
        yield Finding("warning", what, why, f"mend what it says; it is tried again by itself ({each['tries']} tries)")


def flagged(site: Site) -> Iterator[Finding]:
    """Machines that somebody should look at."""
    with read(site.engine) as session:
        for machine in session.scalars(select(Machine).where(Machine.flag != "").order_by(Machine.name)):
            remedy = f"provisioner build show {machine.name}; provisioner machine edit {machine.name} --clear-flag"
            yield Finding("warning", f"{machine.name} is flagged", machine.flag, remedy)


def administrators(site: Site) -> Iterator[Finding]:
    """Somebody can administer this by UI and API, and nobody guesses passwords."""
    with read(site.engine) as session:
        if not people.active_admins(session):
            why = "nobody can administer this but on this host"
            yield Finding("error", "no administrator can log in", why, "provisioner user add NAME --role admin")
    for whom in logins.slowed(site):
        why = "somebody guesses passwords, or a program has an old one; the log (`login failed`) has each attempt"
        yield Finding("warning", f"logins are slowed down: {whom}", why, "see where they come from")


def forgotten_tokens(site: Site) -> Iterator[Finding]:
    """Tokens that are good are used."""
    for name in tokens.forgotten(site, _FORGOTTEN_DAYS):
        what, why = f"token {name} was not used for {_FORGOTTEN_DAYS} days", "whoever finds it somewhere can use it"
        yield Finding("warning", what, why, f"provisioner token revoke {name}")


CHECKS: tuple[Callable[[Site], Iterator[Finding]], ...] = (
    database,
    keys,
    space,
    urls,
    subnets,
    loaders,
    local_loaders,
    dhcp_server,
    proxy_server,
    validators,
    drafts,
    media_files,
    imported_trees,
    ramdisk,
    spooled,
    webhooks,
    netbox_inventory,
    handoffs,
    flagged,
    administrators,
    forgotten_tokens,
)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

"""From gathered inputs to the files of a build: rendered in the confined process and validated."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from provisioner import handoff
from provisioner.core import network, storage
from provisioner.core.firmware import family_of
from provisioner.core.markers import BUILD_URLS, secrets_in
from provisioner.core.names import template_kind
from provisioner.core.unread import unread
from provisioner.errors import AnswerInvalid, BuildNotPossible, MediaMissing, ProvisionerError
from provisioner.handoff import Prepared as PreparedHandoff
from provisioner.handoff import Subject
from provisioner.render import bootargs, bootscripts, confined
from provisioner.services import media, missing, remarks, trees, zones
from provisioner.services.resolve import Gathered
from provisioner.services.site import Site

Result = TypeVar("Result")
_LONGEST_BOOT_CFG = 64 * 1024
_UNWRAPPED_BY_FETCH = {"ignition", "esxi"}
_SEED = ("meta-data", "vendor-data", "network-config")


@dataclass(frozen=True)
class Payload:
    """What the boot loader loads: the installer's kernel and initrd, or the deploy ramdisk."""

    kernel: media.Stored
    initrd: media.Stored
    family: str
    boot_cfg: str = ""
    """ESXi alone: the boot.cfg of its medium, which stands in the initrd's place."""


@dataclass(frozen=True)
class Made:
    """The finished files, by name, and what the validator had to say short of an error."""

    files: Mapping[str, str]
    warnings: tuple[str, ...]
    handoff: PreparedHandoff
    subject: Subject
    tool: str
    """The handoff's, by name."""
    secret_names: tuple[str, ...]
    """All that the machine may unwrap."""
    payload: Payload


def payload(site: Site, gathered: Gathered) -> Payload:
    """Kernel and initrd for this build. Raises MediaMissing."""
    if gathered.image is not None:
        if not gathered.image["root"]:
            raise BuildNotPossible(
                f"nobody said where the root file system of image {gathered.image['name']} is",
                hint=f"`provisioner image edit {gathered.image['name']} --root LABEL=...`, or a partition's number",
            )
        media.require(site, gathered.image["sha256"], f"the image {gathered.image['name']}")
        return Payload(_ramdisk(site, "vmlinuz"), _ramdisk(site, "initrd.img"), "image")
    assert gathered.distro is not None  # noqa: S101 - gather() gives one of the two
    distro = gathered.distro
    loaded = Payload(_loaded(site, distro, "kernel"), _loaded(site, distro, "initrd"), family_of(distro["os"]))
    for role, file in (distro.get("files") or {}).items():
        media.require(site, file["sha256"], f"the {role} of distro {distro['name']}")
    if distro["tree"].startswith("/") and not trees.is_there(site, Path(distro["tree"])):
        raise MediaMissing(
            f"the tree of distro {distro['name']} is gone",
            where=distro["tree"],
            hint=f"bring it back, or `provisioner distro edit {distro['name']} --tree URL|DIR`",
        )
    if loaded.family != "esxi":
        return loaded
    return replace(loaded, boot_cfg=_boot_cfg(site, distro))


def _boot_cfg(site: Site, distro: Mapping[str, Any]) -> str:
    path = media.require(site, distro["initrd_sha256"], f"the boot.cfg of distro {distro['name']}")
    with path.open("rb") as file:
        return file.read(_LONGEST_BOOT_CFG).decode(errors="replace")


def _loaded(site: Site, distro: Mapping[str, Any], key: str) -> media.Stored:
    path = media.require(site, distro[f"{key}_sha256"], f"the {key} of distro {distro['name']}")
    return media.Stored(distro[f"{key}_sha256"], path.stat().st_size, distro[f"{key}_name"])


def _ramdisk(site: Site, name: str) -> media.Stored:
    path = site.ramdisk_dir / name
    if not path.is_file():
        raise MediaMissing(
            "the deploy ramdisk, which writes images to disks, is not built",
            where=str(path),
            hint="run `scripts/build-ramdisk` once; it takes a minute",
        )
    return media.ingest(site, str(path), "ramdisk")


@dataclass(frozen=True)
class Order:
    """One build to make: its inputs, its number, and the names of the machine's secrets."""

    gathered: Gathered
    number: int
    secrets: tuple[str, ...]


@dataclass(frozen=True)
class Prepared:
    """An order with all that rendering needs; equal ones render to the same."""

    order: Order
    payload: Payload
    tool: handoff.Tool
    handoff: PreparedHandoff
    subject: Subject
    secret_names: tuple[str, ...]
    context: Mapping[str, Any]


def make(site: Site, gathered: Gathered, *, number: int, secrets: tuple[str, ...]) -> Made:
    """Render and validate every file of the build. Raises the content error of the first that fails."""
    made = make_all(site, [Order(gathered, number, secrets)])[0]
    if isinstance(made, ProvisionerError):
        raise made
    return made


def make_all(site: Site, orders: Sequence[Order]) -> list[Made | ProvisionerError]:
    """Several builds at once, one answer an order: starting the confined process costs more than rendering in it.

    All must have been gathered in one transaction, so that they mean the same templates.
    """
    prepared = [_tried(prepare, site, order) for order in orders]
    good = [each for each in prepared if isinstance(each, Prepared)]
    jobs = [confined.Job(template, each.context) for each in good for template in wanted(each.order.gathered).values()]
    rendered = iter(confined.render(jobs, orders[0].gathered.sources) if jobs else [])
    made: list[Made | ProvisionerError] = []
    for each in prepared:
        if isinstance(each, ProvisionerError):
            made.append(each)
            continue
        texts = [next(rendered) for _ in wanted(each.order.gathered)]
        made.append(_tried(finish, each, texts))
    return made


def _tried(work: Callable[..., Result], *arguments: Any) -> Result | ProvisionerError:
    try:
        return work(*arguments)
    except ProvisionerError as error:
        return error


def prepare(site: Site, order: Order, loaded: Payload | None = None) -> Prepared:
    """The order with all that rendering needs; ``loaded`` is its `payload`, where that is known already."""
    gathered = order.gathered
    loaded = loaded or payload(site, gathered)
    settings = dict(gathered.resolved.field("handoff") or {})
    tool = handoff.tool(str(settings.pop("tool", "none")))
    tool.check(settings)
    told = subject(gathered.machine, gathered.interfaces, gathered.profile["name"], order.number)
    prepared = tool.prepare(settings, told)
    names = tuple(sorted({*order.secrets, *prepared.secrets}))
    shown = {"tool": tool.name, **settings, "secrets": list(prepared.secrets)}
    context = render_context(gathered, loaded, number=order.number, secrets=names, shown=shown)
    return Prepared(order, loaded, tool, prepared, told, names, context)


def subject(machine: Mapping[str, Any], interfaces: Sequence[Mapping[str, Any]], profile: str, number: int) -> Subject:
    """The machine as tools see it, from what a build is sealed with."""
    addresses = tuple(each["ip"] for each in interfaces if each["ip"])
    return Subject(machine["name"], machine["fqdn"], profile, number, addresses)


def finish(prepared: Prepared, results: Sequence[str | ProvisionerError]) -> Made:
    """The build of a prepared order, from what its templates rendered to. Raises the first error, and AnswerInvalid."""
    files = {}
    for name, result in zip(wanted(prepared.order.gathered), results, strict=True):
        if isinstance(result, ProvisionerError):
            raise missing.told(result, prepared.order.gathered)
        files[name] = result
    gathered = prepared.order.gathered
    warnings = (*validated(prepared, files), *unread(gathered.resolved, gathered.sources.values()))
    files |= other_files(prepared)
    told = (prepared.handoff, prepared.subject, prepared.tool.name)
    return Made(files, warnings, *told, prepared.secret_names, prepared.payload)


def other_files(prepared: Prepared) -> dict[str, str]:
    """The files of a build that no template makes."""
    script = handoff.handoff_script(prepared.tool.name, prepared.handoff, BUILD_URLS)
    return {"handoff": script} | boot_files(prepared.order.gathered, prepared.payload, prepared.context)


def wanted(gathered: Gathered) -> dict[str, str]:
    """The files that templates make, by name, each with its template."""
    if template_kind(gathered.template) == "autoinstall":
        return {"user-data": gathered.template} | {name: f"autoinstall/{name}.j2" for name in _SEED}
    return {"answer": gathered.template}


def validated(prepared: Prepared, files: Mapping[str, str]) -> tuple[str, ...]:
    """The validator's warnings about the files that templates made. Raises AnswerInvalid."""
    check_secrets(prepared, files)
    (found,) = remarks.remarks([answer(prepared, files)], prepared.order.gathered.sources)
    return remarks.refuse(found)


def check_secrets(prepared: Prepared, files: Mapping[str, str]) -> None:
    """A secret is filled into the answer of the families that run no code before they read it, and nowhere else.

    Raises AnswerInvalid for a marker elsewhere, or of a secret that the machine does not have.
    """
    template, machine = prepared.order.gathered.template, prepared.order.gathered.machine["name"]
    for file, text in files.items():
        for name in secrets_in(text):
            if template_kind(template) not in _UNWRAPPED_BY_FETCH:
                raise AnswerInvalid(
                    f"the marker of the secret {name} stands in {file}; only Ignition and ESXi answers may hold one",
                    where=template,
                    hint="take it in the early script, by snippets/secret.sh.j2",
                )
            if name not in prepared.secret_names:
                raise AnswerInvalid(
                    f"the answer needs the secret {name}, which {machine} does not have",
                    where=template,
                    hint=f"`provisioner machine edit {machine} --secret {name}=FILE`",
                )


def answer(prepared: Prepared, files: Mapping[str, str]) -> remarks.Answer:
    """The file that the installer is told what to do by, among those that templates made; validators read it."""
    gathered = prepared.order.gathered
    source = gathered.distro or gathered.image or {}
    name = "user-data" if "user-data" in files else "answer"
    job = confined.Job(gathered.template, prepared.context)
    return remarks.Answer(job, files[name], source["os"], source["version"])


def render_context(
    gathered: Gathered, loaded: Payload, *, number: int, secrets: tuple[str, ...], shown: Mapping[str, Any]
) -> dict[str, Any]:
    """What templates see: plain data only. ``shown`` is the handoff: its tool, settings and names of secrets."""
    parameters = gathered.resolved.plain_parameters()
    zones.check(parameters)
    return {
        "machine": dict(gathered.machine) | {"interfaces": [dict(each) for each in gathered.interfaces]},
        "network": {"links": network.layout(gathered.interfaces, parameters)},
        "storage": storage.layout(parameters),
        "profile": dict(gathered.profile),
        "distro": _distro(gathered, loaded),
        "image": _image(gathered),
        "parameters": parameters,
        "kernel_options": gathered.resolved.plain_kernel_options(),
        "build": {"number": number, "id": f"{gathered.machine['name']}/{number}"},
        "urls": dict(BUILD_URLS),
        "secrets": list(secrets),
        "handoff": dict(shown),
    }


def media_url(stored: media.Stored) -> str:
    """The URL of a stored file, with the marker for ours."""
    return f"{BUILD_URLS['media']}/media/sha256/{stored.sha256}/{stored.name}"


def _only_mac(gathered: Gathered) -> str | None:
    """What GRUB may call the NIC that booted: unlike iPXE it cannot say which one that was."""
    return gathered.interfaces[0]["mac"] if len(gathered.interfaces) == 1 else None


def _distro(gathered: Gathered, loaded: Payload) -> dict[str, Any] | None:
    if gathered.distro is None:
        return None
    distro = gathered.distro
    tree = distro["tree"]
    if tree.startswith("/"):
        tree = f"{BUILD_URLS['media']}/media/{distro['name']}"
    return {
        "name": distro["name"],
        "os": distro["os"],
        "version": distro["version"],
        "arch": distro["arch"],
        "family": loaded.family,
        "tree": tree or None,
        "kernel_url": media_url(loaded.kernel),
        "initrd_url": media_url(loaded.initrd),
        "files": {
            role: media_url(media.Stored(file["sha256"], file["size"], file["name"]))
            for role, file in distro.get("files", {}).items()
        },
    }


def _image(gathered: Gathered) -> dict[str, Any] | None:
    if gathered.image is None:
        return None
    image = gathered.image
    fields = ("name", "kind", "os", "version", "arch", "sha256", "size", "format", "root")
    stored = media.Stored(image["sha256"], image["size"], image["file_name"])
    return {field: image[field] for field in fields} | {"url": media_url(stored)}


def boot_files(gathered: Gathered, loaded: Payload, context: Mapping[str, Any]) -> dict[str, str]:
    """The boot scripts of the build, one for each loader that we speak to."""
    arguments = bootargs.kernel_args(
        loaded.family,
        context["urls"],
        context["machine"],
        context["distro"],
        context["image"],
        context["parameters"],
        context["kernel_options"],
    )
    if loaded.family == "esxi":
        return _esxi_files(gathered, loaded, context, arguments)
    kernel, initrd = media_url(loaded.kernel), media_url(loaded.initrd)
    title = f"{gathered.machine['name']}: {gathered.profile['name']}, build {context['build']['number']}"
    grub = [f"media/sha256/{stored.sha256}/{stored.name}" for stored in (loaded.kernel, loaded.initrd)]
    return {
        "ipxe": bootscripts.install_ipxe(kernel, [initrd], arguments, title),
        "grub": bootscripts.install_grub(grub[0], [grub[1]], arguments, title, _only_mac(gathered)),
    }


def _esxi_files(
    gathered: Gathered, loaded: Payload, context: Mapping[str, Any], arguments: Sequence[str]
) -> dict[str, str]:
    distro = context["distro"]
    if not distro["tree"]:
        raise BuildNotPossible(
            f"distro {distro['name']} has no tree, and ESXi's installer loads its modules from there",
            hint=f"`provisioner distro edit {distro['name']} --tree DIR`, the unpacked medium",
        )
    kernel, files = media_url(loaded.kernel), distro["files"]
    for_bios = kernel.endswith(".c32")
    efi = files.get("mboot.efi") or (None if for_bios else kernel)
    bios = files.get("mboot.c32") or (kernel if for_bios else None)
    boot_cfg = f"{context['urls']['seed']}boot.cfg"
    title = f"{gathered.machine['name']}: {gathered.profile['name']}, build {context['build']['number']}"
    no_grub = ["ESXi is not started by GRUB: let the DHCP server name snponly.efi (UEFI) or undionly.kpxe (BIOS)"]
    return {
        "ipxe": bootscripts.install_esxi_ipxe(efi, bios, boot_cfg, title),
        "grub": bootscripts.halt_grub(no_grub),
        "boot.cfg": bootscripts.esxi_boot_cfg(loaded.boot_cfg, distro["tree"], arguments),
    }

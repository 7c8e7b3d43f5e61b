"""From gathered inputs to the files of a build: rendered in the confined process and validated."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from provisioner import handoff
from provisioner.core import network, storage
from provisioner.core.firmware import family_of
from provisioner.core.markers import BUILD_URLS
from provisioner.core.names import template_kind
from provisioner.errors import BuildNotPossible, MediaMissing, ProvisionerError
from provisioner.render import bootargs, bootscripts, confined, validate
from provisioner.services import media
from provisioner.services.resolve import Gathered
from provisioner.services.site import Site

Result = TypeVar("Result")
_SEED = ("meta-data", "vendor-data", "network-config")


@dataclass(frozen=True)
class Payload:
    """What the boot loader loads: the installer's kernel and initrd, or the deploy ramdisk."""

    kernel: media.Stored
    initrd: media.Stored
    family: str


@dataclass(frozen=True)
class Made:
    """The finished files, by name, and what the validator had to say short of an error."""

    files: Mapping[str, str]
    warnings: tuple[str, ...]
    secrets: Mapping[str, str]
    """Secrets that the handoff prepared for this build, in clear: sealed at once, never stored so."""
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
    return Payload(_loaded(site, distro, "kernel"), _loaded(site, distro, "initrd"), family_of(distro["os"]))


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
class _Prepared:
    """An order with all that rendering needs."""

    order: Order
    payload: Payload
    tool: handoff.Tool
    handoff: handoff.Prepared
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
    prepared = [_tried(_prepare, site, order) for order in orders]
    good = [each for each in prepared if isinstance(each, _Prepared)]
    jobs = [confined.Job(template, each.context) for each in good for template in _wanted(each.order.gathered).values()]
    rendered = iter(confined.render(jobs, orders[0].gathered.sources) if jobs else [])
    made: list[Made | ProvisionerError] = []
    for each in prepared:
        if isinstance(each, ProvisionerError):
            made.append(each)
            continue
        texts = [next(rendered) for _ in _wanted(each.order.gathered)]
        made.append(_tried(_finish, each, texts))
    return made


def _tried(work: Callable[..., Result], *arguments: Any) -> Result | ProvisionerError:
    try:
        return work(*arguments)
    except ProvisionerError as error:
        return error


def _prepare(site: Site, order: Order) -> _Prepared:
    gathered = order.gathered
    loaded = payload(site, gathered)
    settings = dict(gathered.resolved.field("handoff") or {})
    tool = handoff.tool(str(settings.pop("tool", "none")))
    tool.check(settings)
    prepared = tool.prepare(settings, gathered.machine)
    names = tuple(sorted({*order.secrets, *prepared.secrets}))
    context = render_context(gathered, loaded, number=order.number, secrets=names)
    return _Prepared(order, loaded, tool, prepared, names, context)


def _finish(prepared: _Prepared, results: Sequence[str | ProvisionerError]) -> Made:
    gathered, loaded = prepared.order.gathered, prepared.payload
    wanted = _wanted(gathered)
    files: dict[str, str] = {}
    for name, result in zip(wanted, results, strict=True):
        if isinstance(result, ProvisionerError):
            raise result
        files[name] = result
    warnings = _validated(gathered, wanted, files)
    files["handoff"] = handoff.handoff_script(prepared.tool.name, prepared.handoff.settings, BUILD_URLS)
    files |= boot_files(gathered, loaded, prepared.context)
    return Made(files, warnings, prepared.handoff.secrets, prepared.secret_names, loaded)


def _wanted(gathered: Gathered) -> dict[str, str]:
    if template_kind(gathered.template) == "autoinstall":
        return {"user-data": gathered.template} | {name: f"autoinstall/{name}.j2" for name in _SEED}
    return {"answer": gathered.template}


def _validated(gathered: Gathered, wanted: Mapping[str, str], files: Mapping[str, str]) -> tuple[str, ...]:
    source = gathered.distro or gathered.image or {}
    name = "user-data" if "user-data" in wanted else "answer"
    findings = validate.validate(
        template_kind(gathered.template),
        files[name],
        os=source["os"],
        version=source["version"],
        template=gathered.template,
    )
    return tuple(str(finding) for finding in findings)


def render_context(gathered: Gathered, loaded: Payload, *, number: int, secrets: tuple[str, ...]) -> dict[str, Any]:
    """What templates see: plain data only."""
    parameters = gathered.resolved.plain_parameters()
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
        "handoff": dict(gathered.resolved.field("handoff") or {}),
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
    kernel, initrd = media_url(loaded.kernel), media_url(loaded.initrd)
    title = f"{gathered.machine['name']}: {gathered.profile['name']}, build {context['build']['number']}"
    grub = [f"media/sha256/{stored.sha256}/{stored.name}" for stored in (loaded.kernel, loaded.initrd)]
    return {
        "ipxe": bootscripts.install_ipxe(kernel, [initrd], arguments, title),
        "grub": bootscripts.install_grub(grub[0], [grub[1]], arguments, title, _only_mac(gathered)),
    }

"""NetBox as the inventory: its devices become machines by plan and apply, and its webhooks refresh one of them.

NetBox is asked before any transaction begins. What it says of a machine's cards, place, tags and profile is so
afterwards; an address that it does not know is left as it is here, and machines that it no longer has are flagged.
"""

import hashlib
import hmac
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from provisioner.core import netbox as core
from provisioner.core.netbox import Conversion, Rule
from provisioner.errors import (
    Forbidden,
    InvalidSettings,
    InventoryFailed,
    MalformedContent,
    ProgramMissing,
    ProvisionerError,
    TooLarge,
    cause,
)
from provisioner.services import netboxplans, plans, quarantine
from provisioner.services.site import Actor, Site
from provisioner.settings import NetBox
from provisioner.store.engine import read, write
from provisioner.store.models import Interface, Machine

if TYPE_CHECKING:
    from provisioner.services.netboxapi import Client

log = structlog.get_logger()
MOST_BODY_BYTES = 4 << 20
_LEAST_SECRET = 16
_CHUNK = 100
_GONE = "NetBox no longer has"
_OR_FILTER = ", or netbox.filter leaves it out"

Progress = Callable[[int, int], None]


def plan(site: Site, actor: Actor, progress: Progress | None = None) -> dict[str, Any]:
    """What a sync would do: a plan as of `plans.plan`, for `apply`, with ``ids`` instead of ``id``.

    More devices than one plan takes make several (``parts``, each with its ``id`` and how many ``machines``), each of
    which is applied whole; those that swap names or addresses are in one of them. Its ``refused`` are devices that
    contradict what is here; they stay as they are, the others can be applied. Besides: ``left_out`` (``id``, ``name``,
    ``reason``: devices that are no machines), ``notes``, and ``missing``: machines from NetBox that it no longer has.
    ``progress`` hears how many devices of how many were read. Raises InvalidSettings, InventoryFailed, TooLarge,
    ProgramMissing.
    """
    client = _client(site)
    client.version()
    found = _machines(site, client, (), progress)
    seen = {core.inventory_of(each.id) for each in found.left_out} | {each["inventory"] for each in found.machines}
    if not seen:
        _refuse_nothing(site)
    planned = netboxplans.planned(site, actor, found.machines)
    besides = {"left_out": [vars(each) for each in found.left_out], "notes": found.notes}
    return planned | besides | {"missing": _missing(site, seen)}


def apply(
    site: Site, actor: Actor, planned: Mapping[str, Any], progress: plans.Progress | None = None
) -> dict[str, Any]:
    """Do what `plan` answered, each of its plans whole or not at all, and flag the machines that NetBox no longer has.

    Answers ``created``, ``changed`` and ``unchanged`` as `plans.apply` does, and the names that are ``flagged``. Raises
    Stale if the world changed since; the hint says how many of several plans were applied by then.
    """
    done: dict[str, Any] = {"created": [], "changed": [], "unchanged": 0}
    for number, part in enumerate(planned["parts"]):
        try:
            some = plans.apply(site, actor, plan_id=part["id"], progress=progress)
        except ProvisionerError as error:
            if number:
                error.hint = (
                    f"{number} of {len(planned['parts'])} plans were applied, each whole; sync again for the rest"
                )
            raise
        done = {key: done[key] + some[key] for key in done}
    return done | {"flagged": _flag(site, planned["missing"])}


def _missing(site: Site, seen: Collection[str]) -> list[str]:
    with read(site.engine) as session:
        ours = select(Machine.name, Machine.inventory).where(Machine.inventory.startswith(core.SOURCE, autoescape=True))
        return [name for name, inventory in session.execute(ours.order_by(Machine.name)) if inventory not in seen]


def _flag(site: Site, missing: Sequence[str]) -> list[str]:
    """Flag these machines, unless something else is said of them already, and take the flag of those that came back."""
    gone = set(missing)
    with write(site.engine) as session:
        for machine in session.scalars(select(Machine).where(Machine.flag.startswith(_GONE, autoescape=True))):
            if machine.name not in gone:
                machine.flag = ""
    # In several transactions, since others write meanwhile.
    for start in range(0, len(missing), _CHUNK):
        with write(site.engine) as session:
            some = select(Machine).where(Machine.name.in_(missing[start : start + _CHUNK]), Machine.flag == "")
            for machine in session.scalars(some):
                _raise(session, machine)
    return list(missing)


def reach(site: Site) -> str:
    """NetBox's version, once it takes our token. Raises InvalidSettings, InventoryFailed."""
    client = _client(site)
    version = client.version()
    client.devices([0])
    return version


def receive(site: Site, actor: Actor, body: bytes, signature: str) -> dict[str, Any]:
    """Take a webhook of NetBox: ``body`` as it came, ``signature`` from its header ``X-Hook-Signature``.

    The body only says which device to look at: that one is asked for afresh, so an old body that somebody sends again
    does no harm. Answers ``device`` (NetBox's number; None when the message is about none), ``done`` (``created``,
    ``changed``, ``unchanged``, ``flagged``, ``left out`` or ``ignored``), the machine's name and a ``reason``. Raises
    Forbidden without a good signature or while the receiver is off, MalformedContent, TooLarge, InventoryFailed, and
    PlanRefused where the machine contradicts what is here.
    """
    _verify(site, body, signature)
    message = _message(body)
    client = _client(site)
    device = _device_of(client, message)
    if device is None:
        return {"device": None, "done": "ignored", "machine": None, "reason": "this is about no device"}
    outcome = {"device": device} | _refresh(site, actor, client, device)
    log.info("netbox said", object=message["object"], change=message["event"], **outcome)
    return outcome


def secret(settings: NetBox | None) -> bytes:
    """The webhook's secret. Raises Forbidden while there is none: an empty one would let anybody in."""
    path = settings.webhook_secret_file if settings else None
    if path is None:
        raise Forbidden("NetBox's webhooks are not taken here", hint="set netbox.webhook_secret_file")
    text = _file(path, "netbox.webhook_secret_file")
    if len(text) < _LEAST_SECRET:
        raise InvalidSettings(
            f"{path} holds fewer than {_LEAST_SECRET} characters",
            where="netbox.webhook_secret_file",
            hint=f"openssl rand -hex 32 > {path}, and give NetBox's webhook the same secret",
        )
    return text.encode()


def token(settings: NetBox) -> str:
    """The token for NetBox. Raises InvalidSettings if its file holds none."""
    text = _file(settings.token_file, "netbox.token_file")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidSettings(
            f"{settings.token_file} holds no token", where="netbox.token_file", hint="put the token alone into it"
        )
    return text


def _file(path: Path, setting: str) -> str:
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(
            f"{path} cannot be read: {cause(error)}", where=setting, hint="check its name and mode"
        ) from error
    if not text:
        raise InvalidSettings(f"{path} is empty", where=setting, hint="put the secret into it")
    return text


def _settings(site: Site) -> NetBox:
    if site.settings.netbox is None:
        raise InvalidSettings(
            "no NetBox is configured", where="netbox", hint="set netbox.url and netbox.token_file: see docs/settings.md"
        )
    return site.settings.netbox


def _client(site: Site) -> "Client":
    settings = _settings(site)
    try:
        from provisioner.services import netboxapi  # noqa: PLC0415 - what it imports comes with an extra
    except ImportError as error:
        raise ProgramMissing("pynetbox is not installed", hint="pip install 'provisioner[netbox]'") from error
    return netboxapi.Client(settings, token(settings))


def _machines(site: Site, client: "Client", ids: Sequence[int], progress: Progress | None = None) -> core.Machines:
    devices = client.devices(ids)
    interfaces, addresses = client.belongings([int(each["id"]) for each in devices], progress)
    settings = _settings(site)
    rules = [Rule(**each.model_dump()) for each in settings.profiles]
    conversion = Conversion(rules, settings.name, settings.addresses == "all")
    try:
        found = core.convert(devices, interfaces, addresses, conversion)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InventoryFailed(
            f"NetBox's answer lacks what it should have: {error!r:.200}",
            where="netbox.url",
            hint="which version is it?",
        ) from error
    _free_addresses(site, found.machines)
    return found


def _free_addresses(site: Site, machines: Sequence[dict[str, Any]]) -> None:
    """An address that NetBox moved to another card is taken from the one that has it here.

    Of the other cards of which NetBox knows no address nothing is said: they keep theirs.
    """
    cards = {nic["mac"]: nic for machine in machines for nic in machine["interfaces"]}
    given = sorted({nic["ip"] for nic in cards.values() if "ip" in nic})
    with read(site.engine) as session:
        for start in range(0, len(given), _CHUNK):
            having = select(Interface.mac).where(Interface.ip.in_(given[start : start + _CHUNK]))
            for mac in session.scalars(having):
                if mac in cards:
                    cards[mac].setdefault("ip", None)


def _refuse_nothing(site: Site) -> None:
    with read(site.engine) as session:
        ours = session.scalar(select(func.count()).where(Machine.inventory.startswith(core.SOURCE))) or 0
    if ours:
        raise InventoryFailed(
            f"NetBox shows no device at all, and {ours} machines here came from it",
            where="netbox.filter",
            hint="NetBox shows only what the token's permissions cover: may it view devices? does the filter fit?",
        )


def _verify(site: Site, body: bytes, signature: str) -> None:
    key = secret(site.settings.netbox)
    if len(body) > MOST_BODY_BYTES:
        raise TooLarge(f"the body has {len(body)} bytes, {MOST_BODY_BYTES} are taken")
    good = hmac.new(key, body, hashlib.sha512).hexdigest()
    if not hmac.compare_digest(good.encode(), signature.strip().lower().encode()):
        raise Forbidden(
            "the webhook is not signed with the secret that is set here",
            where="X-Hook-Signature",
            hint="give NetBox's webhook the secret of netbox.webhook_secret_file, and leave its body template empty",
        )


def _message(body: bytes) -> dict[str, Any]:
    """The webhook's ``event``, the kind of its ``object``, and ``data``.

    NetBox says ``model: device`` until 4.4, and ``object_type: dcim.device`` since.
    """
    try:
        message = json.loads(body)
        kind = str(message.get("object_type") or message.get("model") or "").rpartition(".")[2]
        data, snapshots = message["data"] or {}, message.get("snapshots") or {}
        found = {"event": str(message["event"])[:32], "object": kind[:64], "data": data}
        return found | {"before": (snapshots.get("prechange") or {}) if isinstance(snapshots, dict) else {}}
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise MalformedContent(
            "this is not the body of a NetBox webhook", where="body", hint="leave its body template empty"
        ) from error


def _device_of(client: "Client", message: dict[str, Any]) -> int | None:
    """The device to look at afresh; for an address that was taken away, the one that had it."""
    data = message["data"]
    try:
        if message["object"] == "device":
            return int(data["id"])
        if message["object"] == "interface":
            return int(data["device"]["id"])
        if message["object"] not in {"ipaddress", "macaddress"}:
            return None
        if data.get("assigned_object_type") == "dcim.interface":
            return int(data["assigned_object"]["device"]["id"])
        if data.get("assigned_object_type") is None and message["before"].get("assigned_object_id"):
            return client.device_of_interface(int(message["before"]["assigned_object_id"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MalformedContent(
            f"the webhook's {message['object']} names no device", where="/data", hint="leave its body template empty"
        ) from error
    return None


def _refresh(site: Site, actor: Actor, client: "Client", device: int) -> dict[str, Any]:
    found = _machines(site, client, [device])
    if found.left_out:
        return {"done": "left out", "machine": found.left_out[0].name, "reason": found.left_out[0].reason}
    if not found.machines:
        return _gone(site, device)
    machine = found.machines[0]
    done = plans.apply(site, actor, machines=[machine])
    _back(site, machine["inventory"])
    what = "created" if done["created"] else "changed" if done["changed"] else "unchanged"
    return {"done": what, "machine": machine["name"], "reason": ""}


def _gone(site: Site, device: int) -> dict[str, Any]:
    with read(site.engine) as session:
        name = session.scalars(select(Machine.name).where(Machine.inventory == core.inventory_of(device))).first()
    if name is None:
        return {
            "done": "ignored",
            "machine": None,
            "reason": "NetBox has no such device, or netbox.filter leaves it out",
        }
    with write(site.engine) as session:
        _raise(session, session.scalars(select(Machine).where(Machine.name == name)).one())
    return {"done": "flagged", "machine": name, "reason": f"{_GONE} it{_OR_FILTER}"}


def _back(site: Site, inventory: str) -> None:
    theirs = select(Machine).where(Machine.inventory == inventory, Machine.flag.startswith(_GONE, autoescape=True))
    with read(site.engine) as session:
        if session.scalars(theirs).first() is None:
            return
    with write(site.engine) as session:
        for machine in session.scalars(theirs):
            machine.flag = ""


def _raise(session: Session, machine: Machine) -> None:
    if not machine.flag:
        quarantine.raise_flag(session, machine, f"{_GONE} {machine.inventory}{_OR_FILTER}", "")

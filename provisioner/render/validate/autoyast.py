"""AutoYaST profiles: well-formed, and of the sections and types that AutoYaST of SLES 15 and Leap 15 reads."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from xml.parsers import expat

from provisioner.render.validate.programs import MAX_SCRIPTS, Finding, finding, shell

_PROFILE = "http://www.suse.com/1.0/yast2ns"
_TYPE = "http://www.suse.com/1.0/configns type"
_DEEPEST, _MOST = 40, 50_000
_SECTIONS = frozenset(
    {
        "add-on", "audit-laf", "auth-client", "bootloader", "ca_mgmt", "cio_ignore", "configuration_management",
        "dasd", "deploy_image", "dhcp-server", "dns-server", "fcoe-client", "files", "firewall", "firstboot",
        "FTP-server", "ftp-server", "general", "groups", "host", "http-server", "inetd", "iscsi-client",
        "kdump", "kerberos", "keyboard", "language", "ldap", "login_settings", "mail", "networking", "nfs",
        "nfs_server", "nis", "nis_server", "ntp-client", "partitioning", "partitioning_advanced", "printer",
        "proxy", "rear", "report", "samba-client", "samba-server", "scripts", "security", "services-manager",
        "software", "squid", "ssh_import", "sound", "suse_register", "sysconfig", "tftp-server", "timezone",
        "upgrade", "user_defaults", "users", "zfcp",
    }
)  # fmt: skip
_TYPES = frozenset({"list", "map", "boolean", "integer", "symbol", "string", "disksize"})
_LISTS: Mapping[str, str | None] = {
    "partitioning": "drive", "partitions": "partition", "users": "user", "groups": "group", "interfaces": "interface",
    "routes": "route", "net-udev": "rule", "nameservers": "nameserver", "searchlist": "search", "packages": "package",
    "patterns": "pattern", "products": "product", "add_on_products": "listentry", "ntp_servers": "ntp_server",
    "pre-scripts": "script", "postpartitioning-scripts": "script", "chroot-scripts": "script", "post-scripts": "script",
    "init-scripts": "script", "ask-list": None, "zones": "zone", "remove-packages": "package", "files": "file",
}  # fmt: skip
_SCRIPTS = ("pre-scripts", "postpartitioning-scripts", "chroot-scripts", "post-scripts", "init-scripts")
_BOOLEANS = frozenset({"confirm", "create", "format", "initialize", "encrypted", "do_registration", "second_stage"})
_DISKS = frozenset({"CT_DISK", "CT_LVM", "CT_MD", "CT_RAID", "CT_DMMULTIPATH", "CT_BCACHE", "CT_BTRFS", "CT_NFS"})
_BOOTPROTO = frozenset({"none", "static", "dhcp", "dhcp4", "dhcp6", "dhcp+autoip", "auto6", "autoip", "ibft", "6to4"})
_NEEDED = ("general", "networking", "partitioning", "software", "users")


class _Stopped(Exception):
    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass
class Element:
    """One element, where it begins, and what is in it."""

    name: str
    line: int
    type: str | None
    children: list["Element"] = field(default_factory=list)
    text: str = ""

    def all(self, name: str) -> list["Element"]:
        """The children of that name."""
        return [each for each in self.children if each.name == name]

    def said(self, name: str) -> str | None:
        """The text of the first child of that name."""
        found = self.all(name)
        return found[0].text.strip() if found else None


def check(text: str) -> Iterator[Finding]:
    """What is wrong with an AutoYaST profile."""
    try:
        root = parse(text)
    except expat.ExpatError as error:
        yield finding(text, error.lineno, f"XML: {expat.errors.messages.get(error.code, 'not well-formed')}")
        return
    except _Stopped as error:
        yield finding(text, error.line, f"XML: {error}")
        return
    if root.name != "profile":
        yield finding(text, root.line, f"the root element is profile in {_PROFILE}, not {root.name[:60]!r}")
        return
    yield from _sections(text, root)
    yield from _values(text, root)
    sections = {each.name: each for each in root.children}
    yield from _general(text, sections)
    yield from _networking(text, sections)
    yield from _partitioning(text, sections)
    yield from _users(text, sections)
    yield from _scripts(text, sections)


def parse(text: str) -> Element:
    """The root element. No entity is ever expanded: declaring one, or a DTD, is an error (a bomb, or a read of a file).

    Raises ExpatError, or an exception with the line of what is refused.
    """
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    parser.buffer_text = True
    root = Element("", 0, None)
    stack, count = [root], 0

    def start(name: str, attributes: Mapping[str, str]) -> None:
        nonlocal count
        count += 1
        if len(stack) > _DEEPEST or count > _MOST:
            raise _Stopped(parser.CurrentLineNumber, "nested too deeply, or too many elements")
        plain = name.removeprefix(f"{_PROFILE} ")
        element = Element(plain, parser.CurrentLineNumber, attributes.get(_TYPE, attributes.get("t")))
        stack[-1].children.append(element)
        stack.append(element)

    def data(characters: str) -> None:
        stack[-1].text += characters

    def doctype(_name: str, system: str | None, public: str | None, internal: int) -> None:
        if system or public or internal:
            raise _Stopped(parser.CurrentLineNumber, "a DTD is refused: <!DOCTYPE profile> alone, or none")

    def entity(*_: object) -> int:
        raise _Stopped(parser.CurrentLineNumber, "an entity is refused")

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _name: stack.pop()
    parser.CharacterDataHandler = data
    parser.StartDoctypeDeclHandler = doctype
    parser.EntityDeclHandler = entity
    parser.UnparsedEntityDeclHandler = entity
    parser.ExternalEntityRefHandler = entity
    parser.SkippedEntityHandler = entity
    parser.Parse(text, True)
    return root.children[0]


def _sections(text: str, root: Element) -> Iterator[Finding]:
    seen: dict[str, int] = {}
    for each in root.children:
        if each.name not in _SECTIONS:
            yield finding(text, each.line, f"AutoYaST has no section {each.name[:60]!r}")
        elif each.name in seen:
            yield finding(text, each.line, f"the section {each.name} stands on line {seen[each.name]} already")
        seen.setdefault(each.name, each.line)
    for name in _NEEDED:
        if name not in seen:
            yield Finding("warning", 0, "", f"there is no section {name}: AutoYaST takes its own defaults")


def _values(text: str, element: Element) -> Iterator[Finding]:
    """Each element's value is of the type that it says, and lists say that they are lists."""
    if element.type is not None:
        yield from _typed(text, element)
    if element.name in _LISTS and (element.children or element.type) and element.type != "list":
        yield finding(text, element.line, f'{element.name} is a list: config:type="list"')
    only = _LISTS.get(element.name)
    if only is not None:
        for each in element.children:
            if each.name not in {only, "listentry"}:
                yield finding(text, each.line, f"{element.name} is a list of {only}, not of {each.name[:60]}")
    if element.name in _BOOLEANS and element.type != "boolean":
        yield finding(text, element.line, f'{element.name} needs config:type="boolean"')
    for each in element.children:
        yield from _values(text, each)


def _typed(text: str, element: Element) -> Iterator[Finding]:
    value, kind = element.text.strip(), element.type
    if kind not in _TYPES:
        yield finding(text, element.line, f"{str(kind)[:40]!r} is no type: {', '.join(sorted(_TYPES))}")
    elif kind == "boolean" and value not in {"true", "false"}:
        yield finding(text, element.line, f"{element.name} is true or false")
    elif kind == "integer" and not value.lstrip("-").isdigit():
        yield finding(text, element.line, f"{element.name} is a number")
    elif kind == "symbol" and not value.replace("_", "").replace("-", "").isalnum():
        yield finding(text, element.line, f"{element.name} is a symbol: letters, digits, _ and -")
    elif kind in {"boolean", "integer", "symbol"} and element.children:
        yield finding(text, element.line, f"{element.name} holds one value, and here are elements")


def _general(text: str, sections: Mapping[str, Element]) -> Iterator[Finding]:
    modes = sections["general"].all("mode") if "general" in sections else []
    if not modes or modes[0].said("confirm") != "false":
        line = modes[0].line if modes else 0
        yield finding(text, line, "general/mode/confirm is not false: the installer waits at the console", "warning")


def _networking(text: str, sections: Mapping[str, Element]) -> Iterator[Finding]:
    if "networking" not in sections:
        return
    seen: set[str] = set()
    for interface in (each for part in sections["networking"].all("interfaces") for each in part.children):
        name = interface.said("device") or interface.said("name")
        if not name:
            yield finding(text, interface.line, "an interface needs its device")
            continue
        if name in seen:
            yield finding(text, interface.line, f"the interface {name} stands twice")
        seen.add(name)
        proto = interface.said("bootproto")
        if proto not in _BOOTPROTO:
            yield finding(text, interface.line, f"{name}: bootproto is one of {', '.join(sorted(_BOOTPROTO))}")
        if proto == "static" and not (
            interface.said("ipaddr") and (interface.said("prefixlen") or interface.said("netmask"))
        ):
            yield finding(text, interface.line, f"{name}: a static interface needs ipaddr and prefixlen")
        if bool(interface.said("vlan_id")) != bool(interface.said("etherdevice")):
            yield finding(text, interface.line, f"{name}: a VLAN needs vlan_id and etherdevice")


def _partitioning(text: str, sections: Mapping[str, Element]) -> Iterator[Finding]:
    if "partitioning" not in sections:
        return
    drives = sections["partitioning"].all("drive")
    parts = [part for drive in drives for group in drive.all("partitions") for part in group.all("partition")]
    for drive in drives:
        yield from _drive(text, drive)
    yield from _mounts(text, sections["partitioning"], parts)
    made = {_device(drive.said("device")) for drive in drives}
    for part in parts:
        for member in (part.said("raid_name"), part.said("lvm_group")):
            if member and _device(member) not in made:
                yield finding(text, part.line, f"there is no drive {member} that this partition could be part of")


def _device(name: str | None) -> str:
    return (name or "").removeprefix("/dev/")


def _drive(text: str, drive: Element) -> Iterator[Finding]:
    kind, device = drive.said("type") or "CT_DISK", drive.said("device")
    if kind not in _DISKS:
        yield finding(text, drive.line, f"{kind[:40]!r} is no type of drive: {', '.join(sorted(_DISKS))}")
    if kind != "CT_DISK" and not device:
        yield finding(text, drive.line, f"a drive {kind} needs its device")
    elif not device:
        yield finding(text, drive.line, "a drive without device: AutoYaST takes the first disk it finds", "warning")


def _mounts(text: str, section: Element, parts: Sequence[Element]) -> Iterator[Finding]:
    mounts: dict[str, int] = {}
    for part in parts:
        mount = part.said("mount")
        if mount and mount != "swap" and mount in mounts:
            yield finding(text, part.line, f"{mount} is mounted on line {mounts[mount]} already")
        mounts.setdefault(mount or "", part.line)
    if "/" not in mounts:
        yield finding(text, section.line, "nothing is mounted on /")


def _users(text: str, sections: Mapping[str, Element]) -> Iterator[Finding]:
    seen: set[str] = set()
    for user in sections["users"].all("user") if "users" in sections else []:
        name = user.said("username")
        if not name:
            yield finding(text, user.line, "a user needs its username")
        elif name in seen:
            yield finding(text, user.line, f"the user {name} stands twice")
        seen.add(name or "")
        if user.said("user_password") and user.said("encrypted") != "true":
            yield finding(text, user.line, f"{name}: the password stands here in clear; encrypted is not true")
    if "users" in sections and "root" not in seen:
        yield finding(
            text, sections["users"].line, "root has no entry: nobody could log in as root, or it asks", "warning"
        )


def _scripts(text: str, sections: Mapping[str, Element]) -> Iterator[Finding]:
    groups = sections["scripts"].children if "scripts" in sections else []
    for group in groups:
        if group.name not in _SCRIPTS:
            yield finding(text, group.line, f"there are no {group.name[:60]}: {', '.join(_SCRIPTS)}")
    scripts = [each for group in groups if group.name in _SCRIPTS for each in group.all("script")]
    names: set[str] = set()
    for each in scripts:
        name = each.said("filename") or each.said("file_name") or f"line {each.line}"
        if not each.all("source") and not each.said("location"):
            yield finding(text, each.line, "a script needs source or location")
        if name in names:
            yield finding(text, each.line, f"the script {name} stands twice: the later replaces the earlier")
        names.add(name)
    for each in [each for each in scripts if each.all("source") and _by_shell(each)][:MAX_SCRIPTS]:
        source = each.all("source")[0]
        yield from shell(source.text, source.line - 1, text)


def _by_shell(script: Element) -> bool:
    interpreter = (script.said("interpreter") or "shell").split()[0].rsplit("/", 1)[-1]
    return interpreter in {"shell", "sh", "bash", "dash"}

"""What Subiquity's reference says of the keys of ``autoinstall``: their types, and since when they are known.

https://canonical-subiquity.readthedocs-hosted.com/en/latest/reference/autoinstall-reference.html
"""

import difflib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from provisioner.render.validate.programs import Finding
from provisioner.render.validate.yamlmarks import Marked

AT = "autoinstall"
Text = Annotated[str, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Commands = list[Text | list[Text]]
Mapped = dict[str, Any]


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Refresh(_Closed):
    update: Flag = False
    channel: Text = ""


class Keyboard(_Closed):
    layout: Text
    variant: Text = ""
    toggle: Text | None = None


class Source(_Open):
    search_drivers: Flag = True
    id: Text = ""


class Apt(_Open):
    """Curtin's, and Subiquity's own keys."""

    preserve_sources_list: Flag = False
    primary: list[Any] = []
    security: list[Any] = []
    mirror_selection: Mapped = Field({}, alias="mirror-selection")
    fallback: Literal["abort", "offline-install", "continue-anyway"] = "offline-install"
    geoip: Flag = True
    sources: Mapped = {}


class Identity(_Closed):
    username: Text
    hostname: Text
    password: Text
    realname: Text = ""
    groups: Any = None


class Ssh(_Open):
    install_server: Flag = Field(False, alias="install-server")
    authorized_keys: list[Text] = Field([], alias="authorized-keys")
    allow_pw: Flag = Field(True, alias="allow-pw")


class Snap(_Closed):
    name: Text
    channel: Text = "stable"
    classic: Flag = False


class Kernel(_Open):
    package: Text = ""
    flavor: Text = ""


class Install(_Open):
    install: Flag = False


class Oem(_Open):
    install: Flag | Literal["auto"] = "auto"


class CrashDumps(_Open):
    enabled: Flag | None = None


class ActiveDirectory(_Open):
    admin_name: Text = Field("", alias="admin-name")
    domain_name: Text = Field("", alias="domain-name")


class Pro(_Open):
    token: Text = ""


class Report(_Open):
    type: Text


class Device(_Open):
    id: Text
    enabled: Flag = True


class Section(_Open):
    """The whole; keys that it does not name are ignored by the installer in version 1."""

    version: Literal[1]
    interactive_sections: list[Text] = Field([], alias="interactive-sections")
    early_commands: Commands = Field([], alias="early-commands")
    locale: Text = ""
    refresh_installer: Refresh = Field(Refresh(), alias="refresh-installer")
    keyboard: Keyboard | None = None
    source: Source = Source()
    network: Mapped = {}
    proxy: Text | None = None
    apt: Apt = Apt()
    storage: Mapped = {}
    identity: Identity | None = None
    active_directory: ActiveDirectory = Field(ActiveDirectory(), alias="active-directory")
    ubuntu_pro: Pro = Field(Pro(), alias="ubuntu-pro")
    ssh: Ssh = Ssh()
    codecs: Install = Install()
    drivers: Install = Install()
    oem: Oem = Oem()
    snaps: list[Snap] = []
    debconf_selections: Text = Field("", alias="debconf-selections")
    packages: list[Text] = []
    kernel: Kernel = Kernel()
    kernel_crash_dumps: CrashDumps = Field(CrashDumps(), alias="kernel-crash-dumps")
    timezone: Text = ""
    updates: Literal["security", "all"] = "security"
    shutdown: Literal["reboot", "poweroff"] = "reboot"
    late_commands: Commands = Field([], alias="late-commands")
    error_commands: Commands = Field([], alias="error-commands")
    reporting: dict[str, Report] = {}
    user_data: Mapped = Field({}, alias="user-data")
    zdevs: list[Device] = []


KEYS = frozenset(field.alias or name for name, field in Section.model_fields.items())
# Where Ubuntu 22.04's own installer does not know a key. It ignores it, so that the setting is silently not made.
_SINCE: Mapping[tuple[str, ...], str] = {
    ("apt", "mirror-selection"): "23.04",
    ("apt", "fallback"): "23.04",
    ("source", "search_drivers"): "22.10",
    ("oem",): "23.04",
    ("active-directory",): "23.04",
    ("kernel-crash-dumps",): "24.10",
}
# What pydantic says of values, in the words of people who write YAML.
_SAID = {
    "missing": "is needed",
    "extra_forbidden": "is no key here",
    "string_type": "is a text",
    "bool_type": "is true or false",
    "list_type": "is a list",
    "dict_type": "is a mapping",
    "model_type": "is a mapping",
    "model_attributes_type": "is a mapping",
}


def check(marked: Marked, version: str) -> Iterator[Finding]:
    """What is wrong with the types and keys of the section; ``version`` is Ubuntu's, such as 24.04."""
    section = marked.value[AT]
    yield from _types(marked, section)
    for key in sorted(str(key) for key in set(section) - KEYS):
        close = difflib.get_close_matches(key, KEYS, 1)
        meant = f"; {close[0]} is one" if close else ""
        yield marked.warning((AT, key), f"is no key that the installer knows, and is ignored{meant}")
    for path, since in _SINCE.items():
        found: Any = section
        for step in path:
            found = found.get(step) if isinstance(found, Mapping) else None
        if found is not None and _older(version, since):
            yield marked.warning(
                (AT, *path), f"is known to the installer since {since}; that of {version} may ignore it"
            )


def _types(marked: Marked, section: Mapping[str, Any]) -> Iterator[Finding]:
    seen = set()
    try:
        Section.model_validate(section)
    except ValidationError as error:
        for each in error.errors(include_url=False, include_context=False, include_input=False):
            path = _real(section, each["loc"])
            if each["type"] == "missing":
                path = (*path, each["loc"][-1])
            said = "must be 1" if path == ("version",) else _SAID.get(each["type"], each["msg"])
            if path not in seen:  # a union says it once for each of its kinds
                seen.add(path)
                yield marked.error((AT, *path), said)


def _real(section: Any, loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The part of pydantic's path that is in the file: unions put the names of their kinds into it."""
    path: tuple[int | str, ...] = ()
    for step in loc:
        keyed = isinstance(section, Mapping) and step in section
        if keyed or (isinstance(section, list) and isinstance(step, int) and step < len(section)):
            section = section[step]
            path = (*path, step)
    return path


def _older(version: str, since: str) -> bool:
    numbers = [part.split(".")[:2] for part in (version, since)]
    if not all(part.isdigit() for number in numbers for part in number):
        return False
    own, least = ([int(part) for part in number] for number in numbers)
    return own < least

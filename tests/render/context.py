"""Sample data as templates see it, and the shipped content."""

from pathlib import Path
from typing import Any

import yaml

from provisioner.core import network, storage

ROOT = Path(__file__).resolve().parents[2]
BOOT = "@@provisioner:boot_url@@"
URLS = {
    "boot": BOOT,
    "media": "@@provisioner:media_url@@",
    "answer": f"{BOOT}/build/@@provisioner:answer_token@@/answer",
    "seed": f"{BOOT}/build/@@provisioner:answer_token@@/seed/",
    "secret": f"{BOOT}/build/@@provisioner:answer_token@@/secret",
    "handoff": f"{BOOT}/build/@@provisioner:answer_token@@/handoff",
    "event": f"{BOOT}/build/@@provisioner:event_token@@/event",
    "configured": f"{BOOT}/build/@@provisioner:handoff_token@@/configured",
}
DISTROS = {
    "rocky9": ("rocky", "9.6", "kickstart", "@@provisioner:media_url@@/media/rocky-9.6/"),
    "rhel9": ("rhel", "9.4", "kickstart", "http://mirror.example.com/rhel/9.4/BaseOS/x86_64/os/"),
    "debian12": ("debian", "12", "preseed", "http://mirror.example.com/debian"),
    "debian13": ("debian", "13", "preseed", "http://mirror.example.com/debian"),
    "ubuntu2204": ("ubuntu", "22.04", "autoinstall", "http://mirror.example.com/ubuntu-22.04-live-server-amd64.iso"),
    "ubuntu2404": ("ubuntu", "24.04", "autoinstall", "http://mirror.example.com/ubuntu-24.04-live-server-amd64.iso"),
    "ubuntu2604": ("ubuntu", "26.04", "autoinstall", "http://mirror.example.com/ubuntu-26.04-live-server-amd64.iso"),
    "sles15": ("sles", "15.6", "autoyast", "@@provisioner:media_url@@/media/sles-15.6"),
    "leap15": ("opensuse", "15.6", "autoyast", "http://mirror.example.com/leap/15.6"),
    "esxi7": ("esxi", "7.0.3", "esxi", "@@provisioner:media_url@@/media/esxi-7.0.3"),
    "esxi8": ("esxi", "8.0.2", "esxi", "@@provisioner:media_url@@/media/esxi-8.0.2"),
    "fcos": ("fcos", "41.20250117.3.0", "ignition", ""),
    "flatcar": ("flatcar", "4152.2.0", "ignition", ""),
}
DISTROS |= {
    f"{os}{version}": (os, str(version), "kickstart", f"http://mirror.example.com/{os}/{version}/x86_64/os/")
    for os in ("rhel", "rocky", "alma", "centos", "oracle", "fedora")
    for version in ((43, 44, 45) if os == "fedora" else (8, 9, 10))
    if f"{os}{version}" not in DISTROS
}


def sources() -> dict[str, str]:
    """Every shipped template and snippet by name."""
    folder = ROOT / "kickstarts"
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.j2")}


def profile(name: str) -> dict[str, Any]:
    """A shipped profile with its ancestors' parameters merged in."""
    own: dict[str, Any] = yaml.safe_load((ROOT / "profiles" / f"{name}.yaml").read_text())
    if "parent" not in own:
        return own
    above = profile(own["parent"])
    return above | own | {"parameters": above.get("parameters", {}) | own.get("parameters", {})}


NETWORKS: dict[str, dict[str, Any]] = {
    "dhcp": {},
    "static": {"network": "static", "installer_network": "static"},
    "bond-vlan": {
        "network": "static",
        "links": [
            {"name": "bond0", "kind": "bond", "over": "all", "mode": "802.3ad"},
            {"name": "bond0.30", "kind": "vlan", "over": "bond0", "id": 30, "addresses": ["10.0.30.11/24"]},
        ],
    },
}
"""The parameters of the networks that every shipped profile is rendered for."""


def machine(static: bool = False) -> dict[str, Any]:
    """A machine with two interfaces; ``static``: both with addresses."""
    first = {"name": "eth0", "mac": "52:54:00:12:34:56", "domain": "example.com", "subnet": "lab"}
    second = first | {"name": "eth1", "mac": "52:54:00:12:34:57", "subnet": "storage"}
    empty = {"ip": None, "prefix": None, "netmask": None, "gateway": None, "dns": []}
    if static:
        network = {"prefix": 24, "netmask": "255.255.255.0"}
        first |= network | {"ip": "10.0.2.11", "gateway": "10.0.2.1", "dns": ["10.0.2.1", "10.0.2.2"]}
        second |= network | {"ip": "10.0.3.11", "gateway": None, "dns": []}
    return {
        "name": "web01",
        "hostname": "web01",
        "domain": "example.com",
        "fqdn": "web01.example.com",
        "serial": "ABC123",
        "uuid": "00112233-4455-6677-8899-aabbccddeeff",
        "asset": None,
        "manufacturer": "Dell Inc.",
        "product": "PowerEdge R650",
        "protected": False,
        "interfaces": [empty | first, empty | second],
        "mac": first["mac"],
        "ip": first.get("ip"),
    }


def context(name: str = "rocky9", *, static: bool = False, links: str = "", **changes: Any) -> dict[str, Any]:
    """The whole context for a shipped profile; ``changes`` replace top-level keys, ``parameters`` are merged.

    ``links`` is one of ``NETWORKS``; ``static`` is short for that one.
    """
    shipped = profile(name)
    links = links or ("static" if static else "dhcp")
    parameters = shipped["parameters"] | NETWORKS[links] | changes.pop("parameters", {})
    distro = None
    if name in DISTROS:
        os, version, family, tree = DISTROS[name]
        distro = {"name": f"{os}-{version}", "os": os, "version": version, "arch": "x86_64", "family": family}
        distro |= {"tree": tree, "kernel_url": "http://x/vmlinuz", "initrd_url": "http://x/initrd.img", "files": {}}
    booted = changes.pop("machine", None) or machine(links != "dhcp")
    if links == "bond-vlan":
        booted["interfaces"][1] |= {"ip": None, "prefix": None, "netmask": None}
    told = changes.pop("handoff", {"tool": "script", "command": "true", "timeout": 600})
    return {
        "machine": booted,
        "network": {"links": network.layout(booted["interfaces"], parameters)},
        "storage": storage.layout(parameters),
        "profile": {"name": name, "description": shipped["description"], "local_boot": "auto"},
        "distro": distro,
        "image": None,
        "parameters": parameters,
        "kernel_options": [],
        "build": {"number": 3, "id": "8b5bd43e"},
        "urls": URLS,
        "secrets": ["root_password"],
        "handoff": {"secrets": [], **told},
        **changes,
    }

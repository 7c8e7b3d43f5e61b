"""The kernel's command line, for each family of installer."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from provisioner.errors import BuildNotPossible, InvalidInput

Data = Mapping[str, Any]

MAX_LENGTH = 1900
"""x86 kernels take 2048 bytes; initrd names and BOOTIF are added by the boot script."""

# Loaders split at spaces, GRUB and iPXE take quotes and ${, and initrd= would load something else.
_OPTION = re.compile(r"[A-Za-z0-9@:_/.,=+~%*?!-][A-Za-z0-9@:_/.,=+~%;*?&!()\[\]{}<>^|#$-]*")


def kernel_args(
    family: str,
    urls: Data,
    machine: Data,
    distro: Data | None,
    image: Data | None,
    parameters: Data,
    kernel_options: Sequence[str],
) -> tuple[str, ...]:
    """The options for this family (a name of ``core.firmware.FAMILIES``, or ``image``), then the profile's own.

    For ``esxi`` they are what boot.cfg says after ``kernelopt=``.

    Parameters that count: ``installer_network`` (``dhcp``, the default, or ``static``), ``installer_ipv6``,
    ``iso_url``. Raises InvalidInput for an option that would break the line, BuildNotPossible for a missing address.
    """
    families: dict[str, Callable[[], list[str]]] = {
        "kickstart": lambda: _kickstart(urls, machine, distro or {}, parameters),
        "preseed": lambda: _preseed(urls, machine, parameters),
        "autoinstall": lambda: _autoinstall(urls, machine, distro or {}, parameters),
        "autoyast": lambda: _autoyast(urls, machine, distro or {}, parameters),
        "ignition": lambda: _ignition(urls, machine, distro or {}, parameters),
        "esxi": lambda: _esxi(urls, machine, parameters),
        "image": lambda: [f"provisioner.answer={urls['answer']}"],
    }
    if family not in families or (family == "image" and image is None):
        known = ", ".join(families)
        raise InvalidInput(f"no kernel options are known for the family {family!r}", hint=f"known: {known}")
    options = (*families[family](), *kernel_options)
    for option in options:
        check_option(option)
    if len(" ".join(options)) > MAX_LENGTH:
        raise InvalidInput(
            f"the kernel's command line would be longer than {MAX_LENGTH} characters", where="kernel_options"
        )
    return options


def check_option(option: str) -> None:
    """Raise InvalidInput unless this is one option that every loader passes on as it is."""
    bad = not _OPTION.fullmatch(option) or "${" in option or "||" in option or "&&" in option
    if bad or option.startswith(("initrd=", "BOOTIF=")):
        raise InvalidInput(
            f"the kernel option {option[:100]!r} would break the command line",
            hint="one option an entry; no spaces, quotes, backslashes or ${; initrd= and BOOTIF= are set for you",
            where="kernel_options",
        )


def _kickstart(urls: Data, machine: Data, distro: Data, parameters: Data) -> list[str]:
    options = [f"inst.ks={urls['answer']}"]
    if distro.get("tree"):
        options.append(f"inst.repo={distro['tree']}")
    # Without it Anaconda leaves the kickstart in /root of the new system and the address of it, with its token, in the
    # logs; the kickstart keeps those itself, without tokens.
    return [*options, "inst.nosave=all", *_dracut_network(machine, parameters)]


def _preseed(urls: Data, machine: Data, parameters: Data) -> list[str]:
    options = [
        "auto=true",
        "priority=critical",
        f"url={urls['answer']}",
        "interface=auto",
        f"hostname={machine['hostname']}",
        f"domain={machine.get('domain') or ''}",
    ]
    if not parameters.get("installer_ipv6"):
        options.append("ipv6.disable=1")  # saves 15 s of waiting for a router advertisement
    if _is_static(parameters):
        interface = _static_interface(machine)
        options += [
            "netcfg/disable_autoconfig=true",
            f"netcfg/get_ipaddress={interface['ip']}",
            f"netcfg/get_netmask={interface['netmask']}",
            f"netcfg/get_gateway={interface.get('gateway') or ''}",
            f"netcfg/get_nameservers={','.join(interface.get('dns') or [])}",
            "netcfg/confirm_static=true",
        ]
    return options


def _autoinstall(urls: Data, machine: Data, distro: Data, parameters: Data) -> list[str]:
    # cloud-init calls the first name deprecated since 24.1; the ISOs of 22.04 carry releases that know no other.
    source = "nocloud-net" if str(distro.get("version") or "").startswith(("20.", "22.")) else "nocloud"
    # It also takes url= for its own configuration and would read the whole ISO: cloud-config-url stops that.
    options = ["autoinstall", f"ds={source};s={urls['seed']}", "cloud-config-url=/dev/null"]
    options += _dracut_network(machine, parameters)
    iso = _iso(distro, parameters)
    if iso is None:
        raise BuildNotPossible(
            f"distro {distro.get('name')} has no ISO, and Ubuntu's installer is in it",
            hint=f"`provisioner distro edit {distro.get('name')} --iso FILE|URL`: the live-server ISO",
        )
    return [*options, f"url={iso}"]


def _iso(distro: Data, parameters: Data) -> str | None:
    """Where the installer gets the ISO: the parameter ``iso_url``, our media, or the tree if that is one."""
    tree = str(distro.get("tree") or "")
    found = parameters.get("iso_url") or (distro.get("files") or {}).get("iso")
    return str(found) if found else tree if tree.endswith(".iso") else None


def _autoyast(urls: Data, machine: Data, distro: Data, parameters: Data) -> list[str]:
    """For linuxrc, which sets up the network and leaves the rest to YaST (SUSE's AutoYaST guide, appendix C)."""
    options = [f"autoyast={urls['answer']}"]
    if distro.get("tree"):
        options.append(f"install={distro['tree']}")
    # The installer would look for a newer one of itself on the Internet first.
    options += ["self_update=0", "textmode=1"]
    if not _is_static(parameters):
        return [*options, "ifcfg=*=dhcp"]
    interface = _static_interface(machine)
    # A second server needs quotes, which no loader passes on; the new system gets them all.
    server = next(iter(interface.get("dns") or []), "")
    settings = [f"{interface['ip']}/{interface['prefix']}", interface.get("gateway") or "", server]
    # linuxrc matches its patterns with names and MAC addresses; without a star it would be a name alone.
    settings.append(machine.get("domain") or "")
    return [*options, f"ifcfg=*{interface['mac']}={','.join(settings).rstrip(',')}"]


def _ignition(urls: Data, machine: Data, distro: Data, parameters: Data) -> list[str]:
    """A live system in memory whose own Ignition config is the answer; it installs to the disk and reports.

    ``coreos.inst.install_dev`` and the like are left out: that installer writes to the disk without asking us first,
    and reboots without telling.
    """
    config = f"ignition.config.url={urls['answer']}"
    network = [*_dracut_network(machine, parameters), "rd.neednet=1"]
    if distro.get("os") == "flatcar":
        return ["flatcar.first_boot=1", config, *network]
    rootfs = (distro.get("files") or {}).get("rootfs")
    if rootfs is None:
        raise BuildNotPossible(
            f"distro {distro.get('name')} has no rootfs image, and Fedora CoreOS's live system is in it",
            hint=f"`provisioner distro edit {distro.get('name')} --rootfs FILE|URL`",
        )
    return ["ignition.firstboot", "ignition.platform.id=metal", config, f"coreos.live.rootfs_url={rootfs}", *network]


def _esxi(urls: Data, machine: Data, parameters: Data) -> list[str]:
    # Without netdevice= the installer fetches its script through the first NIC that it finds plugged in.
    options = [f"ks={urls['answer']}"]
    if not _is_static(parameters):
        first = next(iter(machine["interfaces"]), None)
        return [*options, *([f"netdevice={first['mac']}"] if first else []), "bootproto=dhcp"]
    interface = _static_interface(machine)
    options += [f"netdevice={interface['mac']}", f"ip={interface['ip']}", f"netmask={interface['netmask']}"]
    options += [f"gateway={interface['gateway']}"] if interface.get("gateway") else []
    return options + [f"nameserver={server}" for server in (interface.get("dns") or [])[:1]]


def _dracut_network(machine: Data, parameters: Data) -> list[str]:
    """``ip=`` as dracut and initramfs-tools read it; the interface is left to BOOTIF."""
    if not _is_static(parameters):
        return ["ip=dhcp"]
    interface = _static_interface(machine)
    gateway = interface.get("gateway") or ""
    options = [f"ip={interface['ip']}::{gateway}:{interface['netmask']}:{machine['hostname']}::none"]
    return options + [f"nameserver={server}" for server in interface.get("dns") or []]


def _is_static(parameters: Data) -> bool:
    mode = parameters.get("installer_network", "dhcp")
    if mode not in {"dhcp", "static"}:
        raise InvalidInput(f"installer_network is dhcp or static, not {mode!r}", where="parameters.installer_network")
    return bool(mode == "static")


def _static_interface(machine: Data) -> Data:
    """The first interface with a complete IPv4 address: netboot installers take no other on the command line."""
    for interface in machine["interfaces"]:
        if interface.get("ip") and interface.get("netmask") and ":" not in interface["ip"]:
            found: Data = interface
            return found
    raise BuildNotPossible(
        f"{machine['name']}: installer_network is static, but no interface has an IPv4 address in a known subnet",
        hint="give the machine an address, or set the parameter installer_network to dhcp",
    )

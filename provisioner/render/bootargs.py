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
    """The options for this family (``kickstart``, ``preseed``, ``autoinstall``, ``image``), then the profile's own.

    Parameters that count: ``installer_network`` (``dhcp``, the default, or ``static``), ``installer_ipv6``,
    ``iso_url``. Raises InvalidInput for an option that would break the line, BuildNotPossible for a missing address.
    """
    families: dict[str, Callable[[], list[str]]] = {
        "kickstart": lambda: _kickstart(urls, machine, distro or {}, parameters),
        "preseed": lambda: _preseed(urls, machine, parameters),
        "autoinstall": lambda: _autoinstall(urls, machine, distro or {}, parameters),
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
    # Without it Anaconda leaves the kickstart, with its tokens, in /root of the new system.
    return [*options, "inst.nosave=all_ks", *_dracut_network(machine, parameters)]


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
    # cloud-init takes url= for its own configuration and would read the whole ISO: cloud-config-url stops that.
    options = ["autoinstall", f"ds=nocloud-net;s={urls['seed']}", "cloud-config-url=/dev/null"]
    options += _dracut_network(machine, parameters)
    tree = str(distro.get("tree") or "")
    iso = parameters.get("iso_url") or (tree if tree.endswith(".iso") else None)
    return [*options, f"url={iso}"] if iso else options


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

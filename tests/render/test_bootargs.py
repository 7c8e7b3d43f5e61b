"""The kernel's command line."""

from typing import Any

import pytest

from provisioner.errors import BuildNotPossible, InvalidInput
from provisioner.render.bootargs import MAX_LENGTH, check_option, kernel_args
from tests.render.context import URLS, context, machine

ANSWER = URLS["answer"]


def args(
    family: str, name: str, static: bool = False, options: tuple[str, ...] = (), **parameters: Any
) -> tuple[str, ...]:
    data = context(name, static=static)
    image = {"name": "stem"} if family == "image" else None
    merged = data["parameters"] | parameters
    return kernel_args(family, URLS, data["machine"], data["distro"], image, merged, options)


def test_kickstart() -> None:
    tree = "@@provisioner:media_url@@/media/rocky-9.6/"
    common = (f"inst.ks={ANSWER}", f"inst.repo={tree}", "inst.nosave=all")
    assert args("kickstart", "rocky9") == (*common, "ip=dhcp")
    assert args("kickstart", "rocky9", static=True) == (
        *common,
        "ip=10.0.2.11::10.0.2.1:255.255.255.0:web01::none",
        "nameserver=10.0.2.1",
        "nameserver=10.0.2.2",
    )


def test_preseed() -> None:
    common = (
        "auto=true",
        "priority=critical",
        f"url={ANSWER}",
        "interface=auto",
        "hostname=web01",
        "domain=example.com",
    )
    assert args("preseed", "debian12") == (*common, "ipv6.disable=1")
    assert args("preseed", "debian12", installer_ipv6=True) == common
    assert args("preseed", "debian12", static=True)[-6:] == (
        "netcfg/disable_autoconfig=true",
        "netcfg/get_ipaddress=10.0.2.11",
        "netcfg/get_netmask=255.255.255.0",
        "netcfg/get_gateway=10.0.2.1",
        "netcfg/get_nameservers=10.0.2.1,10.0.2.2",
        "netcfg/confirm_static=true",
    )


def test_image() -> None:
    assert args("image", "rocky9") == (f"provisioner.answer={ANSWER}",)
    with pytest.raises(InvalidInput):
        kernel_args("image", URLS, machine(), None, None, {}, ())


def test_the_profiles_options_come_last() -> None:
    assert args("kickstart", "rocky9", options=("console=ttyS0,115200n8", "quiet"))[-2:] == (
        "console=ttyS0,115200n8",
        "quiet",
    )


@pytest.mark.parametrize(
    "option",
    [
        "a b",
        "a\nb",
        "a\tb",
        "initrd=evil.img",
        "BOOTIF=01-x",
        "a'b",
        'a"b',
        "a\\b",
        "${x}",
        "",
        "#a",
        "||",
        "é",
        "a\x00",
    ],
)
def test_s34_an_option_that_would_break_the_line_is_refused(option: str) -> None:
    with pytest.raises(InvalidInput):
        check_option(option)
    with pytest.raises(InvalidInput):
        args("kickstart", "rocky9", options=(option,))


def test_s34_values_of_the_machine_are_checked_too() -> None:
    with pytest.raises(InvalidInput):
        kernel_args("preseed", URLS, machine() | {"hostname": "web01 initrd=x"}, {}, None, {}, ())


def test_a_line_longer_than_kernels_take_is_refused() -> None:
    with pytest.raises(InvalidInput):
        args("kickstart", "rocky9", options=("x" * MAX_LENGTH,))


def test_static_without_an_address_says_so() -> None:
    data = context("debian12")
    parameters = data["parameters"] | {"installer_network": "static"}
    with pytest.raises(BuildNotPossible) as caught:
        kernel_args("preseed", URLS, data["machine"], data["distro"], None, parameters, ())
    assert "installer_network" in caught.value.hint


@pytest.mark.parametrize(("family", "mode"), [("windows", "dhcp"), ("kickstart", "magic")])
def test_unknown_words_are_refused(family: str, mode: str) -> None:
    with pytest.raises(InvalidInput):
        args(family, "rocky9", installer_network=mode)

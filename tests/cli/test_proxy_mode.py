"""A subnet in proxy mode, as an administrator meets it; nothing runs here."""

import json

import pytest
from conftest import Served

pytestmark = pytest.mark.slow

WHERE = ("--cidr", "10.0.3.0/24", "--boot-url", "http://10.0.3.1:8080", "--media-url", "http://10.0.3.1:8081")


@pytest.fixture
def office(ready: Served) -> Served:
    """With the subnet `office` in proxy mode beside the external one."""
    ready.cli("subnet", "add", "office", *WHERE, "--dhcp", "proxy")
    return ready


def test_adding_one_says_that_nothing_is_left_to_do(ready: Served) -> None:
    said = ready.cli("subnet", "add", "office", *WHERE, "--dhcp", "proxy").stdout
    assert "subnet office added, DHCP proxy" in said
    assert "nothing to configure on the DHCP server there" in said
    assert "provisioner dhcp show --subnet office" in said
    assert ready.cli_json("subnet", "show", "office")["dhcp"] == "proxy"
    assert [row["action"] for row in ready.cli_json("history", "office")] == ["add"]


def test_a_subnet_becomes_one_and_is_none_again(ready: Served) -> None:
    dry = ready.cli("subnet", "edit", "lab", "--dhcp", "proxy", "--dry-run").stdout
    assert "proxy" in dry
    assert ready.cli_json("subnet", "show", "lab")["dhcp"] == "off"
    ready.cli("subnet", "edit", "lab", "--dhcp", "proxy")
    assert ready.cli_json("subnet", "show", "lab")["dhcp"] == "proxy"
    ready.cli("subnet", "edit", "lab", "--dhcp", "off")
    assert "nothing to check" in ready.cli("dhcp", "check").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--cidr", "fd00:3::/64"), "is not an IPv4 network"),
        (("--cidr", "10.0.4.0/24", "--boot-url", "http://10.0.4.1/" + "a" * 130), "longer than the 127 characters"),
        (("--cidr", "10.0.4.0/24", "--boot-url", "http://10.0.4.1/ü"), "holds characters"),
        (("--cidr", "10.0.4.1/32"), "holds no machine"),
    ],
)
def test_what_no_proxy_can_serve_is_refused(ready: Served, words: tuple[str, ...], said: str) -> None:
    done = ready.cli("subnet", "add", "odd", *words, "--dhcp", "proxy", code=1)
    assert said in done.stderr
    ready.cli("subnet", "show", "odd", code=3)


def test_dhcp_show_tells_what_to_expect_and_configures_nothing(office: Served) -> None:
    shown = office.cli("dhcp", "show", "--subnet", "office").stdout
    assert "subnet office (10.0.3.0/24) is in proxy mode: nothing to configure" in shown
    for told in ("undionly.kpxe", "snponly.efi", "http://10.0.3.1:8080/boot/ipxe", "/boot/loader/snponly.efi"):
        assert told in shown
    assert "by TFTP from 127.0.0.1" in shown  # TFTP is bound to that address alone
    assert "ADDRESS" not in shown


def test_dhcp_show_keeps_it_apart_from_what_is_to_be_pasted(office: Served) -> None:
    done = office.cli("dhcp", "show", "--server", "kea")
    json.loads("\n".join(line for line in done.stdout.splitlines() if not line.lstrip().startswith(("//", "#"))))
    assert "office" not in done.stdout
    assert "subnet office (10.0.3.0/24) is in proxy mode" in done.stderr


def test_dhcp_check_and_check_say_that_the_proxy_does_not_run(office: Served) -> None:
    done = office.cli("dhcp", "check", code=1)
    assert "the proxy does not run" in done.stdout
    assert "provisioner serve" in done.stdout
    found = office.cli("check", code=1).stdout
    assert "the DHCP proxy does not run" in found
    assert "nobody tells machines in office what to boot" in found


def test_check_repeats_what_the_proxy_complains_about(office: Served) -> None:
    (office.state / "dhcp").mkdir(exist_ok=True)
    state = {"pid": 1, "subnets": ["office"], "interfaces": [], "answers": 1, "dropped": 0}
    state |= {"error": "proxy DHCP cannot listen on UDP port 67 of eth0: no right to", "hint": "run it as root"}
    (office.state / "dhcp/status.json").write_text(json.dumps({"proxy": state}))
    for words in (("check",), ("dhcp", "check")):
        said = office.cli(*words, code=1).stdout
        assert "proxy DHCP cannot listen on UDP port 67 of eth0: no right to" in said
        assert "run it as root" in said


def test_boot_explain_tells_both_servers_parts(office: Served) -> None:
    office.cli("machine", "add", "box", "--mac", "52:54:00:00:00:09", "--ip", "10.0.3.11", "--profile", "rocky9")
    said = office.cli("boot", "explain", "box", "--arch", "uefi").stdout
    assert "another server gives the address; our proxy names snponly.efi (by TFTP)" in said
    assert "http://10.0.3.1:8080/boot/ipxe" in said


def test_a_build_in_proxy_mode_waits_for_no_dhcp_server_of_ours(office: Served) -> None:
    office.cli("machine", "add", "box", "--mac", "52:54:00:00:00:09", "--ip", "10.0.3.11", "--profile", "rocky9")
    office.cli("build", "start", "box")
    assert office.cli_json("build", "show", "box")["state"] == "armed"

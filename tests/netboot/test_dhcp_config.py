"""What Provisioner writes for DHCP servers, without running one; their own checkers where they are installed."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.dhcp import (
    DhcpPlan,
    DhcpRange,
    DhcpSubnet,
    Lease,
    Reservation,
    interfaces_for,
    served,
    stale_leases,
)
from provisioner.core.dhcpservers import external
from provisioner.core.dhcpservers.windows import excluded
from provisioner.errors import InvalidInput, ProgramFailed, UnknownReference
from provisioner.netboot.dhcp.checker import check
from provisioner.netboot.dhcp.dnsmasq import Paths, hosts_file, main_config
from provisioner.netboot.dhcp.files import write_whole
from provisioner.netboot.dhcp.leases import drop_leases, parse_leases
from provisioner.netboot.dhcp.logs import DhcpEvent, event_of, message_of

PATHS = Paths(Path("/var/lib/provisioner/dhcp"))
LAB = DhcpSubnet(
    name="lab",
    cidr="10.0.2.0/24",
    gateway="10.0.2.254",
    dns=("10.0.2.53", "2001:db8::53"),
    domain="lab.example",
    ranges=(DhcpRange("10.0.2.100", "10.0.2.109"), DhcpRange("10.0.2.200", "10.0.2.209")),
    mode="authoritative",
    boot_url="http://10.0.2.1:8080",
    tftp_address="10.0.2.1",
)
BARE = replace(
    LAB, name="bare", cidr="10.0.3.0/24", gateway=None, dns=(), domain=None, ranges=(), tftp_address="10.0.3.1"
)
WEB01 = Reservation("52:54:00:00:00:01", "10.0.2.11", "web01.lab.example", "lab")
TWIN = Reservation(WEB01.mac, "10.0.3.11", "web01", "bare")
SERVERS = external.SERVERS


def plan_of(*subnets: DhcpSubnet, machines: tuple[Reservation, ...] = ()) -> DhcpPlan:
    return DhcpPlan(1, subnets, machines)


def outside(plan: DhcpPlan) -> DhcpPlan:
    return replace(plan, subnets=tuple(replace(subnet, mode="external") for subnet in plan.subnets))


def written(plan: DhcpPlan) -> str:
    """All that would reach dnsmasq."""
    return main_config(plan, state=PATHS, interfaces=["eth1"], user="dnsmasq") + hosts_file(plan)


FULL = plan_of(LAB, BARE, machines=(WEB01, TWIN, Reservation("52:54:00:00:00:02", "10.0.2.12", None, "lab")))

needs_dnsmasq = pytest.mark.skipif(shutil.which("dnsmasq") is None, reason="needs dnsmasq")


# -- what dnsmasq is given ------------------------------------------------------------------------------------------


def test_a_reservation_is_by_mac_whatever_the_client_identifier() -> None:
    assert hosts_file(plan_of(LAB, machines=(WEB01,))) == "52:54:00:00:00:01,id:*,10.0.2.11,web01,3600\n"


@pytest.mark.parametrize("word", ["ignore", "infinite", "1h", "30", "45m", "IGNORE"])
def test_a_host_name_that_is_a_word_of_dnsmasqs_is_not_written(word: str) -> None:
    """A machine called `ignore` would get no service."""
    text = hosts_file(plan_of(LAB, machines=(replace(WEB01, hostname=word),)))
    assert text == "52:54:00:00:00:01,id:*,10.0.2.11,3600\n"


def test_a_subnet_without_ranges_is_static_and_with_ranges_they_are_for_strangers() -> None:
    ranges = [line for line in written(FULL).splitlines() if line.startswith("dhcp-range")]
    assert ranges == [
        "dhcp-range=set:net-10.0.2.0-24,10.0.2.0,static,255.255.255.0,3600",
        "dhcp-range=tag:!known,set:net-10.0.2.0-24,10.0.2.100,10.0.2.109,255.255.255.0,3600",
        "dhcp-range=tag:!known,set:net-10.0.2.0-24,10.0.2.200,10.0.2.209,255.255.255.0,3600",
        "dhcp-range=set:net-10.0.3.0-24,10.0.3.0,static,255.255.255.0,3600",
    ]


def test_dnsmasq_serves_no_dns_and_takes_no_names_from_the_host() -> None:
    lines = written(FULL).splitlines()
    assert {"port=0", "no-hosts", "interface=eth1", "dhcp-authoritative"} <= set(lines)
    assert not [line for line in lines if "script" in line]


def test_the_configuration_does_not_depend_on_the_machines() -> None:
    """Else each new machine would restart dnsmasq."""

    def main(plan: DhcpPlan) -> str:
        return main_config(plan, state=PATHS, interfaces=["eth1"], user="dnsmasq")

    assert main(FULL) == main(replace(FULL, generation=2, reservations=()))


def test_only_authoritative_subnets_are_served() -> None:
    plan = plan_of(replace(LAB, mode="off"), replace(BARE, mode="external"), machines=(WEB01, TWIN))
    assert served(plan).subnets == ()
    assert hosts_file(plan) == ""


@needs_dnsmasq
def test_r27_dnsmasq_accepts_what_is_written() -> None:
    names = ("ignore", "1h", "web_1", "a" * 63, "x.y.z", "n0")
    odd = tuple(
        Reservation(f"52:54:00:00:01:{number:02x}", f"10.0.2.{30 + number}", name, "lab")
        for number, name in enumerate(names)
    )
    plan = replace(FULL, reservations=(*FULL.reservations, *odd))
    hosts = "".join(f"dhcp-host={line}\n" for line in hosts_file(plan).splitlines())
    main = main_config(plan, state=PATHS, interfaces=["eth1"], user="root")
    assert hosts.count("\n") == 9
    check(main + hosts)
    with pytest.raises(ProgramFailed, match="bad option at line"):
        check(main + "no-such-option=1\n")


def test_a_missing_dnsmasq_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("provisioner.netboot.dhcp.checker.environment", lambda: {"PATH": str(tmp_path)})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Exception, match="not installed") as caught:
        check("port=0\n")
    assert caught.value.code == "program-missing"
    assert "apt install dnsmasq-base" in caught.value.hint


# -- what is refused ------------------------------------------------------------------------------------------------

NASTY = st.sampled_from(
    [
        *("\n", "\r", ",", '"', "'", ";", "{", "}", "#", " ", "\0", "\u2028", "\\", "=", "`", "$", "*", "!"),
        *(",tag:known", ",set:x", "\ndhcp-script=/bin/sh", "\nconf-file=/etc/shadow"),
    ]
)
FIELDS = st.sampled_from(
    ["cidr", "gateway", "domain", "boot_url", "tftp_address", "dns", "start", "mac", "ip", "hostname"]
)


@given(field=FIELDS, nasty=NASTY, data=st.data())
def test_s63_a_value_with_a_metacharacter_reaches_no_daemon(field: str, nasty: str, data: st.DataObject) -> None:
    def poison(text: str) -> str:
        at = data.draw(st.integers(0, len(text)))
        return text[:at] + nasty + text[at:]

    subnet, machine = LAB, WEB01
    if field in {"mac", "ip", "hostname"}:
        machine = replace(machine, **{field: poison(getattr(machine, field))})
    elif field == "dns":
        subnet = replace(subnet, dns=(poison("10.0.2.53"),))
    elif field == "start":
        subnet = replace(subnet, ranges=(DhcpRange(poison("10.0.2.100"), "10.0.2.109"),))
    else:
        subnet = replace(subnet, **{field: poison(getattr(subnet, field))})
    plan = plan_of(subnet, machines=(machine,))
    with pytest.raises(InvalidInput):
        written(plan)
    for server in SERVERS:
        with pytest.raises(InvalidInput):
            external.external_config(outside(plan), server)


@given(name=st.text(max_size=20).map(lambda text: f"lab{text}"))
def test_s63_a_subnets_name_is_refused_or_harmless(name: str) -> None:
    """Names may hold whatever is printable: they reach no line of dnsmasq's, and only comments and quotes elsewhere."""
    plan = plan_of(replace(LAB, name=name), machines=(replace(WEB01, subnet=name),))
    try:
        text = written(plan)
    except InvalidInput:
        assert not name.isprintable()
        return
    assert text == written(plan_of(LAB, machines=(WEB01,)))
    lines = len(external.external_config(outside(plan_of(LAB, machines=(WEB01,))), "windows").splitlines())
    assert len(external.external_config(outside(plan), "windows").splitlines()) == lines
    json.loads(external.external_config(outside(plan), "kea"))


def test_s63_powershell_quotes_are_doubled() -> None:
    name = "x'; Remove-Item C:\\ \u2019"
    text = external.external_config(outside(plan_of(replace(LAB, name=name))), "windows")
    assert "-Name 'x''; Remove-Item C:\\ \u2019\u2019'" in text


@pytest.mark.parametrize("word", ["a b", "eth0\ninterface=eth1", "x,y", ""])
def test_s63_interfaces_users_and_paths_are_checked_too(word: str) -> None:
    with pytest.raises(InvalidInput):
        main_config(FULL, state=PATHS, interfaces=[word], user="dnsmasq")
    with pytest.raises(InvalidInput):
        main_config(FULL, state=PATHS, interfaces=[], user=word)
    with pytest.raises(InvalidInput):
        main_config(FULL, state=Paths(Path(f"/var/{word} x")), interfaces=[], user="dnsmasq")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cidr": "10.0.2.5/24"}, "host bits"),
        ({"cidr": "2001:db8::/64"}, "IPv4"),
        ({"cidr": "10.0.2.0/31"}, "too small"),
        ({"gateway": "10.0.9.1"}, "gateway"),
        ({"ranges": (DhcpRange("10.0.2.20", "10.0.2.10"),)}, "ends before"),
        ({"ranges": (DhcpRange("10.0.2.20", "10.0.3.10"),)}, "not within"),
        ({"ranges": (DhcpRange("10.0.2.0", "10.0.2.10"),)}, "not within"),
        ({"ranges": (DhcpRange("10.0.2.250", "10.0.2.255"),)}, "not within"),
        ({"ranges": (DhcpRange("10.0.2.10", "10.0.2.20"), DhcpRange("10.0.2.20", "10.0.2.30"))}, "overlaps"),
        ({"ranges": (DhcpRange("10.0.2.250", "10.0.2.254"),)}, "the gateway"),
        ({"ranges": (DhcpRange("10.0.2.1", "10.0.2.9"),)}, "the TFTP address"),
        ({"ranges": (DhcpRange("10.0.2.50", "10.0.2.60"),)}, "the DNS server"),
        ({"boot_url": "ftp://10.0.2.1"}, "not a URL"),
        ({"boot_url": "http://" + "a" * 120}, "longer than"),
        ({"boot_url": ""}, "boot URL"),
        ({"boot_url": "http://[::1"}, "not a URL"),
    ],
)
def test_a_subnet_that_cannot_be_served_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        served(plan_of(replace(LAB, **change)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ip": "10.0.9.1"}, "not a machine's address"),
        ({"ip": "10.0.2.0"}, "not a machine's address"),
        ({"ip": "10.0.2.255"}, "not a machine's address"),
        ({"mac": "52-54-00-00-00-01"}, "normal form"),
        ({"mac": "52:54:00:00:01"}, "normal form"),
    ],
)
def test_a_reservation_that_cannot_be_served_is_refused(change: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        served(plan_of(LAB, machines=(replace(WEB01, **change),)))


def test_one_address_for_two_machines_and_an_unknown_subnet_are_refused() -> None:
    with pytest.raises(InvalidInput, match="reserved for both"):
        served(plan_of(LAB, machines=(WEB01, replace(WEB01, mac="52:54:00:00:00:02"))))
    with pytest.raises(UnknownReference):
        served(plan_of(LAB, machines=(TWIN,)))


def test_r27_one_mac_twice_is_one_reservation_a_subnet() -> None:
    second = replace(WEB01, ip="10.0.2.9")
    result = served(plan_of(LAB, BARE, machines=(WEB01, TWIN, second)))
    assert result.reservations == (second, TWIN)
    assert [one.reservation for one in result.left_out] == [WEB01]


def test_infiniband_is_left_out_and_said_so() -> None:
    """RFC 4390: its hardware address is not in the DHCP message."""
    card = replace(WEB01, mac=":".join(["80"] * 20))
    result = served(plan_of(LAB, machines=(card,)))
    assert result.reservations == ()
    assert "six-byte" in result.left_out[0].reason


# -- other decisions ------------------------------------------------------------------------------------------------


def test_interfaces_are_those_in_the_subnet_and_the_one_that_relays_reach() -> None:
    addresses = {
        "lo": ["127.0.0.1"],
        "eth0": ["192.0.2.10"],
        "eth1": ["10.0.2.7", "172.16.0.1"],
        "eth2": ["10.0.2.254"],
        "mgmt0": ["198.51.100.1"],
    }
    assert interfaces_for([LAB], addresses) == ("eth1", "eth2")
    assert interfaces_for([replace(LAB, tftp_address="192.0.2.10")], addresses) == ("eth0", "eth1", "eth2")
    loopback = replace(LAB, cidr="127.0.0.0/8", tftp_address="127.0.0.1")
    assert interfaces_for([loopback], addresses) == ()


def test_a_lease_in_the_way_of_a_reservation_is_dropped_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "leases"
    lines = [
        "1795409000 52:54:00:00:00:99 10.0.2.11 old *",
        "1795409000 52:54:00:00:00:02 10.0.2.12 * 01:52:54:00:00:00:02",
        "duid 00:01:00:01",
        "1795409000 52:54:00:00:00:03 10.0.2.100 * *",
    ]
    path.write_text("\n".join(lines) + "\n")
    stale = stale_leases(
        parse_leases(path.read_text()), (WEB01, replace(WEB01, mac="52:54:00:00:00:02", ip="10.0.2.12"))
    )
    assert stale == (Lease("52:54:00:00:00:99", "10.0.2.11", lines[0]),)
    drop_leases(path, stale)
    assert path.read_text().splitlines() == lines[1:]


def test_files_are_replaced_whole_and_readable_for_the_daemon(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    write_whole(path, "one\n")
    first = path.stat()
    write_whole(path, "one\n")
    assert path.stat().st_ino == first.st_ino, "the same content is not written again"
    with path.open() as reader:
        write_whole(path, "two\n")
        assert reader.read() == "one\n", "who reads the old file goes on reading the old file"
    assert path.read_text() == "two\n"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("line", "event"),
    [
        ("dnsmasq-dhcp[7]: DHCPDISCOVER(eth1) 52:54:00:00:00:01", ("discover", None)),
        ("dnsmasq-dhcp[7]: DHCPDISCOVER(eth1) 10.0.2.9 52:54:00:00:00:01", ("discover", "10.0.2.9")),
        ("dnsmasq-dhcp: DHCPACK(eth1) 10.0.2.11 52:54:00:00:00:01 web01", ("ack", "10.0.2.11")),
        ("dnsmasq-dhcp[7]: DHCPDISCOVER(eth1) 52:54:00:00:00:01 no address available", ("no-address", None)),
        ("dnsmasq-dhcp[7]: DHCPNAK(eth1) 10.0.2.9 52:54:00:00:00:01 wrong address", ("nak", "10.0.2.9")),
        ("dnsmasq-dhcp[7]: DHCP, IP range 10.0.2.1 -- 10.0.2.9, lease time 1h", None),
        ("dnsmasq-dhcp[7]: DHCPINFORM(eth1) 10.0.2.11 52:54:00:00:00:01", None),
        ("dnsmasq[7]: read /x/hosts", None),
    ],
)
def test_log_lines_become_events(line: str, event: tuple[str, str | None] | None) -> None:
    expected = event and DhcpEvent("52:54:00:00:00:01", event[0], event[1])  # type: ignore[arg-type]
    assert event_of(message_of(line)) == expected


# -- other people's servers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", SERVERS)
def test_an_external_configuration_holds_both_stages_and_the_machines(server: external.Server) -> None:
    text = external.external_config(outside(FULL), server)
    for word in ("undionly.kpxe", "snponly.efi", "http://10.0.2.1:8080/boot/ipxe", "10.0.2.1", "10.0.3.1", "iPXE"):
        assert word in text
    assert "10.0.2.12" in text
    assert "10.0.3.11" in text
    bare = external.external_config(outside(FULL), server, reservations=False)
    assert "10.0.2.12" not in bare
    assert external.external_config(FULL, server).count("10.0.2.254") == 0, "authoritative subnets are ours"


@needs_dnsmasq
def test_the_external_dnsmasq_configuration_passes_its_checker() -> None:
    text = external.external_config(outside(FULL), "dnsmasq")
    assert "dhcp-host=52:54:00:00:00:01,id:*,10.0.2.11,web01,3600" in text
    check(text)


def test_the_kea_configuration_is_json_with_unique_reservations() -> None:
    double = replace(WEB01, ip="10.0.2.99")
    plan = outside(replace(FULL, reservations=(*FULL.reservations, double)))
    config = json.loads(external.external_config(plan, "kea"))["Dhcp4"]
    lab, bare = config["subnet4"]
    assert config["match-client-id"] is False
    assert [one["hw-address"] for one in lab["reservations"]] == ["52:54:00:00:00:01", "52:54:00:00:00:02"]
    assert bare["reservations"] == [{"hw-address": WEB01.mac, "ip-address": "10.0.3.11", "hostname": "web01"}]
    assert [pool["client-class"] for pool in lab["pools"]] == ["UNKNOWN", "UNKNOWN"]
    assert bare["pools"] == []
    assert {one["boot-file-name"] for one in config["client-classes"]} == {"undionly.kpxe", "snponly.efi"}


def check_with(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("dhcpd") is None, reason="needs isc-dhcp-server")
def test_the_isc_configuration_passes_dhcpd(tmp_path: Path) -> None:
    path = tmp_path / "dhcpd.conf"
    path.write_text(external.external_config(outside(FULL), "isc"))
    leases = tmp_path / "leases"
    leases.touch()
    result = check_with("dhcpd", "-t", "-cf", str(path), "-lf", str(leases))
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("kea-dhcp4") is None, reason="needs kea-dhcp4-server")
def test_the_kea_configuration_passes_kea(tmp_path: Path) -> None:
    path = tmp_path / "kea.conf"
    path.write_text(external.external_config(outside(FULL), "kea"))
    result = check_with("kea-dhcp4", "-t", str(path))
    assert result.returncode == 0, result.stdout + result.stderr


def test_windows_excludes_what_is_in_no_range() -> None:
    gaps = [(str(start), str(end)) for start, end in excluded(LAB)]
    assert gaps == [("10.0.2.1", "10.0.2.99"), ("10.0.2.110", "10.0.2.199"), ("10.0.2.210", "10.0.2.254")]
    assert [(str(start), str(end)) for start, end in excluded(BARE)] == [("10.0.3.1", "10.0.3.254")]
    text = external.external_config(outside(FULL), "windows")
    assert "-IPAddress 10.0.2.11 -ClientId '52-54-00-00-00-01' -Name 'web01'" in text
    policies = [line.split("'")[1] for line in text.splitlines() if line.startswith("Add-DhcpServerv4Policy")]
    assert policies == ["Provisioner iPXE", "Provisioner UEFI", "Provisioner BIOS"] * 2

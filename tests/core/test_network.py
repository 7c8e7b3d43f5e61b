"""The layout of links: by property against what a kernel would take, by example for each mistake."""

import ipaddress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from provisioner.core.network import BOND_MODES, layout
from provisioner.errors import InvalidInput

MACS = ["52:54:00:12:34:56", "52:54:00:12:34:57", "52:54:00:12:34:58"]
BOND = {"name": "bond0", "kind": "bond", "over": "all"}
VLAN = {"name": "bond0.30", "kind": "vlan", "over": "bond0", "id": 30}
KEYS = {
    "name",
    "kind",
    "mac",
    "over",
    "carries",
    "mode",
    "vlan",
    "mtu",
    "dhcp",
    "addresses",
    "gateways",
    "dns",
    "domain",
}


def nics(count: int = 2, *, version: int = 4, **more: Any) -> list[dict[str, Any]]:
    """Interfaces in one subnet, with addresses, as a build's context has them."""
    if version == 4:
        subnet = {"prefix": 24, "netmask": "255.255.255.0", "gateway": "10.0.2.1", "dns": ["10.0.2.1"]}
    else:
        subnet = {"prefix": 64, "netmask": "ffff:ffff:ffff:ffff::", "gateway": "2001:db8::1", "dns": ["2001:db8::53"]}
    ip = "10.0.2.1{}" if version == 4 else "2001:db8::1{}"
    found = [{"name": f"eth{place}", "mac": MACS[place], "ip": ip.format(place)} | subnet for place in range(count)]
    return [each | {"domain": "example.com"} | more for each in found]


def links_of(interfaces: list[dict[str, Any]], *links: Any, network: str = "static") -> dict[str, dict[str, Any]]:
    """The layout by name."""
    return {each["name"]: each for each in layout(interfaces, {"network": network, "links": list(links)})}


def refused(interfaces: list[dict[str, Any]], *links: Any, network: str = "static") -> InvalidInput:
    """The error that names the link."""
    with pytest.raises(InvalidInput) as caught:
        links_of(interfaces, *links, network=network)
    assert caught.value.where
    return caught.value


# What an administrator may write, right and wrong: few names, so that they meet.
names = st.sampled_from(["eth0", "eth1", "bond0", "bond1", "br0", "v30", "all", MACS[0], MACS[1].upper(), "", "A b", 5])
addresses = st.sampled_from(
    [
        "10.0.2.10/24",
        "10.0.9.9/24",
        "10.0.9.0/24",
        "2001:db8::10/64",
        "2001:DB8:9::1/64",
        "10.0.9.9",
        "x/1",
        "10.0.9.9/²",
    ]
)
ips = st.sampled_from(["10.0.2.1", "10.0.9.1", "2001:db8::1", "fe80::1", "::", "224.0.0.1", "eth0", ""])
wild: st.SearchStrategy[Any] = st.sampled_from([None, True, False, 0, 1, 4095, "x", [], ["eth0"], {}, 1.5])
links_strategy = st.lists(
    st.fixed_dictionaries(
        {"name": names},
        optional={
            "kind": st.sampled_from(["ethernet", "bond", "vlan", "bridge", "team"]) | wild,
            "over": names | st.lists(names, max_size=3) | wild,
            "mode": st.sampled_from([*BOND_MODES, "lacp"]) | wild,
            "id": st.integers(0, 4096) | wild,
            "address_of": names | wild,
            "addresses": addresses | st.lists(addresses, max_size=3) | wild,
            "gateway": ips | st.lists(ips, max_size=2) | wild,
            "dns": ips | st.lists(ips, max_size=2) | wild,
            "mtu": st.sampled_from([9000, 67, 70000]) | wild,
            "dhcp": st.booleans() | wild,
            "colour": wild,
        },
    )
    | wild,
    max_size=5,
)
# Only what has a good chance to be right, so that the second half of each property is reached.
sound_links = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {"name": st.sampled_from(["bond0", "bond1"]), "kind": st.just("bond")}
            | {"over": st.sampled_from(["all", "eth0", ["eth0", "eth1"], [MACS[0].replace(":", "-")], "eth1"])},
            optional={"mode": st.sampled_from(BOND_MODES), "address_of": st.sampled_from(["eth0", "eth1"])},
        ),
        st.fixed_dictionaries(
            {"name": st.sampled_from(["v30", "v31", "br0.30"]), "kind": st.just("vlan"), "id": st.integers(1, 4094)}
            | {"over": st.sampled_from(["eth0", "bond0", "bond1", "br0"])},
            optional={
                "addresses": st.sampled_from([["10.0.30.11/24"], ["2001:db8:30::11/64"]]),
                "address_of": st.just("eth0"),
                "gateway": st.sampled_from(["10.0.30.1", "2001:db8:30::1"]),
            },
        ),
        st.fixed_dictionaries(
            {"name": st.sampled_from(["br0", "br1"]), "kind": st.just("bridge")}
            | {"over": st.sampled_from(["bond0", "eth0", "v30", ["eth1", "v31"]])},
            optional={"dhcp": st.booleans()},
        ),
        st.fixed_dictionaries({"name": st.sampled_from(["eth0", MACS[1]])}, optional={"mtu": st.just(9000)}),
    ),
    max_size=4,
)
machines = st.builds(
    lambda count, version, network, links: (nics(count, version=version), {"network": network, "links": links}),
    st.integers(0, 3),
    st.sampled_from([4, 6]),
    st.sampled_from(["dhcp", "static"]),
    st.one_of(links_strategy, sound_links, sound_links),
)


@given(machines)
@example((nics(2), {"network": "static", "links": [BOND, VLAN | {"address_of": "eth0"}]}))
def test_a_layout_is_one_that_a_kernel_takes_or_an_error_that_says_where(
    given_: tuple[list[dict[str, Any]], dict[str, Any]],
) -> None:
    interfaces, parameters = given_
    try:
        links = layout(interfaces, parameters)
    except InvalidInput as error:
        assert error.where
        return
    seen: list[str] = []
    for link in links:
        assert set(link) == KEYS
        assert set(link["over"]) <= set(seen), "each after those that it is built over: no loops"
        assert len(set(link["over"])) == len(link["over"]) and link["name"] not in seen
        seen.append(link["name"])
    by_name = {link["name"]: link for link in links}
    assert [link["mac"] for link in links if link["kind"] == "ethernet"] == [each["mac"] for each in interfaces]
    for name, link in by_name.items():
        above = [each for each in links if name in each["over"]]
        stacked = [each for each in above if each["kind"] != "vlan"]
        assert len(stacked) <= 1
        assert link["carries"] == (True if stacked else "vlan" if above else False)
        assert bool(link["over"]) == (link["kind"] != "ethernet")
        if stacked:
            assert not (link["addresses"] or link["gateways"] or link["dhcp"])
            assert stacked[0]["kind"] != "bond" or len(above) == 1, "nothing stands beside a bond"
        below = {by_name[each]["kind"] for each in link["over"]}
        assert below <= {"bond": {"ethernet"}, "vlan": {"ethernet", "bond", "bridge"}}.get(
            link["kind"], {"ethernet", "bond", "vlan"}
        )
        for address in link["addresses"]:
            network = ipaddress.ip_interface(f"{address['ip']}/{address['prefix']}").network
            assert (address["version"], address["netmask"]) == (network.version, str(network.netmask))
    everything = [address["ip"] for link in links for address in link["addresses"]]
    assert len(set(everything)) == len(everything)
    gateways = [ipaddress.ip_address(gateway).version for link in links for gateway in link["gateways"]]
    assert len(set(gateways)) == len(gateways), "one default route an IP version"
    if parameters["network"] == "static":
        assert {each["ip"] for each in interfaces} <= set(everything), "no address of the machine is lost"


@given(st.sampled_from(MACS[:2]), st.sampled_from([":", "-", "", "."]), st.booleans(), st.booleans())
def test_a_mac_in_any_spelling_names_its_interface(mac: str, separator: str, upper: bool, pxe: bool) -> None:
    digits = mac.replace(":", "")
    step = 4 if separator == "." else 2
    spelled = separator.join(digits[at : at + step] for at in range(0, 12, step)) if separator else digits
    spelled = ("01-" if pxe and separator == "-" else "") + (spelled.upper() if upper else spelled)
    found = links_of(nics(), {"name": "bond0", "kind": "bond", "over": [spelled]}, {"name": spelled, "mtu": 9000})
    name = f"eth{MACS.index(mac)}"
    assert found["bond0"]["over"] == [name]
    assert found[name]["mtu"] == 9000


def test_dhcp_asks_on_the_first_interface_or_on_what_is_built_over_it() -> None:
    assert [name for name, link in links_of(nics(), network="dhcp").items() if link["dhcp"]] == ["eth0"]
    bridged = links_of(nics(), BOND, {"name": "br0", "kind": "bridge", "over": "bond0"}, network="dhcp")
    assert [name for name, link in bridged.items() if link["dhcp"]] == ["br0"]
    tagged = links_of(nics(), BOND, VLAN | {"address_of": "eth0"}, network="dhcp")
    assert [name for name, link in tagged.items() if link["dhcp"]] == ["bond0.30"]
    silent = links_of(nics(), {"name": "eth0", "dhcp": False}, {"name": "eth1", "dhcp": True}, network="dhcp")
    assert [name for name, link in silent.items() if link["dhcp"]] == ["eth1"]
    assert not any(link["addresses"] or link["gateways"] for link in tagged.values())


def test_static_addresses_climb_with_their_gateway_and_name_servers() -> None:
    found = links_of(nics(1), BOND, VLAN | {"addresses": ["10.0.30.11/24"]})
    assert found["eth0"]["addresses"] == []
    assert found["bond0"]["addresses"] == [{"ip": "10.0.2.10", "prefix": 24, "netmask": "255.255.255.0", "version": 4}]
    assert (found["bond0"]["gateways"], found["bond0"]["dns"]) == (["10.0.2.1"], ["10.0.2.1"])
    assert (found["bond0"]["mode"], found["bond0.30"]["vlan"], found["bond0.30"]["gateways"]) == ("802.3ad", 30, [])
    moved = links_of(nics(1), BOND, VLAN | {"address_of": MACS[0].upper()})
    assert [each["ip"] for each in moved["bond0.30"]["addresses"]] == ["10.0.2.10"]
    assert moved["bond0.30"]["gateways"] == ["10.0.2.1"] and moved["bond0"]["addresses"] == []


def test_ipv6_has_its_own_default_route() -> None:
    both = {"name": "eth0", "addresses": "2001:DB8::11/64", "gateway": ["fe80::1"], "dns": "2001:db8::53"}
    (link,) = layout(nics(1), {"network": "static", "links": [both]})
    assert [(each["ip"], each["prefix"], each["version"]) for each in link["addresses"]] == [
        ("2001:db8::11", 64, 6),
        ("10.0.2.10", 24, 4),
    ]
    assert link["gateways"] == ["fe80::1", "10.0.2.1"]
    assert link["dns"] == ["2001:db8::53", "10.0.2.1"]
    (only,) = layout(nics(1, version=6, ip="2001:DB8::0:10"), {"network": "static"})
    assert (only["addresses"][0]["ip"], only["gateways"]) == ("2001:db8::10", ["2001:db8::1"])


def test_only_the_first_gateway_of_the_interfaces_is_a_default_route() -> None:
    second = nics(2)[1] | {"gateway": "10.0.2.254"}
    found = links_of([nics(1)[0], second])
    assert [link["gateways"] for link in found.values()] == [["10.0.2.1"], []]
    own = links_of([nics(1)[0], second], {"name": "eth1", "gateway": "10.0.2.99"})
    assert [link["gateways"] for link in own.values()] == [[], ["10.0.2.99"]], "what a link says itself comes first"


def test_an_address_that_stands_on_its_own_link_too_is_written_once() -> None:
    (link,) = layout(nics(1), {"network": "static", "links": [{"name": "eth0", "addresses": ["10.0.2.10/24"]}]})
    assert [each["ip"] for each in link["addresses"]] == ["10.0.2.10"]


def test_vlans_stand_beside_a_bridge() -> None:
    """A hypervisor: the untagged network on one bridge, a VLAN of the same card on another."""
    found = links_of(
        nics(1),
        {"name": "br0", "kind": "bridge", "over": "eth0"},
        {"name": "eth0.30", "kind": "vlan", "over": "eth0", "id": 30},
        {"name": "br30", "kind": "bridge", "over": "eth0.30"},
    )
    assert (found["eth0"]["carries"], found["eth0.30"]["carries"], found["br0"]["carries"]) == (True, True, False)
    assert [each["ip"] for each in found["br0"]["addresses"]] == ["10.0.2.10"]


def test_nothing_and_interfaces_without_names_are_laid_out() -> None:
    assert layout([], {}) == []
    assert refused([], BOND).message == "it is built over nothing"
    unnamed = [{"mac": mac, "ip": None, "name": name} for mac, name in zip(MACS, ["", None, "x"], strict=True)]
    assert [(each["name"], each["mac"], each["dhcp"]) for each in layout(unnamed, {})] == [
        ("nic0", MACS[0], True),
        ("nic1", MACS[1], False),
        ("x", MACS[2], False),
    ]
    with pytest.raises(InvalidInput, match="two interfaces are called 'eth0'"):
        layout([each | {"name": "eth0"} for each in nics()], {})
    long = [each | {"name": f"Embedded NIC {place}"} for place, each in enumerate(nics())]
    assert links_of(long, {"name": "Embedded NIC 1", "mtu": 9000})["Embedded NIC 1"]["mtu"] == 9000
    (outside,) = layout([{"name": "eth0", "mac": MACS[0], "ip": "10.0.2.10", "prefix": None}], {"network": "static"})
    assert outside["addresses"] == [], "an address without a network cannot be written"


BRIDGE = {"name": "br0", "kind": "bridge", "over": "bond0"}


@pytest.mark.parametrize(
    ("links", "words"),
    [
        ([{"name": "bond0", "kind": "bond", "over": ["eth0", "eth0"]}], "twice"),
        ([{"name": "bond0", "kind": "bond", "over": ["eth0", MACS[0].upper()]}], "twice"),
        ([{"name": "bond0", "kind": "bond", "over": "bond0"}], "no 'bond0'"),
        ([BOND, BOND], "stands twice"),
        ([BOND, {"name": "bond1", "kind": "bond", "over": "eth0"}], "already part of bond0"),
        ([BOND, BRIDGE, {"name": "br1", "kind": "bridge", "over": "bond0"}], "already part of br0"),
        ([BOND, {"name": "v", "kind": "vlan", "over": "eth0", "id": 3}], "already part of bond0"),
        ([{"name": "v", "kind": "vlan", "over": "eth0", "id": 3}, BOND], "below the VLAN v"),
        ([BOND, VLAN, {"name": "bond1", "kind": "bond", "over": "bond0.30"}], "not built over a vlan"),
        ([BOND, {"name": "bond1", "kind": "bond", "over": "bond0"}], "not built over a bond"),
        ([BOND, BRIDGE, {"name": "br1", "kind": "bridge", "over": "br0"}], "not built over a bridge"),
        ([BOND, VLAN, {"name": "v", "kind": "vlan", "over": "bond0.30", "id": 3}], "not built over a vlan"),
        ([BOND, VLAN, VLAN | {"name": "other"}], "is bond0.30 already"),
        ([{"name": "v", "kind": "vlan", "over": ["eth0", "eth1"], "id": 3}], "over one link"),
        ([VLAN, BOND], "no 'bond0'"),
        ([VLAN | {"over": "eth0", "id": 0}], "1 to 4094"),
        ([VLAN | {"over": "eth0", "id": True}], "1 to 4094"),
        ([VLAN | {"over": "eth0", "id": "30"}], "1 to 4094"),
        ([VLAN | {"over": "eth0", "mode": "802.3ad"}], "`mode` means nothing"),
        ([BOND | {"id": 3}], "`id` means nothing"),
        ([{"name": "eth0", "over": "eth1"}], "`over` means nothing"),
        ([BOND | {"mode": "lacp"}], "'lacp' is not a mode"),
        ([{"name": "eth7"}], "no such interface"),
        ([{"name": "eth0", "mtu": 9000}, {"name": MACS[0], "mtu": 1500}], "stands twice"),
        ([{"name": "eth0", "kind": "bond", "over": "eth1"}], "taken"),
        ([BOND | {"name": "all"}], "cannot be the name"),
        ([BOND | {"name": "a" * 16}], "cannot be the name"),
        ([BOND | {"name": "bond 0"}], "cannot be the name"),
        ([BOND | {"name": "../x"}], "cannot be the name"),
        ([BOND | {"kind": ["bond"]}], "not a kind"),
        ([BOND | {"colour": "red"}], "'colour' is no key"),
        ([BOND, {"name": "eth1", "addresses": ["10.0.9.1/24"]}], "part of bond0"),
        ([BOND, {"name": "eth1", "dhcp": True}], "part of bond0"),
        ([BOND, {"name": "eth1", "address_of": "eth0"}], "part of bond0"),
        ([{"name": "eth0", "dhcp": []}], "true or false"),
        ([{"name": "eth0", "dhcp": 1}], "true or false"),
        ([BOND | {"address_of": "eth0"}, VLAN | {"address_of": MACS[0]}], "has the address of eth0 already"),
        ([BOND | {"address_of": ["eth0"]}], "no interface"),
        ([BOND | {"address_of": "eth9"}], "no interface 'eth9'"),
        ([{"name": "eth0", "addresses": ["10.0.9.9"]}], "needs its prefix"),
        ([{"name": "eth0", "addresses": ["10.0.9.9/33"]}], "needs its prefix"),
        ([{"name": "eth0", "addresses": ["10.0.9.9/²"]}], "needs its prefix"),
        ([{"name": "eth0", "addresses": ["10.0.9.9/0"]}], "needs its prefix"),
        ([{"name": "eth0", "addresses": ["10.0.9.0/24"]}], "network's own"),
        ([{"name": "eth0", "addresses": ["10.0.9.255/24"]}], "network's own"),
        ([{"name": "eth0", "addresses": ["10.9/24"]}], "not an IP address"),
        ([{"name": "eth0", "addresses": ["fe80::1%eth0/64"]}], "not an IP address"),
        ([{"name": "eth0", "addresses": [5]}], "list of texts"),
        ([{"name": "eth0", "addresses": ["10.0.9.9/24", "10.0.9.9/16"]}], "stands twice"),
        ([{"name": "eth0", "addresses": ["10.0.2.11/24"]}], "stands twice"),
        ([{"name": "eth0", "gateway": "2001:db8::1"}], "needs an IPv6 address"),
        ([{"name": "eth0", "gateway": ["10.0.2.1", "10.0.2.2"]}], "second IPv4 gateway"),
        ([{"name": "eth0", "gateway": "10.0.2.1"}, {"name": "eth1", "gateway": "10.0.2.2"}], "second IPv4 gateway"),
        ([{"name": "eth0", "gateway": "0.0.0.0"}], "no address of one host"),
        ([{"name": "eth0", "dns": "224.0.0.1"}], "no address of one host"),
        ([{"name": "eth0", "mtu": 67}], "68 to 65535"),
        ([{"name": "eth0", "mtu": True}], "68 to 65535"),
        (["bond0"], "has no name"),
        ([{"kind": "bond"}], "has no name"),
    ],
)
def test_a_mistake_is_refused_and_named(links: list[Any], words: str) -> None:
    assert words in refused(nics(), *links).message


@pytest.mark.parametrize("value", ["manual", None, ["dhcp"], True])
def test_network_is_dhcp_or_static(value: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        layout(nics(), {"network": value})
    assert caught.value.where == "parameters.network"


@pytest.mark.parametrize("value", ["bond0", {"name": "bond0"}, 5, True])
def test_links_is_a_list(value: Any) -> None:
    with pytest.raises(InvalidInput, match="list of mappings"):
        layout(nics(), {"links": value})

"""What a body of machines would do, decided without I/O."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner.core import machineinput, planning
from provisioner.core.cabling import Nets
from provisioner.core.identity import Known
from provisioner.core.machineinput import READERS
from provisioner.core.planning import Plan, There, World
from provisioner.core.pools import Pool
from provisioner.errors import AddressOutsideSubnet, InvalidInput

BLANK: dict[str, Any] = dict.fromkeys(READERS) | {
    "description": "", "parameters": {}, "kernel_options": [], "tags": [], "interfaces": [], "protected": False,
    "retired": False,
}  # fmt: skip
NETS = Nets([Pool("lab", "10.0.2.0/24", "10.0.2.1"), Pool("wide", "10.1.0.0/16"), Pool("six", "2001:db8::/64")])


def there(key: int, name: str, *nics: tuple[str | None, str | None], running: bool = False, **fields: Any) -> There:
    """A machine that is there."""
    cabled = [
        {"name": f"nic{place}", "mac": mac, "ip": ip, "subnet": "lab" if ip else None}
        for place, (mac, ip) in enumerate(nics)
    ]
    machine = BLANK | {"name": name, "interfaces": cabled} | fields
    macs = tuple(mac for mac, _ in nics if mac)
    known = Known(key, name, macs, machine["serial"], machine["uuid"], len(macs) < len(nics) or not macs)
    return There(known, machine, running)


def decided(body: Sequence[Any], *machines: There, free: Sequence[str] = ()) -> Plan:
    """The plan of a body in a world of these machines."""
    world = World(
        {each.known.key: each for each in machines}, NETS, frozenset({"web"}), BLANK, {"10.0.2.66": "somebody"},
        lambda _name, count, taken: [ip for ip in free if ip not in taken][:count],
    )  # fmt: skip
    return planning.decide(*planning.read(body), world)


A, B = "52:54:00:00:00:0a", "52:54:00:00:00:0b"


@given(ip=st.ip_addresses().map(str))
@settings(max_examples=300)
def test_the_subnet_of_an_address_is_the_one_that_contains_it(ip: str) -> None:
    import ipaddress

    containing = [
        name for name, pool in NETS.by_name.items() if ipaddress.ip_address(ip) in ipaddress.ip_network(pool.cidr)
    ]
    try:
        assert [NETS.containing(ip).name] == containing
    except AddressOutsideSubnet:
        assert containing == []


@pytest.mark.parametrize(
    "ip",
    ["10.0.2.0", "10.0.2.255", "10.1.0.0", "10.1.255.255", "10.0.1.255", "10.0.3.0", "2001:db8::", "2001:db8:0:1::"],
)
def test_the_ends_of_subnets_are_in_them(ip: str) -> None:
    test_the_subnet_of_an_address_is_the_one_that_contains_it.hypothesis.inner_test(ip)  # type: ignore[attr-defined]


def test_what_is_not_said_stays_and_interfaces_keep_what_they_are_called() -> None:
    one = there(1, "a", (A, "10.0.2.5"), (B, "10.0.2.6"), description="x", tags=["t"])
    one.machine["interfaces"][0]["name"] = "eth0"
    plan = decided([{"name": "a", "interfaces": [{"mac": B, "ip": None}, {"mac": A, "ip": "10.0.2.6"}]}], one)
    (change,) = plan.changed
    assert change.nics == [1, 0]
    assert (change.after["description"], change.after["tags"]) == ("x", ["t"])
    assert [(nic["name"], nic["ip"]) for nic in change.after["interfaces"]] == [("nic0", None), ("eth0", "10.0.2.6")]


def test_two_interfaces_cannot_end_with_one_address() -> None:
    one = there(1, "a", (A, "10.0.2.5"), (B, "10.0.2.6"))
    plan = decided([{"name": "a", "interfaces": [{"mac": B}, {"mac": A, "ip": "10.0.2.6"}]}], one)
    assert [(each.code, each.pointer) for each in plan.refused] == [("invalid-input", "/interfaces/1/ip")]


def test_a_record_that_waits_for_its_mac_gets_it_and_keeps_its_address() -> None:
    one = there(1, "a", (None, "10.0.2.5"))
    (change,) = decided([{"name": "a", "interfaces": [{"mac": A}]}], one).changed
    assert change.after["interfaces"] == [{"name": "nic0", "mac": A, "ip": "10.0.2.5", "subnet": "lab"}]
    assert change.nics == [0]
    (new,) = decided([{"name": "b", "interfaces": [{"ip": "10.0.2.9"}]}]).created
    assert new.after["interfaces"][0]["mac"] is None


def test_free_addresses_go_by_row_and_never_twice() -> None:
    rows = [
        {"name": f"n{n}", "interfaces": [{"mac": f"52:54:00:00:01:0{n}", "ip": "next", "subnet": "lab"}]}
        for n in range(3)
    ]
    rows.append({"name": "n4", "interfaces": [{"mac": "52:54:00:00:01:04", "ip": "10.0.2.8"}]})
    plan = decided(rows, free=["10.0.2.7", "10.0.2.8", "10.0.2.9"])
    assert [each.after["interfaces"][0]["ip"] for each in plan.created] == ["10.0.2.7", "10.0.2.9", "10.0.2.8"]
    assert [(each.index, each.code, each.pointer) for each in plan.refused] == [
        (2, "no-address-free", "/interfaces/0/ip")
    ]


def test_addresses_that_others_hold_and_that_were_always_there() -> None:
    held = {"name": "n", "interfaces": [{"mac": A, "ip": "10.0.2.66"}]}
    assert decided([held]).refused[0].code == "address-taken"
    assert decided([held | {"description": "x"}], there(1, "n", (A, "10.0.2.66"))).refused == ()


def test_two_machines_of_which_the_same_was_said_long_ago_are_no_fault_of_the_body() -> None:
    old = [there(1, "a", (A, None), serial="SN1234567"), there(2, "b", (B, None), serial="SN1234567")]
    body = [
        {"name": each.known.name, "serial": "SN1234567", "interfaces": [{"mac": each.known.macs[0]}]} for each in old
    ]
    plan = decided(body, *old)
    assert (plan.unchanged, plan.refused) == (2, ())


def test_a_machine_that_is_being_built_may_say_what_is_so() -> None:
    one = there(1, "a", (A, None), running=True)
    assert decided([{"name": "a", "protected": False, "retired": False, "description": "x"}], one).refused == ()
    assert [each.pointer for each in decided([{"name": "a", "retired": True}], one).refused] == ["/retired"]


def test_the_digest_is_of_what_is_done() -> None:
    one = there(1, "a", (A, None))
    body = [{"name": "a", "description": "x"}]
    assert decided(body, one).digest == decided(body, one).digest
    other = there(1, "a", (A, None), tags=["t"])
    assert decided(body, one).digest == decided(body, other).digest, "what the body does not touch"
    assert decided(body, one).digest != decided(body, there(1, "a", (A, None), description="y")).digest
    assert decided(body, one).digest != decided(body, there(2, "a", (A, None))).digest


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(raw=st.one_of(JSON, st.dictionaries(st.sampled_from([*READERS, "x"]), JSON, max_size=5)))
def test_s36_whatever_is_sent_is_read_or_refused(raw: Any) -> None:
    try:
        wanted = machineinput.read(raw)
    except InvalidInput as error:
        assert error.message
        assert error.hint
        assert error.where == "" or error.where.startswith("/")
    else:
        assert machineinput.read(wanted) == wanted, "the normal form is its own"
    decided([raw])


def test_s36_deep_nesting_is_refused() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(InvalidInput) as caught:
        machineinput.read({"name": "a", "parameters": {"x": deep}})
    assert caught.value.where.startswith("/parameters")

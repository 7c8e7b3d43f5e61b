"""Worlds of machines for plans, imports and exports: what hypothesis makes of them, and how a site gets them."""

from typing import Any

from hypothesis import strategies as st
from world import ACTOR

from provisioner.services import landscape, plans, subnets
from provisioner.services.site import Site
from provisioner.store.engine import read

NETS = {"lab": "127.0.2.0/24", "six": "2001:db8:2::/64"}
PROFILES = ("rocky9", "debian12")
# No surrogates and no NUL, which no database keeps; everything else, formulas and line ends too.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
WILD = st.one_of(
    TEXT, st.sampled_from(["=cmd|' /C calc'!A0", "-", "--", "'", "'=x", "+1", "@a", "\ta", "yes", "1", "null", "a;b,c"])
)
VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), WILD
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WILD, inner, max_size=3)),
    max_leaves=6,
)
WORDS = st.from_regex(r"[a-z0-9][a-z0-9._:-]{0,8}", fullmatch=True)
PARAMETERS = st.dictionaries(
    st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True), VALUES.filter(lambda value: value is not None), max_size=3
)


def subnets_of(site: Site) -> None:
    """The subnets that `machines` have addresses of."""
    for name, cidr in NETS.items():
        subnets.add(site, ACTOR, name, cidr, {})


@st.composite
def bodies(draw: st.DrawFn, most: int = 6) -> list[dict[str, Any]]:
    """Machines that contradict neither each other nor the rules."""
    count = draw(st.integers(1, most))
    machines = []
    for number in range(count):
        nics: list[dict[str, Any]] = []
        for place in range(draw(st.integers(1, 3))):
            nic: dict[str, Any] = {"mac": f"52:54:00:00:{number:02x}:{place:02x}"}
            index = number * 4 + place
            address = draw(st.sampled_from([None, f"127.0.2.{10 + index}", f"2001:db8:2::{10 + index:x}"]))
            nic |= {"ip": address} if address else draw(st.sampled_from([{}, {"subnet": "lab"}]))
            nic |= draw(st.sampled_from([{}, {"name": f"eth{place}"}]))
            nics.append(nic)
        machine: dict[str, Any] = {"name": f"m{number}", "interfaces": nics}
        optional = {
            "profile": st.sampled_from([None, *PROFILES]),
            "description": WILD,
            "parameters": PARAMETERS,
            "kernel_options": st.lists(st.sampled_from(["console=ttyS0", "quiet", "!quiet"]), max_size=2),
            "tags": st.lists(WORDS, max_size=3),
            "serial": st.sampled_from([None, f"SN-{number}-x", "To be filled by O.E.M.", "=1+1"]),
            "uuid": st.sampled_from([None, f"4c4c4544-0037-3310-8052-b4c04f4d00{number:02d}"]),
            "inventory": st.sampled_from([None, f"netbox/{number}"]),
            "local_boot": st.sampled_from([None, "exit"]),
            "protected": st.booleans(),
            "retired": st.booleans(),
        }
        machine |= {key: draw(each) for key, each in optional.items() if draw(st.booleans())}
        machines.append(machine)
    serials = [m.get("serial") for m in machines if m.get("serial") == "=1+1"]
    return machines if len(serials) < 2 else [m | {"serial": None} for m in machines]


def snapshots(site: Site) -> list[dict[str, Any]]:
    """Every machine of the site as its revisions have it."""
    with read(site.engine) as session:
        return landscape.everything(session)


def applied(site: Site, machines: list[dict[str, Any]]) -> dict[str, Any]:
    """Apply these machines, which must not be refused."""
    return plans.apply(site, ACTOR, machines=machines)

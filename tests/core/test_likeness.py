"""Differences of files, and which are alike."""

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.likeness import Differ, normal, own_values, unified

LINES = st.lists(st.sampled_from(["a", "b", "c", "d", ""]), max_size=8)


def machine(name: str, number: int) -> dict[str, Any]:
    nics = [{"ip": f"10.0.2.{number}", "mac": f"52:54:00:12:34:{number:02x}"}, {"ip": None, "mac": None}]
    fqdn = f"{name}.example.org"
    return {"name": name, "hostname": name, "fqdn": fqdn, "serial": f"SN{number}", "uuid": None, "interfaces": nics}


@given(st.lists(st.tuples(LINES, LINES), max_size=6))
def test_the_changed_lines_make_one_file_of_the_other_whatever_was_compared_before(
    pairs: list[tuple[list[str], list[str]]],
) -> None:
    differ = Differ()
    for before, after in pairs:
        changed = differ.changed(before, after)
        gone = Counter(line[1:] for line in changed if line[0] == "-")
        come = Counter(line[1:] for line in changed if line[0] == "+")
        assert Counter(before) - gone == Counter(after) - come
        assert Counter(before) >= gone
        assert bool(changed) == (before != after)


def test_machines_that_differ_in_nothing_but_who_they_are_differ_alike() -> None:
    alike = set()
    for name, number in (("web01", 11), ("web02", 12)):
        values = own_values(machine(name, number), 1)
        mac = f"52-54-00-12-34-{number:02X}"
        alike.add(normal([f"+ip=10.0.2.{number} host={name} fqdn={name}.example.org SN{number} {mac}"], values))
    assert alike == {("+ip=<ip0> host=<name> fqdn=<fqdn> <serial> <mac0->",)}


def test_a_value_counts_as_a_word_alone() -> None:
    values = own_values(machine("web", 1), 3)
    assert normal(["webbing 10.0.2.11 web-server build 3"], values) == ("webbing 10.0.2.11 <name>-server <build>",)
    assert normal(["\u017fn1 SN1 sn1"], values) == ("\u017fn1 <serial> <serial>",)
    assert normal([], values) == ()


def test_a_unified_diff_names_the_file_on_both_sides() -> None:
    assert unified("answer", "a\nb\n", "a\nc\n") == "--- now/answer\n+++ then/answer\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n"
    assert unified("answer", "", "a\n").splitlines()[-1] == "+a"

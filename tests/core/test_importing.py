"""Machines as files: strict reading, and writing that reads back the same."""

import json
from typing import Any

import bulkworlds
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner.core import importing
from provisioner.core.machineinput import READERS
from provisioner.errors import InvalidInput, TooLarge

BLANK = dict.fromkeys(READERS) | {
    "description": "",
    "parameters": {},
    "kernel_options": [],
    "tags": [],
    "protected": False,
    "retired": False,
}


@st.composite
def snapshots(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Machines as the store shows them."""
    found = []
    for machine in draw(bulkworlds.bodies()):
        nics = [
            {"name": f"nic{place}", "ip": None, "subnet": None, **nic}
            for place, nic in enumerate(machine["interfaces"])
        ]
        parameters = {name: value for name, value in machine.get("parameters", {}).items() if value is not None}
        found.append(BLANK | machine | {"interfaces": nics, "parameters": parameters})
    return found


@pytest.mark.parametrize("form", ["json", "yaml"])
@settings(max_examples=60, deadline=None)
@given(machines=snapshots())
def test_what_is_written_is_read_back(form: str, machines: list[dict[str, Any]]) -> None:
    text = importing.write(machines, form)
    assert importing.read(text.encode(), form, "f").machines == machines


@settings(max_examples=150, deadline=None)
@given(machines=snapshots())
def test_csv_says_the_same_and_nothing_in_it_is_a_formula(machines: list[dict[str, Any]]) -> None:
    text = importing.write(machines, "csv")
    for found, machine in zip(importing.read(text.encode(), "csv", "f").machines, machines, strict=True):
        for key in ("description", "serial", "inventory", "profile"):
            assert (found.get(key) or None) == (machine[key] or None)
        assert found.get("parameters", {}) == machine["parameters"]
        assert found.get("tags", []) == machine["tags"]
        assert [nic["mac"] for nic in found["interfaces"]] == [nic["mac"] for nic in machine["interfaces"]]
    import csv
    import io

    for row in csv.reader(io.StringIO(text, newline="")):
        assert not [cell for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"


@pytest.mark.parametrize(
    ("form", "text", "said"),
    [
        ("json", '[{"name": "a", "name": "b"}]', "'name' stands twice"),
        ("json", '[{"parameters": {"x": NaN}}]', "NaN"),
        ("json", '[{"parameters": {"x": 1e400}}]', "1e400 is too large"),
        ("json", '[{"parameters": {"x": ' + "1" * 5000 + "}}]", "broken JSON"),
        ("json", "[" * 1_000_000, "nested too deeply"),
        ("json", '[\n{"name": }]', "f:2:10: broken JSON"),
        ("json", '{"name": "a"}', "not a list"),
        ("yaml", BOMB, "aliases"),
        ("yaml", "# " + "x" * 70_000 + "\n" + BOMB, "aliases"),
        ("yaml", "- name: a\n  name: b\n", "'name' stands twice"),
        ("yaml", "- name: a\n  name: b\n# " + "x" * 70_000, "'name' stands twice"),
        ("yaml", "!!python/object/apply:os.system ['true']", "python/object"),
        ("yaml", "[" * 100_000, "broken YAML"),
        ("yaml", "name: a\n", "not a list"),
        ("csv", "", "no header"),
        ("csv", "name,colour\n", "f:1: unknown column 'colour'"),
        ("csv", "name,mac65\na,b\n", "unknown column 'mac65'"),
        ("csv", "name,parameters\n", "'parameters' is no column"),
        ("csv", "name,mac,mac\n", "the column 'mac' stands twice"),
        ("csv", "name,mac\nweb01,52:54:00:00:00:01,extra\n", "f:2: 3 cells under 2 columns"),
        ("csv", 'name,mac\n"web01,x\n', "broken CSV"),
        ("csv", "name,protected\na,perhaps\n", "f:2 protected: 'perhaps' is neither true nor false"),
        ("csv", "name,description\na," + "x" * 300_000, "broken CSV: field larger"),
    ],
)
def test_s36_what_is_broken_names_its_place(form: str, text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        importing.read(text.encode(), form, "f")
    assert said in str(caught.value)
    assert caught.value.hint
    assert caught.value.where.startswith("f")


def test_s36_limits_of_size_rows_and_encoding() -> None:
    with pytest.raises(TooLarge, match="32 MiB"):
        importing.read(b" " * ((32 << 20) + 1), "json", "f")
    with pytest.raises(TooLarge, match="10000"):
        importing.read(json.dumps([{}] * 10_001).encode(), "json", "f")
    with pytest.raises(TooLarge, match="10000"):
        importing.read(b"name\n" + b"a\n" * 10_001, "csv", "f")
    with pytest.raises(InvalidInput, match="byte 0xff at 2"):
        importing.read(b"[]\xff", "json", "f")


def test_csv_of_spreadsheets() -> None:
    head = "\ufeffname;mac;ip;mac2;param.n;param.t;tags;retired\r\n"
    text = head + "web01;52:54:00:00:00:01;;52:54:00:00:00:02;5;'5;a b;-\r\n\r\n"
    with pytest.raises(InvalidInput, match="neither true nor false"):
        importing.read(text.encode(), "csv", "f")
    found = importing.read(text.replace(";-\r", ";no\r").encode(), "csv", "f")
    assert found.machines == [
        {
            "name": "web01",
            "interfaces": [{"mac": "52:54:00:00:00:01"}, {"mac": "52:54:00:00:00:02"}],
            "parameters": {"n": 5, "t": 5},
            "tags": ["a", "b"],
            "retired": False,
        }
    ]
    assert found.places == ["line 2"]
    cleared = importing.read(b"name,profile,tags,param.x,description\na,-,-,-,'-\n", "csv", "f").machines
    assert cleared == [{"name": "a", "profile": None, "tags": [], "parameters": {"x": None}, "description": "-"}]


def test_csv_as_people_write_it() -> None:
    text = b'name,mac,ip,tags,kernel_options\nn1,525400000001,next:lab,"web,db; rack-1 x",console=ttyS0,115200n8\n'
    text = text.replace(b"console=ttyS0,115200n8", b'"console=ttyS0,115200n8 quiet"')
    [machine] = importing.read(text, "csv", "f.csv").machines
    assert machine["interfaces"] == [{"mac": "525400000001", "ip": "next", "subnet": "lab"}]
    assert machine["tags"] == ["web", "db", "rack-1", "x"]
    assert machine["kernel_options"] == ["console=ttyS0,115200n8", "quiet"]

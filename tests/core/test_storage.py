"""Which disk is taken and what is made of it: nothing that is missing, empty or odd may end as "any disk"."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from provisioner.core.storage import DISK_KINDS, LEAST_DISK, MIB, PARTITIONINGS, TAKES, layout, selector, size
from provisioner.errors import InvalidInput

RULE = {"paths", "serial", "model", "kind", "at_least", "at_most", "take", "said"}
ANY = {"paths": [], "serial": "", "model": "", "kind": "", "at_least": LEAST_DISK, "at_most": 0, "take": "smallest"}
A, B = "/dev/disk/by-path/pci-0000:00:1f.2-ata-1", "/dev/disk/by-path/pci-0000:00:1f.2-ata-2"

wild = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)
paths = st.sampled_from(
    [A, B, "/dev/sda", "/dev/nvme0n1", "/dev/../etc/passwd", "/dev/", "sda", "/dev/sd*", "/dev/a b"]
)
sizes = st.sampled_from(["20G", "512M", "8 GiB", "1T", "0", "20", "", "1.5T", "-1G", "I20G", "٣G", "9" * 19 + "T"])
rules = st.fixed_dictionaries(
    {},
    optional={
        "path": paths | wild,
        "serial": st.sampled_from(["S3Z8NB0K", " ", "a'b", "a\nb", "$(x)"]) | wild,
        "model": st.sampled_from(["SAMSUNG MZ7", "*"]) | wild,
        "kind": st.sampled_from([*DISK_KINDS, "tape"]) | wild,
        "at_least": sizes | wild,
        "at_most": sizes | wild,
        "take": st.sampled_from([*TAKES, "any"]) | wild,
    },
)
disks = st.one_of(
    st.sampled_from(["auto", "smallest-ssd", "largest-hdd", "first", "AUTO"]),
    paths,
    st.lists(paths, max_size=3),
    rules,
    wild,
)
everything = st.fixed_dictionaries(
    {},
    optional={
        "disk": disks,
        "partitioning": st.sampled_from([*PARTITIONINGS, "zfs"]),
        "raid1": st.booleans() | st.just("yes"),
        "encrypt": st.booleans() | st.just(1),
        "var_size": sizes | wild,
        "swap_size": sizes | wild,
    },
)


@given(everything)
@example({"disk": {"kind": "ssd", "at_least": "8G", "at_most": "1T"}, "raid1": True, "encrypt": True})
@example({"disk": [A, B], "raid1": True, "var_size": "20G", "swap_size": 1 << 30})
def test_a_layout_is_sound_or_an_error_that_names_the_parameter(parameters: dict[str, Any]) -> None:
    try:
        found = layout(parameters)
    except InvalidInput as error:
        assert error.where.partition(".")[0] == "parameters"
        assert error.where.split(".")[1] in {*parameters, "disk"}
        return
    disk = found["disk"]
    assert set(disk) == RULE
    assert len(disk["paths"]) in {0, found["count"]} and len(set(disk["paths"])) == len(disk["paths"])
    assert found["count"] == (2 if parameters.get("raid1") is True else 1)
    assert not disk["at_most"] or disk["at_least"] <= disk["at_most"]
    for path in disk["paths"]:
        assert path.startswith("/dev/") and ".." not in path.split("/")
    for text in (*disk["paths"], disk["serial"], disk["model"], disk["said"]):
        assert text.isascii() and text.isprintable() and not set(text) & set("'\"\\$`*?;&|<>")
    given_disk = parameters.get("disk", "auto")
    unrestricted = not disk["paths"] and not any(disk[key] for key in ("serial", "model", "kind", "at_most"))
    if unrestricted and isinstance(given_disk, dict):
        assert set(given_disk) <= {"at_least", "take", "at_most"}, "what was said was not lost"
    for key in ("var", "swap"):
        said = parameters.get(f"{key}_size")
        assert (found[f"{key}_mib"] > 0) == (bool(said) and said != "0"), "what was asked for is not rounded to none"


@given(st.integers(0, (1 << 60) - 1))
def test_a_number_is_bytes_and_a_text_has_its_unit(number: int) -> None:
    assert size(number, "x") == size(str(number), "x") == size(f"{number} B", "x") == number


@given(st.integers(0, 1000), st.sampled_from("KMGT"), st.sampled_from(["", "B", "iB"]), st.sampled_from(["", " "]))
def test_units_are_powers_of_1024(number: int, unit: str, ending: str, space: str) -> None:
    expected = number * 1024 ** ("KMGT".index(unit) + 1)
    for text in (f"{number}{space}{unit}{ending}", f" {number}{unit.lower()}{ending.lower()} "):
        assert size(text, "x") == expected


@pytest.mark.parametrize(
    "value", ["", "G", "1.5T", "-1G", "I20G", "20IG", "20Gi B", "٣G", "9" * 19 + "T", 1 << 60, -1, 1.0]
)
def test_what_is_no_size_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="not a size"):
        size(value, "parameters.var_size")


@pytest.mark.parametrize(
    ("value", "expected", "said"),
    [
        ("auto", {}, "the smallest fixed disk of at least 8192 MiB"),
        ("smallest-ssd", {"kind": "ssd"}, "the smallest fixed SSD of at least 8192 MiB"),
        ("largest-nvme", {"kind": "nvme", "take": "largest"}, "the largest fixed NVME of at least 8192 MiB"),
        ("/dev/sda", {"paths": ["/dev/sda"]}, "/dev/sda"),
        ([A, B], {"paths": [A, B]}, f"{A} and {B}"),
        ({"path": A}, {"paths": [A]}, A),
        (
            {"serial": "S3Z8", "at_least": 0},
            {"serial": "S3Z8", "at_least": 0},
            "the smallest fixed disk of at least 0 MiB, serial S3Z8",
        ),
        (
            {"kind": "hdd", "at_least": "1T", "at_most": "2T", "take": "largest"},
            {"kind": "hdd", "at_least": 1 << 40, "at_most": 2 << 40, "take": "largest"},
            "the largest fixed HDD of at least 1048576 MiB and at most 2097152 MiB",
        ),
    ],
)
def test_a_rule_is_spelled_out(value: Any, expected: dict[str, Any], said: str) -> None:
    assert selector(value) == ANY | expected | {"said": said}


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"disk": ""}, "not a way"),
        ({"disk": "first"}, "not a way"),
        ({"disk": None}, "does not choose"),
        ({"disk": []}, "two different"),
        ({"disk": [A, A], "raid1": True}, "two different"),
        ({"disk": {"path": ""}}, "not a path"),
        ({"disk": {"path": A, "serial": "S3Z8"}}, "already"),
        ({"disk": {"serial": ""}}, "cannot be a disk's serial"),
        ({"disk": {"serial": " "}}, "cannot be a disk's serial"),
        ({"disk": {"serial": 12345}}, "cannot be a disk's serial"),
        ({"disk": {"model": "a'b"}}, "cannot be a disk's model"),
        ({"disk": {"kind": ""}}, "not a kind"),
        ({"disk": {"take": None}}, "not a take"),
        ({"disk": {"colour": "red"}}, "does not choose"),
        ({"disk": {"at_most": "4G"}}, "no disk has"),
        ({"disk": {"at_least": ""}}, "not a size"),
        ({"disk": [A, B]}, "raid1 is not true"),
        ({"disk": A, "raid1": True}, "raid1 needs two"),
        ({"disk": {"serial": "S3Z8"}, "raid1": True}, "raid1 needs two"),
        ({"disk": [A, B, "/dev/sdc"], "raid1": True}, "raid1 needs two"),
        ({"disk": "/dev/disk/../../etc/passwd"}, "not a path"),
        ({"partitioning": "zfs"}, "not a way of partitioning"),
        ({"raid1": "yes"}, "true or false"),
        ({"encrypt": None}, "true or false"),
        ({"var_size": "20"}, "too few"),
        ({"swap_size": "500K"}, "too few"),
    ],
)
def test_a_mistake_is_refused_and_named(parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        layout(parameters)
    assert words in caught.value.message
    assert caught.value.where.startswith("parameters.")


def test_nothing_said_is_one_disk_with_lvm() -> None:
    assert layout({}) == {
        "disk": selector("auto"),
        "count": 1,
        "partitioning": "lvm",
        "raid1": False,
        "encrypt": False,
        "var_mib": 0,
        "swap_mib": 0,
    }
    assert layout({"raid1": True, "var_size": "20G", "swap_size": 4 * MIB})["count"] == 2
    assert layout({"var_size": "20G"})["var_mib"] == 20480

"""`provisioner machine` and `subnet`: rows, tags, free addresses, as people type them."""

import json
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def test_r16_a_rack_is_prepared_before_its_macs_are_known(ready: Any) -> None:
    rehearsed = ready.cli(
        "machine", "add", "n[001-003]", "--ip", "127.0.2.20+", "--profile", "rocky9", "--dry-run"
    ).stdout
    assert "n003" in rehearsed
    assert "dry run" in rehearsed
    ready.cli("machine", "show", "n001", code=3)
    added = ready.cli("machine", "add", "n[001-003]", "--ip", "127.0.2.20+", "--profile", "rocky9").stdout
    assert "3 machines added" in added
    done = ready.cli("build", "start", "n002", code=4)
    assert "no MAC address of n002 is known" in done.stderr
    assert "machine edit n002 --mac" in done.stderr
    ready.cli("machine", "edit", "n002", "--mac", "5254.0000.0022")
    nic = ready.cli_json("machine", "show", "n002")["interfaces"][0]
    assert (nic["mac"], nic["ip"]) == ("52:54:00:00:00:22", "127.0.2.21")
    one = ready.cli("machine", "add", "n009", "--ip", "next:lab").stdout
    assert "machine edit n009 --mac MAC" in one


def test_tags_are_put_on_and_taken_off(ready: Any) -> None:
    ready.cli("machine", "edit", "web01", "--tag", "Rack-12", "--tag", "web", "--inventory", "netbox/17")
    assert "+- rack-12" not in ready.cli("machine", "edit", "web01", "--untag", "web").stdout
    shown = ready.cli_json("machine", "show", "web01")
    assert (shown["tags"], shown["inventory"]) == (["rack-12"], "netbox/17")
    assert "rack-12" in ready.cli("machine", "list").stdout
    refused = ready.cli("machine", "edit", "web01", "--tag", "a b", code=1)
    assert "tag 2: 'a b' is not a tag" in refused.stderr


def test_ranges_and_free_addresses(ready: Any) -> None:
    words = ("--range", "static:127.0.2.30-127.0.2.39", "--range", "127.0.2.100-127.0.2.199")
    ready.cli("subnet", "edit", "lab", *words)
    shown = ready.cli("subnet", "show", "lab").stdout
    assert "static:127.0.2.30-127.0.2.39, dynamic:127.0.2.100-127.0.2.199" in shown
    assert "total=256, used=1, free=10, held=0" in shown
    assert ready.cli("subnet", "free", "lab").stdout.split() == ["127.0.2.30"]
    held = ready.cli("subnet", "free", "lab", "--count", "2", "--hold")
    assert held.stdout.split() == ["127.0.2.30", "127.0.2.31"]
    assert "for 10 minutes" in held.stderr
    assert json.loads(ready.cli("subnet", "free", "lab", "-o", "json").stdout) == [{"ip": "127.0.2.32"}]
    assert "127.0.2.11" in ready.cli("subnet", "addresses", "lab").stdout
    refused = ready.cli("machine", "add", "x", "--ip", "127.0.2.150", code=1).stderr
    assert "interface 1 ip: 127.0.2.150 is in the range 127.0.2.100 to 127.0.2.199" in refused
    assert "subnet free lab" in refused
    refused = ready.cli("subnet", "edit", "lab", "--range", "reserved:127.0.2.1-127.0.2.20", code=4).stderr
    assert "127.0.2.11 (web01)" in refused
    ready.cli("subnet", "edit", "lab", "--range", "")
    assert ready.cli_json("subnet", "show", "lab")["ranges"] == []
    assert "lots" in ready.cli("subnet", "free", "lab", "--count", "lots", code=2).stderr

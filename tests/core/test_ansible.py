"""Machines as Ansible sees them: groups, variables, and nothing that it would evaluate."""

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.ansible import group_names, inert, inventory, variable, variables


def machine(name: str = "web01", **more: Any) -> dict[str, Any]:
    """A machine as the service reads it."""
    plain = {"name": name, "address": "10.0.2.11", "state": "ready", "profile": "rocky9", "subnets": ["lab"]}
    return plain | {"tags": [], "parameters": {}} | more


def test_groups_by_profile_state_subnet_and_tag() -> None:
    found = inventory(
        [
            machine("web02", tags=["pxe", "web"], profile="rocky9-web"),
            machine("web01", subnets=["lab", "san-a", "lab"], state="built", profile=None, address=None),
        ]
    )
    hostvars = found.pop("_meta")["hostvars"]
    assert found == {
        "all": {"hosts": ["web01", "web02"], "children": ["ungrouped", "profiles", "states", "subnets", "tags"]},
        "profiles": {"children": ["profile_rocky9_web"]},
        "profile_rocky9_web": {"hosts": ["web02"]},
        "states": {"children": ["state_built", "state_ready"]},
        "state_built": {"hosts": ["web01"]},
        "state_ready": {"hosts": ["web02"]},
        "subnets": {"children": ["subnet_lab", "subnet_san_a"]},
        "subnet_lab": {"hosts": ["web01", "web02"]},
        "subnet_san_a": {"hosts": ["web01"]},
        "tags": {"children": ["tag_pxe", "tag_web"]},
        "tag_pxe": {"hosts": ["web02"]},
        "tag_web": {"hosts": ["web02"]},
    }
    assert "ansible_host" not in hostvars["web01"], "Ansible then asks the resolver for the name"
    assert hostvars["web02"]["ansible_host"] == "10.0.2.11"
    assert hostvars["web02"]["provisioner"]["profile"] == "rocky9-web"


def test_parameters_keep_their_names_unless_those_mean_something() -> None:
    given_ = {"timezone": "UTC", "ansible_connection": "local", "name": "x", "provisioner": 1, "class": 2, "param_x": 3}
    shown = variables(machine(parameters=given_))
    assert {key: value for key, value in shown.items() if key not in {"ansible_host", "provisioner"}} == {
        "timezone": "UTC",
        "param_ansible_connection": "local",
        "param_name": "x",
        "param_provisioner": 1,
        "param_class": 2,
        "param_param_x": 3,
    }


def test_no_parameter_is_a_name_that_ansible_reserves() -> None:
    """The names of the Ansible that is installed, asked of itself."""
    program = (
        "import json; from ansible.vars.reserved import get_reserved_names; "
        "from ansible.constants import MAGIC_VARIABLE_MAPPING, INTERNAL_STATIC_VARS; "
        "flat = [name for names in MAGIC_VARIABLE_MAPPING.values() for name in names]; "
        "print(json.dumps([*get_reserved_names(), *INTERNAL_STATIC_VARS, *flat]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    reserved = set(json.loads(done.stdout))
    assert len(reserved) > 80
    assert {name for name in reserved if variable(name) == name} == set()


@pytest.mark.parametrize("text", ["{{ x }}", "a {% if x %}", "{# x #}", "#jinja2:variable_start_string:'[['\n[[ x ]]"])
def test_s34_what_ansible_would_evaluate_is_marked(text: str) -> None:
    assert inert(text) == {"__ansible_unsafe": text}
    assert inert({"a": [text, "plain"]}) == {"a": [{"__ansible_unsafe": text}, "plain"]}


@pytest.mark.parametrize("key", ["__ansible_vault", "__ansible_unsafe", "__ansible_type"])
def test_s34_values_do_not_pass_for_types_of_ansible(key: str) -> None:
    assert inert({key: "x"}) == {f"param_{key}": "x"}


@pytest.mark.parametrize("value", ["plain", "{", "}}", 1, 1.5, None, True, [], {}])
def test_what_is_plain_stays_as_it_is(value: Any) -> None:
    assert inert(value) == value


@given(st.sets(st.text("ab_-.AB", min_size=1, max_size=4), max_size=12))
def test_no_two_words_share_a_group(words: set[str]) -> None:
    names = group_names("tag", words)
    assert len(set(names.values())) == len(words)
    assert all(name.isidentifier() for name in names.values())


@given(st.sets(st.from_regex(r"(param_|ansible_|name|class)?[a-z_]{1,6}", fullmatch=True)))
def test_no_two_parameters_share_a_variable(names: set[str]) -> None:
    assert len({variable(name) for name in names}) == len(names)

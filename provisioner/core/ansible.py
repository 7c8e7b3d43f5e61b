"""Machines as Ansible's dynamic inventory: what a script answers to ``--list`` and ``--host``.

Values are data and stay data: Ansible evaluates templates in variables, and parameters may be set by people who must
not run anything on the host that Ansible runs on.
"""

import hashlib
import keyword
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

OWN = "provisioner"
"""The variable that holds what we know of a machine besides its parameters."""
ASIDE = "param_"
"""Stands before a parameter's name that Ansible or we use for something else."""
# Jinja's openings, and the line that would set others (ansible's `#jinja2:`).
_EVALUATED = re.compile(r"\{\{|\{%|\{#|\A\s*#jinja2:")
_UNSAFE = "__ansible_unsafe"
_INTERNAL = "__ansible_"

# Keywords of plays, blocks, roles and tasks, Jinja's globals, and the variables that Ansible sets itself.
_RESERVED = """
action always any_errors_fatal args async async_val become become_exe become_flags become_method become_user block
changed_when check_mode collections connection cycler debugger delay delegate_facts delegate_to dict diff
environment fact_path failed_when force_handlers gather_facts gather_subset gather_timeout group_names groups
handlers hosts hostvars ignore_errors ignore_unreachable inventory_dir inventory_file inventory_hostname
inventory_hostname_short item joiner lipsum listen local_action lookup loop loop_control loop_with
max_fail_percentage module_defaults name namespace no_log notify now omit order play_hosts playbook_dir poll port
post_tasks pre_tasks q query range register remote_user rescue retries role_name role_names role_path role_uuid roles
run_once serial strategy tags tasks throttle timeout undef until vars vars_files vars_prompt when with_
"""
_KEPT = frozenset(_RESERVED.split())


def inventory(machines: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The answer to ``--list``.

    A machine has ``name``, ``address`` (None: Ansible uses the name), ``parameters``, ``profile``, ``state``,
    ``subnets``, ``tags``, and anything else that :data:`OWN` should show. Groups are ``profile_rocky9``,
    ``state_ready``, ``subnet_lab`` and ``tag_db`` under ``profiles``, ``states``, ``subnets`` and ``tags``.
    """
    everything = sorted(machines, key=lambda each: str(each["name"]))
    answer: dict[str, Any] = {"_meta": {"hostvars": {each["name"]: variables(each) for each in everything}}}
    answer["all"] = {"hosts": [each["name"] for each in everything], "children": ["ungrouped"]}
    for kind in ("profile", "state", "subnet", "tag"):
        members: dict[str, list[str]] = {}
        for each in everything:
            for word in _words(each, kind):
                members.setdefault(word, []).append(each["name"])
        names = group_names(kind, members)
        answer[f"{kind}s"] = {"children": [names[word] for word in sorted(members)]}
        answer |= {names[word]: {"hosts": members[word]} for word in sorted(members)}
        answer["all"]["children"].append(f"{kind}s")
    return answer


def _words(machine: Mapping[str, Any], kind: str) -> Sequence[str]:
    if kind in {"subnet", "tag"}:
        return list(dict.fromkeys(machine[f"{kind}s"]))
    return [machine[kind]] if machine[kind] else []


def group_names(kind: str, words: Iterable[str]) -> dict[str, str]:
    """A group's name for each word, of letters, digits and underscores; two words never share a group."""
    spelled = {word: re.sub(r"[^a-z0-9_]", "_", word.lower()) for word in words}
    taken = {plain for word, plain in spelled.items() if word == plain}
    named: dict[str, str] = {}
    for word in sorted(spelled, key=lambda each: (spelled[each] != each, each)):
        plain = spelled[word]
        while word != plain and plain in taken:
            plain += "_" + hashlib.sha256(word.encode()).hexdigest()[:6]
        taken.add(plain)
        named[word] = f"{kind}_{plain}"
    return named


def variables(machine: Mapping[str, Any]) -> dict[str, Any]:
    """A machine's variables: its parameters under their own names, ``ansible_host``, and :data:`OWN`."""
    shown = {variable(name): inert(value) for name, value in machine["parameters"].items()}
    if machine["address"]:
        shown["ansible_host"] = machine["address"]
    own = {key: value for key, value in machine.items() if key != "parameters"}
    return shown | {OWN: inert(own)}


def variable(parameter: str) -> str:
    """The variable that a parameter becomes.

    Names that Ansible gives a meaning get :data:`ASIDE` before them: ``ansible_connection`` or ``ansible_ssh_args``
    would let whoever may set a parameter run programs where Ansible runs.
    """
    odd = parameter in _KEPT or parameter == OWN or keyword.iskeyword(parameter)
    if odd or parameter.startswith(("ansible_", "_ansible", _INTERNAL, "with_", ASIDE)):
        return f"{ASIDE}{parameter}"
    return parameter


def inert(value: Any) -> Any:
    """The value so that Ansible evaluates nothing in it: no template, no vault text, no type of its own."""
    if isinstance(value, str):
        return {_UNSAFE: value} if _EVALUATED.search(value) else value
    if isinstance(value, Mapping):
        return {f"{ASIDE}{key}" if str(key).startswith(_INTERNAL) else key: inert(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [inert(each) for each in value]
    return value

"""Every shipped template, rendered for a DHCP and a static machine, held against golden files and the real tools."""

import os
import re
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pykickstart.parser import KickstartParser
from pykickstart.version import makeVersion

from provisioner.errors import MissingParameter, TemplateError
from provisioner.render.confined import Job, render
from provisioner.render.validate import validate
from tests.render.context import DISTROS, ROOT, context, machine, profile, sources

GOLDEN = Path(__file__).parent / "golden"
PARAMETERS: dict[str, Any] = {
    "packages": ["vim", "tmux"],
    "ntp": ["ntp.example.com"],
    "ssh_keys": ["ssh-ed25519 AAAAC3Nza admin@example.com"],
    "users": [{"name": "ops", "ssh_keys": ["ssh-ed25519 AAAAC3Nzb ops@example.com"], "sudo": True}],
    "repos": [{"name": "AppStream", "url": "http://mirror.example.com/AppStream/"}],
}


def made(template: str, data: dict[str, Any]) -> str:
    """The rendered text; the error, if there is one, is raised."""
    (answer,) = render([Job(template, data)], sources())
    if not isinstance(answer, str):
        raise answer
    return answer


def answers_only(kind: str, text: str) -> str:
    """What the installer is told, without the scripts."""
    if kind == "kickstart":
        return "".join(f"{line}\n" for line in text.split("%pre", 1)[0].splitlines() if not line.startswith("#"))
    if kind == "preseed":
        return "".join(f"{line}\n" for line in text.splitlines() if line and not line.startswith("#"))
    document = yaml.safe_load(text)
    for key in ("early-commands", "late-commands", "error-commands"):
        del document["autoinstall"][key]
    return str(yaml.safe_dump(document, sort_keys=True))


def kind_of(name: str) -> str:
    return DISTROS[name][2]


@pytest.mark.parametrize("static", [False, True], ids=["dhcp", "static"])
@pytest.mark.parametrize("name", DISTROS)
def test_s34_shipped_profiles_render_validate_and_match_their_golden_file(name: str, static: bool) -> None:
    """Set UPDATE_GOLDEN=1 to write the golden files anew."""
    template = profile(name)["template"]
    text = made(template, context(name, static=static, parameters=PARAMETERS))
    os_name, version, kind, _ = DISTROS[name]
    assert validate(kind, text, os=os_name, version=version, template=template) == []
    golden = GOLDEN / f"{name}-{'static' if static else 'dhcp'}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(answers_only(kind, text))
    assert answers_only(kind, text) == golden.read_text()


@pytest.mark.parametrize("name", DISTROS)
def test_shipped_profiles_need_no_parameter_of_ones_own(name: str) -> None:
    """The first five minutes: nothing but the profile's defaults, no secret; the first boot still reports."""
    template = profile(name)["template"]
    text = made(template, context(name, secrets=[], handoff={"tool": "none"}))
    os_name, version, kind, _ = DISTROS[name]
    assert validate(kind, text, os=os_name, version=version, template=template) == []
    assert "root_password" not in text
    assert "provisioner-handoff.service" in text
    locked = {
        "kickstart": "\nrootpw --lock\n",
        "preseed": "passwd/root-password-crypted password !\n",
        "autoinstall": "",
    }
    assert locked[kind] in text


@pytest.mark.parametrize("name", DISTROS)
def test_s23_a_secret_is_unwrapped_early_and_never_in_the_text(name: str) -> None:
    text = made(profile(name)["template"], context(name))
    assert 'secret\'"/$1"' in text
    assert "$6$" not in text and "$y$" not in text
    assert text.index("provisioner_root_hash)") < text.index("provisioner_event disk")


@pytest.mark.parametrize("name", DISTROS)
@pytest.mark.parametrize("missing", ["disk", "timezone", "network", "ssh_keys"])
def test_s33_a_missing_parameter_names_template_and_parameter(name: str, missing: str) -> None:
    data = context(name)
    del data["parameters"][missing]
    with pytest.raises(MissingParameter) as caught:
        made(profile(name)["template"], data)
    assert caught.value.message == f"no value for parameters.{missing}"
    assert re.fullmatch(r"[a-z]+/[a-z0-9.-]+\.j2:\d+", caught.value.where)


@pytest.mark.parametrize("name", ["rocky9", "debian12", "ubuntu2404"])
def test_autoinstall_seeds_are_yaml(name: str) -> None:
    data = context(name, static=True)
    network = yaml.safe_load(made("autoinstall/network-config.j2", data))
    assert network["ethernets"]["nic0"]["addresses"] == ["10.0.2.11/24"]
    assert network["ethernets"]["nic0"]["routes"] == [{"to": "default", "via": "10.0.2.1"}]
    assert "routes" not in network["ethernets"]["nic1"]
    assert yaml.safe_load(made("autoinstall/meta-data.j2", data))["local-hostname"] == "web01"
    vendor = made("autoinstall/vendor-data.j2", data)
    assert vendor.startswith("#cloud-config\n") and yaml.safe_load(vendor) == {}


def test_every_snippet_and_template_says_what_it_needs() -> None:
    for name, text in sources().items():
        head = text[:1500]
        assert "{##" in head, name
        if name != "snippets/first-boot-unit.sh.j2":
            assert re.search(r"Parameters: |Uses ", head), name


def test_every_shipped_template_parses() -> None:
    """Also those that no profile of this test renders."""
    environment = jinja2.Environment(comment_start_string="{##", comment_end_string="##}", autoescape=True)
    for name, text in sources().items():
        assert environment.parse(text).body, name


def test_shipped_profiles_name_parents_and_templates_that_exist() -> None:
    names = {path.stem for path in (ROOT / "profiles").glob("*.yaml")}
    assert {"linux", "rocky9", "rhel9", "debian12", "ubuntu2404", "stem-cell"} <= names
    allowed = {"name", "parent", "description", "distro", "image", "template", "kernel_options", "parameters"}
    for name in names:
        own = yaml.safe_load((ROOT / "profiles" / f"{name}.yaml").read_text())
        assert own["name"] == name
        assert set(own) <= allowed | {"handoff", "local_boot"}
        assert own.get("parent", "linux") in names
        assert "template" not in own or own["template"] in sources()


def test_el9_leaves_the_boot_order_alone() -> None:
    text = made("kickstart/el9.ks.j2", context())
    handler = makeVersion("RHEL9")
    KickstartParser(handler, followIncludes=False, missingIncludeIsFatal=False).readKickstartFromString(text)
    assert handler.bootloader.leavebootorder
    assert handler.reboot.action is not None


def test_preseed_scripts_do_not_reach_debconf() -> None:
    """The installer drops lines that begin with #; a script's line that did not would be an answer."""
    text = made("preseed/debian12.cfg.j2", context("debian12", static=True, parameters=PARAMETERS))
    for line in text.splitlines():
        assert line == "" or line[0] == "#" or re.match(r"(d-i|tasksel|popularity-contest) \S+/\S+ \w+", line), line
    assert not any(line.startswith("#") and line.endswith("\\") for line in answers_only("preseed", text).splitlines())


# --- whatever the data is --------------------------------------------------------------------------------------------

HOSTILE = [
    "web01\n%post\nrm -rf /\n%end",
    "%end",
    "%include /etc/passwd",
    "web01' --bad",
    'web01" ; reboot',
    "web01 # x",
    "{{ 7 * 7 }}",
    "web01\x00",
    "web01\u2028%pre",
    "initrd=x",
    "$(reboot)",
    "`reboot`",
    "web01\\",
    "- a: b",
]


def structure(kind: str, text: str) -> object:
    """What must not depend on any value: sections, questions, keys."""
    if kind == "kickstart":
        handler = makeVersion("RHEL9")
        KickstartParser(handler, followIncludes=False, missingIncludeIsFatal=False).readKickstartFromString(text)
        return re.findall(r"(?m)^\s*%(\w+)", text), len(handler.scripts), len(text.splitlines())
    if kind == "preseed":
        return [line.split()[:3] for line in answers_only(kind, text).splitlines()], len(text.splitlines())
    return keys(yaml.safe_load(text))


def keys(value: object) -> object:
    if isinstance(value, dict):
        return {key: keys(item) for key, item in value.items()}
    return [keys(item) for item in value] if isinstance(value, list) else type(value)


def hostile_contexts(name: str) -> list[dict[str, Any]]:
    """Each hostile value in each place where data of people and machines comes in."""
    contexts = []
    for value in HOSTILE:
        contexts += [
            context(name, parameters=PARAMETERS, machine=machine() | {field: value})
            for field in ("name", "hostname", "fqdn")
        ]
        changes: list[dict[str, Any]] = [{field: value} for field in ("timezone", "locale", "keyboard")]
        changes += [{"packages": [value, "tmux"]}, {"ntp": [value]}, {"ssh_keys": [value]}]
        changes += [{"users": [PARAMETERS["users"][0] | {"name": value}]}]
        contexts += [context(name, parameters=PARAMETERS | change) for change in changes]
    return contexts


@pytest.mark.parametrize("name", ["rocky9", "debian12", "ubuntu2404"])
def test_s34_hostile_values_open_nothing(name: str) -> None:
    """A file of the same structure, or a refusal that names the template: nothing in between."""
    template, kind = profile(name)["template"], kind_of(name)
    expected = structure(kind, made(template, context(name, parameters=PARAMETERS)))
    contexts = hostile_contexts(name)
    results = render([Job(template, data) for data in contexts], sources())
    texts = [result for result in results if isinstance(result, str)]
    assert all(isinstance(result, str | TemplateError) for result in results)
    assert len(texts) > len(contexts) // 10
    for text in texts:
        assert structure(kind, text) == expected


@settings(deadline=None, max_examples=5, suppress_health_check=list(HealthCheck))
@example([("0", "0", "-"), ("0", "0", "@"), ("0", "0", "-@"), ("0", "0", "*")])
@given(st.lists(st.tuples(*[st.text(min_size=1, max_size=20)] * 3), min_size=20, max_size=40))
def test_s34_no_value_opens_a_kickstart_section(values: list[tuple[str, str, str]]) -> None:
    jobs = []
    for host, key, package in values:
        data = context(machine=machine() | {"fqdn": host, "name": host})
        data["parameters"] |= {"ssh_keys": [key], "packages": [package]}
        jobs.append(Job("kickstart/el9.ks.j2", data))
    plain = made("kickstart/el9.ks.j2", context(parameters={"ssh_keys": ["k"], "packages": ["p"]}))
    for result in render(jobs, sources()):
        if isinstance(result, str):
            assert structure("kickstart", result) == structure("kickstart", plain)


def test_s33_debian_needs_a_mirror_from_somewhere() -> None:
    """Neither a tree nor the parameter: an error at arming, not a question on the machine's console."""
    data = context("debian12")
    data["distro"]["tree"] = None
    data["parameters"].pop("mirror", None)
    with pytest.raises(MissingParameter, match=r"parameters\.mirror"):
        made("preseed/debian12.cfg.j2", data)
    data["parameters"]["mirror"] = "http://mirror.example.com/debian"
    assert "mirror='http://mirror.example.com/debian'" in made("preseed/debian12.cfg.j2", data)

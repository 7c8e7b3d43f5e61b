"""Every kickstart profile on BIOS and UEFI machines and three networks: golden files, and pykickstart's judgement."""

import re
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from provisioner.errors import MissingParameter, ProvisionerError, TemplateError
from provisioner.render.bootargs import kernel_args
from provisioner.render.validate import findings
from tests.render import goldens
from tests.render.context import DISTROS, NETWORKS, context, profile
from tests.render.kickstarts import HASH, PROFILES, answer, answers, made, one, parsed, scripts, told, version, whole

pytestmark = pytest.mark.slow

PARAMETERS = """{
  "packages": ["vim", "@development", "-firewalld"], "ntp": ["ntp1.example.com", "ntp2.example.com"],
  "ssh_keys": ["ssh-ed25519 AAAAC3Nza admin@example.com"], "proxy": "http://proxy.example.com:3128",
  "users": [{"name": "ops", "ssh_keys": ["ssh-ed25519 AAAAC3Nzb ops@example.com"], "sudo": true}],
  "repos": [{"name": "site", "url": "http://mirror.example.com/site/", "install": true},
            {"name": "updates", "mirrorlist": "http://mirror.example.com/list?repo=updates&arch=x86_64"}],
  "serial_console": "ttyS0,115200n8", "boot_options": ["crashkernel=256M"], "swap_size": "4G"
}"""


# Where the firmware makes a difference: each disk of a mirror must be able to start the machine.
MIRROR = PARAMETERS.replace("{", '{"raid1": true, "encrypt": true, "var_size": "20G",', 1)
SECRETS = '["root_password", "disk_passphrase"]'
STORIES = {"dhcp": PARAMETERS, "static": "{}", "bond-vlan": MIRROR}


@pytest.mark.parametrize("links", NETWORKS)
@pytest.mark.parametrize("firmware", goldens.FIRMWARES)
@pytest.mark.parametrize("name", PROFILES)
def test_s34_a_shipped_profile_is_as_reviewed_and_parses(name: str, firmware: str, links: str) -> None:
    """What %pre writes on a machine of this firmware is in it; UPDATE_GOLDEN=1 writes the files anew.

    By DHCP with every parameter in use, static with none, and on a bond with an encrypted mirror.
    """
    text = whole(answers(links, STORIES[links], SECRETS)[name], uefi=firmware == "uefi")
    parsed(text, version(name))
    data = context(name, links=links)
    options = profile(name)["kernel_options"]
    boot = kernel_args("kickstart", data["urls"], data["machine"], data["distro"], None, data["parameters"], options)
    goldens.hold(name, firmware, links, f"{told(text)}\nboot: {' '.join(boot)}\n")


@pytest.mark.parametrize("name", PROFILES)
def test_a_shipped_profile_says_what_it_was_tested_with(name: str) -> None:
    own = profile(name)
    assert f"ksvalidator for {version(name)} " in own["tested_with"] and "Not with Anaconda" in own["tested_with"]
    assert own["distro"] == {"os": DISTROS[name][0], "version": DISTROS[name][1].split(".")[0], "arch": "x86_64"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rhel8", "centos9", "alma10", "fedora43", "fedora44", "fedora45"])
def test_ksvalidator_itself_finds_nothing(name: str) -> None:
    """As arming runs it, and with the included files in place; its scripts are held against bash."""
    os, number = DISTROS[name][:2]
    text = answers("bond-vlan", PARAMETERS)[name]
    assert findings("kickstart", text, os=os, version=number) == []
    (remark,) = findings("kickstart", whole(text, uefi=True), os=os, version=number)
    assert remark.level == "warning" and "the name bond0 has already been defined" in remark.message


def test_another_versions_kickstart_is_refused() -> None:
    """The versions really differ: what Enterprise Linux 8 is told no later one takes, and the other way round."""
    eight, nine = (whole(answer(name, "dhcp", PARAMETERS), uefi=False) for name in ("rocky8", "rocky9"))
    for text, wrong in ((eight, "RHEL10"), (nine, "RHEL8")):
        with pytest.raises(Exception, match=r"ntpservers|timesource|traceback"):
            parsed(text, wrong)


@pytest.mark.parametrize("name", PROFILES)
def test_a_shipped_profile_needs_no_parameter_of_ones_own(name: str) -> None:
    """The first five minutes: nothing but the profile's defaults, no secret; the first boot still reports."""
    text = answers("dhcp", "{}", "[]")[name]
    parsed(whole(text, uefi=False), version(name))
    assert "\nrootpw --lock\n" in text
    assert "root_password" not in text and "passphrase=" not in text
    assert "provisioner-handoff.service" in text


def test_s23_a_secret_is_unwrapped_early_and_never_in_the_text() -> None:
    text = answer("rocky9", "dhcp", '{"encrypt": true}', '["root_password", "disk_passphrase"]')
    assert HASH not in text and "$6$" not in text
    (pre,) = scripts(text, "pre")
    assert pre.index("=$(provisioner_root_hash)") < pre.index("=$(provisioner_passphrase)")
    assert pre.index("=$(provisioner_passphrase)") < pre.index("provisioner_event disk ")


@pytest.mark.parametrize("missing", ["timezone", "ssh_keys", "packages", "repos", "proxy", "serial_console"])
def test_s33_a_missing_parameter_names_template_and_parameter(missing: str) -> None:
    for name in ("rocky8", "fedora45"):
        data = context(name)
        del data["parameters"][missing]
        (error,) = made([(name, data)])
        assert isinstance(error, MissingParameter)
        assert error.message.startswith(f"no value for parameters.{missing}")
        assert re.search(r"(kickstart|snippets)/[a-z0-9.-]+\.j2:\d+", error.where)


def test_encryption_without_its_secret_is_refused_with_the_command_that_sets_it() -> None:
    with pytest.raises(TemplateError, match="machine edit web01 --secret disk_passphrase"):
        one("rocky9", parameters={"encrypt": True})


def test_a_distro_without_a_tree_is_refused() -> None:
    with pytest.raises(TemplateError, match=r"distro edit rocky-9\.6 --tree"):
        one("rocky9", distro=context("rocky9")["distro"] | {"tree": None})


def test_the_boot_order_stays_and_the_machine_reboots() -> None:
    for name in PROFILES:
        handler = parsed(whole(answers("dhcp", "{}", "[]")[name], uefi=True), version(name))
        assert handler.bootloader.leavebootorder
        assert handler.reboot.action is not None
        assert handler.displaymode.nonInteractive


# --- whatever the data is ---------------------------------------------------------------------------------------------

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
    "$(touch canary)",
    "`touch canary`",
    "web01\\",
    "KICKSTART",
    "-",
    "@",
]


def structure(text: str) -> object:
    """What must not depend on any value: sections, scripts, commands, and the number of lines."""
    handler = parsed(re.sub(r"(?m)^%include .*\n", "", text), "RHEL9")
    commands = [line.split(maxsplit=1)[0] for line in told(text).splitlines()]
    packages = re.search(r"(?ms)^%packages\n(.*?)^%end$", text)
    assert packages is not None
    bare = [word for word in commands if word not in packages[1].split()]
    return re.findall(r"(?m)^\s*%(\w+)", text), len(handler.scripts), bare, len(text.splitlines())


def planted(value: str) -> list[dict[str, Any]]:
    """One context for each place where data of people and machines comes in, with this value there."""
    base = {"ssh_keys": ["k"], "packages": ["p"], "ntp": ["n"], "repos": [{"name": "r", "url": "u"}]}
    base |= {"users": [{"name": "ops", "ssh_keys": ["k"], "sudo": True}], "proxy": "x", "serial_console": "ttyS0"}

    def changed(**changes: Any) -> dict[str, Any]:
        return context("rocky9", links="bond-vlan", parameters=base | changes)

    contexts = [changed(**{key: value}) for key in ("timezone", "locale", "keyboard", "proxy", "serial_console")]
    contexts += [changed(**{key: [value]}) for key in ("packages", "ntp", "ssh_keys", "boot_options")]
    contexts += [changed(repos=[{"name": value, "url": "u"}]), changed(repos=[{"name": "r", "url": value}])]
    contexts += [changed(users=[{"name": value, "ssh_keys": ["k"], "sudo": True}])]
    for field in ("name", "hostname", "fqdn", "serial", "manufacturer"):
        data = changed()
        data["machine"] |= {field: value}
        contexts.append(data)
    for link, field in ((0, "mac"), (2, "name"), (2, "mode"), (3, "name"), (3, "vlan")):
        data = changed()
        data["network"]["links"][link] |= {field: value}
        contexts.append(data)
    for field in ("ip", "netmask", "prefix"):
        data = changed()
        data["network"]["links"][2]["addresses"][0] |= {field: value}
        contexts.append(data)
    for field in ("gateways", "dns"):
        data = changed()
        data["network"]["links"][2] |= {field: [value]}
        contexts.append(data)
    return contexts


@cache
def harmless() -> list[object]:
    return [structure(str(text)) for text in made([("rocky9", each) for each in planted("x1")])]


def held(values: list[str]) -> int:
    """How many of the kickstarts with these values were rendered: all with the structure of a harmless one."""
    expected = {
        key: structure(str(text)) for key, text in enumerate(made([("rocky9", each) for each in planted("x1")]))
    }
    rendered = 0
    for value in values:
        results = made([("rocky9", each) for each in planted(value)])
        assert all(isinstance(result, str | ProvisionerError) for result in results)
        for key, result in enumerate(results):
            if isinstance(result, str):
                rendered += 1
                assert structure(result) == expected[key], (value, key)
    return rendered


def test_s34_hostile_values_open_no_section_and_add_no_command() -> None:
    """A kickstart of the same structure, or a refusal: nothing in between."""
    assert held(HOSTILE) > len(HOSTILE)


@settings(deadline=None, max_examples=3, suppress_health_check=list(HealthCheck))
@example(["0", "-@", "*", "''", '"'])
@given(st.lists(st.text(min_size=1, max_size=30), min_size=2, max_size=3))
def test_s34_no_value_opens_a_section_or_adds_a_command(values: list[str]) -> None:
    held(values)


@settings(deadline=None, max_examples=5, suppress_health_check=list(HealthCheck))
@given(st.lists(st.from_regex(r"[a-z][a-z0-9._-]{0,14}", fullmatch=True), min_size=2, max_size=4, unique=True))
def test_s34_links_of_any_name_give_a_command_each(names: list[str]) -> None:
    bond, *rest = names
    links: list[dict[str, Any]] = [{"name": bond, "kind": "bond", "over": "all", "mode": "active-backup"}]
    links += [{"name": name, "kind": "vlan", "over": bond, "id": 2 + place} for place, name in enumerate(rest)]
    data = context("rocky9", parameters={"links": links})
    (text,) = made([("rocky9", data)])
    network = [line for line in told(whole(str(text), uefi=False)).splitlines() if line.startswith("network ")]
    assert len(network) == 1 + len(names)
    handler = parsed(whole(str(text), uefi=False), "RHEL9")
    assert [each.interfacename or each.device for each in handler.network.network[:-1]] == names

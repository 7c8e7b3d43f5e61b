"""Behind a proxy DHCP server ``${next-server}`` is somebody else's: nothing that a machine boots may lean on it."""

import ast
import re
from pathlib import Path

import pytest
from world import MAC, World

from provisioner.render import bootscripts
from provisioner.services.boot import BootRequest, boot_script, first_script

ROOT = Path(__file__).resolve().parents[2]
_FETCHES = re.compile(r"^\s*(?:chain|kernel|initrd|imgfetch|imgload|imgexec|boot)\s+(.*)$", re.MULTILINE)


def test_no_template_and_no_boot_script_names_the_next_server() -> None:
    texts = {path: path.read_text() for path in (ROOT / "kickstarts").rglob("*") if path.is_file()}
    assert texts
    source = Path(bootscripts.__file__)
    tree = ast.parse(source.read_text())
    docs = {
        ast.get_docstring(node, clean=False)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.Module)
    }
    strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    texts[source] = "\n".join(text for text in strings if text not in docs)
    for path, text in texts.items():
        for word in ("next-server", "proxydhcp/", "${filename}", "${dhcp-server}"):
            assert word not in text, f"{path} leans on {word}"


@pytest.mark.parametrize("platform", ["pcbios", "efi"])
@pytest.mark.parametrize("state", ["unknown", "ready", "armed"])
def test_whatever_an_ipxe_script_fetches_is_a_whole_url(world: World, state: str, platform: str) -> None:
    world.subnet(dhcp="proxy")
    world.distro()
    if state != "unknown":
        world.machine()
    if state == "armed":
        from provisioner.services import arming

        arming.start(world.site, world.actor, "web01")
    request = BootRequest(mac=MAC, source="127.0.2.11", platform=platform, boot_url="http://127.0.0.1:8080")
    scripts = [boot_script(world.site, request).text, first_script(world.site, "127.0.2.11", "http://127.0.0.1:8080")]
    found = 0
    for fetch in (match for script in scripts for match in _FETCHES.findall(script)):
        words = [word for word in fetch.split("||")[0].split() if not word.startswith("--")]
        whole = [word for word in words if word.startswith("http://")]
        assert whole or not words, fetch
        found += len(whole)
    assert found

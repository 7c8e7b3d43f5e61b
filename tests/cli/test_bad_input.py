"""Bad input by command: the code, the place, the next step, the exit code, and nothing is changed."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forced import in_force_without_validation

pytestmark = pytest.mark.slow

WEB02 = ("machine", "add", "web02")
MAC = ("--mac", "52:54:00:00:00:02")


Refused = Callable[..., None]


@pytest.fixture
def refused(contents: Any) -> Refused:
    """Checks that a command is refused in this way, and that nothing is changed by it."""

    def check(served: Any, words: tuple[str, ...], exit_code: int, code: str, said: str, hint: str) -> None:
        before = contents(served)
        done = served.cli(*words, code=exit_code)
        assert done.stderr.startswith(f"error [{code}] "), done.stderr
        assert said in done.stderr
        assert re.search(rf"^  next: .*{re.escape(hint)}", done.stderr, re.MULTILINE), done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
        assert contents(served) == before

    return check


@pytest.mark.parametrize(
    ("words", "exit_code", "code", "said", "hint"),
    [
        ((*WEB02, "--mac", "52:54:00:12:34"), 1, "mac-malformed", "'52:54:00:12:34'", "52:54:00:12:34:56"),
        ((*WEB02, "--mac", "01:00:5e:00:00:01"), 1, "mac-malformed", "group address", "write six"),
        (
            (*WEB02, "--mac", "5254.0012.3456"),
            4,
            "mac-taken",
            "mac: 52:54:00:12:34:56 belongs to machine web01",
            "remove",
        ),
        ((*WEB02, *MAC, "--ip", "127.0.2.11"), 4, "address-taken", "ip: 127.0.2.11 belongs to machine web01", "free"),
        ((*WEB02, *MAC, "--ip", "10.9.9.9"), 1, "address-outside-subnet", "known: lab 127.0.2.0/24", "subnet add"),
        (
            (*WEB02, *MAC, "--ip", "127.0.2.0"),
            1,
            "address-outside-subnet",
            "network address of subnet lab",
            "subnet list",
        ),
        ((*WEB02, *MAC, "--ip", "127.0.2.255"), 1, "address-outside-subnet", "broadcast address of", "subnet list"),
        ((*WEB02, *MAC, "--ip", "127.0.2.1"), 1, "address-outside-subnet", "gateway of subnet lab", "subnet list"),
        ((*WEB02, *MAC, "--ip", "127.0.2.300"), 1, "address-malformed", "'127.0.2.300'", "10.0.2.11"),
        (
            (*WEB02, *MAC, "--profile", "rocky7"),
            1,
            "unknown-reference",
            "profile: there is no profile 'rocky7'",
            "rocky9",
        ),
        (("machine", "add", "web01", *MAC), 4, "name-taken", "'web01'", "another name"),
        (("machine", "add", "web_02", *MAC), 1, "name-malformed", "'web_02' is not a host name", "hyphens"),
        (("machine", "add", "525400000009", *MAC), 1, "name-malformed", "is a MAC address", "web01"),
        (("machine", "add", "web02"), 1, "invalid-input", "mac: a machine needs a MAC address", "--mac"),
        ((*WEB02, *MAC, "--param", "nonsense"), 1, "invalid-input", "--param: 'nonsense'", "--param timezone=UTC"),
        ((*WEB02, *MAC, "--param", "a=[1"), 1, "content-malformed", "--param a:1", ""),
        (("machine", "show", "web"), 3, "not-found", "there is no machine 'web'", "did you mean web01?"),
        (("machine", "show", "525400000099"), 3, "not-found", "525400000099", "machine list"),
        (("build", "show", "web01"), 3, "not-found", "web01 has no build", "build start web01"),
        (("build", "cancel", "web01"), 3, "not-found", "web01 has no build", "build start web01"),
        (
            ("subnet", "add", "lab2", "--cidr", "127.0.2.128/25"),
            4,
            "conflict",
            "overlaps subnet lab",
            "another network",
        ),
        (("subnet", "add", "lab2", "--cidr", "10.0.2.1/24"), 1, "address-malformed", "bits set", "10.0.2.0/24"),
        (("subnet", "remove", "lab", "--yes"), 4, "still-in-use", "has machines: web01", "elsewhere"),
        (("profile", "edit", "linux", "--parent", "rocky9"), 1, "parent-cycle", "linux", "parent"),
        (("profile", "edit", "rocky9", "--parent", "rocky9"), 1, "parent-cycle", "rocky9", "parent"),
        (("profile", "add", "x", "--template", "kickstart/el7.ks.j2"), 1, "unknown-reference", "el7", "el9.ks.j2"),
        (("profile", "edit", "rocky9", "--handoff", "pupet"), 1, "unknown-reference", "pupet", "none"),
        (("profile", "edit", "rocky9", "--distro", "os=roky"), 1, "invalid-input", "'roky'", "rocky"),
        (("distro", "remove", "nothing", "--yes"), 3, "not-found", "distro 'nothing'", "distro list"),
    ],
    ids=lambda value: "-".join(value[-2:]) if isinstance(value, tuple) else "",
)
def test_refusals(
    refused: Refused, ready: Any, words: tuple[str, ...], exit_code: int, code: str, said: str, hint: str
) -> None:
    if "127.0.2.1" in words:
        ready.cli("subnet", "edit", "lab", "--gateway", "127.0.2.1")
    refused(ready, words, exit_code, code, said, hint)


def test_distro_add_of_what_cannot_be_had(refused: Refused, ready: Any, tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinuz"
    shared = ("distro", "add", "rocky-9.7", "--os", "rocky", "--version", "9.7")
    files = ("--kernel", str(kernel), "--initrd")
    refused(ready, (*shared, *files, str(tmp_path / "no")), 1, "media-missing", "initrd: ", "check the path")
    refused(ready, (*shared, *files, "http://127.0.0.1:1/x"), 1, "media-missing", "initrd: ", "check the URL")
    refused(ready, (*shared, *files, "/dev/zero"), 1, "media-missing", "not a regular file", "check the path")
    refused(ready, (*shared, *files, "ftp://host/x"), 1, "invalid-input", "initrd: ", "")
    assert [row["name"] for row in ready.cli_json("distro", "list")] == ["rocky-9.6"]
    assert not list((ready.state / "media").glob(".incoming*"))


def content(directory: Path, name: str, text: str) -> Path:
    """A directory to apply, with a good profile and one file more."""
    for folder in ("profiles", "kickstarts/kickstart"):
        (directory / folder).mkdir(parents=True, exist_ok=True)
    (directory / "profiles/good.yaml").write_text("name: good\nparent: rocky9\n")
    (directory / name).write_text(text)
    return directory


@pytest.mark.parametrize(
    ("name", "text", "exit_code", "code", "said"),
    [
        ("profiles/bad.yaml", "name: bad\nparameters: {a: [1\n", 1, "content-malformed", "profiles/bad.yaml:3"),
        ("profiles/bad.yaml", "name: bad\nname: bad\n", 1, "content-malformed", "profiles/bad.yaml:2"),
        ("profiles/bad.yaml", "name: bad\nparnet: linux\n", 1, "content-malformed", "profiles/bad.yaml"),
        ("profiles/bad.yaml", "name: bad\nparent: [x]\n", 1, "content-malformed", "profiles/bad.yaml"),
        ("profiles/bad.yaml", "name: bad\nparent: nobody\n", 1, "unknown-reference", "nobody"),
        ("profiles/linux.yaml", "name: linux\nparent: good\n", 1, "parent-cycle", "linux"),
        ("profiles/bad.yaml", "- just\n- a list\n", 1, "content-malformed", "profiles/bad.yaml"),
        ("profiles/bad.yaml", "name: !!python/object:os.system x\n", 1, "content-malformed", "profiles/bad.yaml:1"),
    ],
)
def test_r24_apply_is_whole_or_nothing(
    refused: Refused, ready: Any, tmp_path: Path, name: str, text: str, exit_code: int, code: str, said: str
) -> None:
    directory = content(tmp_path / "site", name, text)
    for words in (("apply", str(directory), "--dry-run"), ("apply", str(directory))):
        refused(ready, words, exit_code, code, said, "")
    (directory / name).unlink()
    assert "add   profile good" in ready.cli("apply", str(directory)).stdout


BROKEN = {
    "syntax": ("text\n{% if %}\n", "template-error", ":2"),
    "unclosed": ("text\n\n{% if true %}\n", "template-error", ":"),
    "undefined": ("text\nlang {{ parameters.nothing_gives_this }}\n", "parameter-missing", ":2"),
    "escape": ("text\n{{ ''.__class__.__mro__ }}\n", "template-error", ":2"),
    "include": ("text\n{% include 'snippets/none.j2' %}\n", "template-error", ":2"),
    "kickstart": ("text\nnonsense --option\n", "answer-invalid", ":2: "),
    "endless": ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "render-limit", ""),
}


@pytest.mark.parametrize("what", BROKEN)
def test_s38_r24_a_broken_template_is_a_draft_and_never_an_installer(
    refused: Refused, ready: Any, tmp_path: Path, what: str
) -> None:
    """Its author is told where at once; machines get the last good text. If it got in all the same, arming fails."""
    text, code, place = BROKEN[what]
    file = tmp_path / "x.ks.j2"
    file.write_text("text\n")
    ready.cli("template", "add", "kickstart/x.ks.j2", "--file", str(file))
    ready.cli("profile", "add", "x", "--parent", "rocky9", "--template", "kickstart/x.ks.j2")
    ready.cli("machine", "edit", "web01", "--profile", "x")
    before = ready.cli("render", "web01").stdout
    file.write_text(text)
    saved = ready.cli("template", "edit", "kickstart/x.ks.j2", "--file", str(file), code=1)
    assert f"problem: kickstart/x.ks.j2{place}" in saved.stderr
    assert "next: " in saved.stderr
    assert "kept as a draft; machines still get revision" in saved.stderr
    assert ready.cli("render", "web01").stdout == before
    site = ready.site
    in_force_without_validation(site, "kickstart/x.ks.j2", text)
    site.engine.dispose()
    refused(ready, ("build", "start", "web01"), 1, code, f"kickstart/x.ks.j2{place}", "")
    assert ready.cli_json("build", "list") == []
    assert ready.cli_json("boot", "explain", "web01")["decision"] == "local"


def test_r24_a_missing_kernel_is_an_error_at_arming(refused: Refused, ready: Any) -> None:
    digest = ready.cli_json("distro", "show", "rocky-9.6")["kernel_sha256"]
    file = ready.state / "media/sha256" / digest[:2] / digest
    file.rename(ready.state / "away")
    refused(ready, ("build", "start", "web01"), 1, "media-missing", str(file), "add the distro or image again")
    assert ready.cli_json("boot", "explain", "web01")["decision"] == "local"
    (ready.state / "away").rename(file)
    assert "armed" in ready.cli("build", "start", "web01").stdout


def test_what_a_build_needs_and_does_not_have(refused: Refused, ready: Any) -> None:
    ready.cli("machine", "edit", "web01", "--profile", "debian12")
    refused(ready, ("build", "start", "web01"), 4, "build-not-possible", "no distro fits", "provisioner distro add")
    ready.cli("machine", "edit", "web01", "--profile", "rocky9", "--protected")
    refused(ready, ("build", "start", "web01"), 4, "protected", "web01 is protected", "--no-protected")
    refused(ready, ("machine", "remove", "web01", "--yes"), 4, "protected", "web01", "--no-protected")
    ready.cli("machine", "edit", "web01", "--no-protected", "--retired")
    refused(ready, ("build", "start", "web01"), 4, "illegal-transition", "web01 is retired", "--no-retired")
    ready.cli("machine", "edit", "web01", "--no-retired")
    ready.cli("machine", "add", "bare", "--mac", "52:54:00:00:00:03", "--ip", "127.0.2.13")
    refused(ready, ("build", "start", "bare"), 4, "build-not-possible", "profile", "provisioner machine edit bare")
    ready.cli("build", "start", "web01")
    refused(ready, ("build", "start", "web01"), 4, "illegal-transition", "already has build 1", "build cancel web01")
    refused(ready, ("machine", "remove", "web01", "--yes"), 4, "still-in-use", "being built", "build cancel web01")
    refused(ready, ("build", "continue", "web01"), 4, "illegal-transition", "armed", "build")
    refused(ready, ("build", "retry-handoff", "web01"), 4, "illegal-transition", "handoff", "build show web01")

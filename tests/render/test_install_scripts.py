"""The scripts that answer files share, inside a kickstart, run by real shells against a real HTTP server."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from provisioner.errors import ProvisionerError
from provisioner.render.confined import Job, render
from tests.render.context import URLS, context, profile, sources
from tests.render.kickstarts import server as machine
from tests.render.recorder import Asked, Recorder, recorder

pytestmark = pytest.mark.slow

HASH = "$6$salt$hash./XYZ"
SHELLS = {"bash": ["bash"], "dash": ["dash"], "busybox": ["busybox", "sh"]}
FAKES = ("sleep", "chroot", "restorecon")
FUNCTIONS = ("sleep", "chroot", "env")
REAL = ("cat", "tr", "sed", "awk", "mktemp", "rm", "tail", "sort", "readlink", "mkdir", "chmod", "ln", "cp", "mv",
        "basename", "env", "head", "uname", "dd", "grep", "cut")  # fmt: skip
FAKE = '#!/bin/sh\nprintf "%s\\n" "$(basename "$0") $*" >>"$FAKES/log"\n'


class Installer:
    """Runs one script of an answer file where nothing real can be touched: fake sleep and chroot."""

    def __init__(self, place: Path, shell: str, client: str) -> None:
        self.place, self.shell = place, SHELLS[shell]
        self.tools = place / "bin"
        self.tools.mkdir()
        for name in FAKES:
            (self.tools / name).write_text(FAKE)
            (self.tools / name).chmod(0o755)
        for name in [*REAL, client]:
            (self.tools / name).symlink_to(str(shutil.which(name)))
        # Debian's static busybox prefers its own applets to PATH; a function comes before both.
        self.functions = "".join(f'{name}() {{ {self.tools}/{name} "$@"; }}\n' for name in [*FUNCTIONS, client])

    def run(self, script: str, server: Recorder, variables: Mapping[str, str] | None = None) -> "Ran":
        path = self.place / "script.sh"
        path.write_text(self.functions + filled(script, server.url).replace("/tmp/provisioner", f"{self.place}/tmp"))
        done = subprocess.run(
            [str(shutil.which(self.shell[0])), *self.shell[1:], str(path)],
            env={"PATH": str(self.tools), "FAKES": str(self.place), **(variables or {})},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        log = self.place / "log"
        return Ran(done.returncode, done.stdout + done.stderr, log.read_text() if log.exists() else "")


class Ran:
    """How a script ended, what it said, and which fakes it called."""

    def __init__(self, status: int, output: str, fakes: str) -> None:
        self.status, self.output, self.fakes = status, output, fakes


def filled(text: str, url: str) -> str:
    return re.sub(r"@@provisioner:(\w+)@@", lambda found: url if found[1] == "boot_url" else found[1], text)


def answer_of(name: str, **changes: Any) -> str:
    (text,) = render([Job(profile(name)["template"], context(name, **changes))], sources())
    assert isinstance(text, str), text
    return text


def kickstart_script(section: str, **changes: Any) -> str:
    text = answer_of("rocky9", **changes)
    found = re.findall(rf"(?ms)^{section}(?: [^\n]*)?\n(.*?)^%end$", text)
    return str(found[-1])


def all_well(asked: Asked, before: int) -> tuple[int, bytes]:
    """A server to which everything is fine."""
    if asked.path.endswith("/secret/root_password"):
        return 200, HASH.encode()
    return 200, b"#!/bin/sh\ntrue\n" if asked.path.endswith("/handoff") else b"ok"


@pytest.fixture(params=[("bash", "curl"), ("dash", "wget"), ("busybox", "wget")], ids="-".join)
def installer(request: pytest.FixtureRequest, tmp_path: Path) -> Installer:
    """Anaconda has bash and curl, Ubuntu dash, Debian's installer busybox and GNU wget."""
    (tmp_path / "tmp").mkdir()
    return Installer(tmp_path, *request.param)


def test_the_early_stage_reports_unwraps_and_tells_the_disk(installer: Installer) -> None:
    with recorder(all_well) as server:
        ran = installer.run(kickstart_script("%pre"), server, machine(uefi=False).build(installer.place))
    assert ran.status == 0, ran.output
    assert server.steps() == ["installer", "disk"]
    (secret,) = [each for each in server.asked if "/secret/" in each.path]
    assert re.fullmatch(r"nonce=[0-9a-f-]{36}", secret.body.decode())
    assert secret.path == "/build/answer_token/secret/root_password"
    assert HASH not in ran.output
    tmp = installer.place / "tmp"
    assert (tmp / "root.ks").read_text() == f"rootpw --iscrypted '{HASH}'\n"
    assert (tmp / "root.ks").stat().st_mode & 0o777 == 0o600
    told = server.asked[-1].form["message"]
    assert told == "installing to /dev/sdb, the smallest fixed disk of at least 8192 MiB"
    assert (tmp / "storage.ks").read_text().startswith("ignoredisk --only-use=sdb\n")


def test_r01_without_an_acknowledged_disk_step_nothing_goes_on(installer: Installer) -> None:
    """The guard against a second wipe rests on the server knowing of the first."""

    def refuses_disk(asked: Asked, before: int) -> tuple[int, bytes]:
        if asked.path.endswith("/event") and asked.form["step"] == "disk":
            return 503, b""
        return all_well(asked, before)

    with recorder(refuses_disk) as server:
        ran = installer.run(kickstart_script("%pre"), server, machine(uefi=False).build(installer.place))
    assert ran.status == 1
    assert server.steps() == ["installer", *["disk"] * 8, "failed"]
    assert not (installer.place / "tmp/storage.ks").exists()


@pytest.mark.parametrize("answer", [(410, b""), (200, b""), (200, b"x'; reboot"), (200, b"two\nlines")])
def test_s23_a_secret_that_is_not_to_be_had_stops_it(installer: Installer, answer: tuple[int, bytes]) -> None:
    def refuses(asked: Asked, before: int) -> tuple[int, bytes]:
        return answer if "/secret/" in asked.path else all_well(asked, before)

    with recorder(refuses) as server:
        ran = installer.run(kickstart_script("%pre"), server, machine(uefi=False).build(installer.place))
    assert ran.status == 1
    assert server.steps() == ["installer", "failed"]
    nonces = {each.body for each in server.asked if "/secret/" in each.path}
    assert len(nonces) == 1
    assert not (installer.place / "tmp/root.ks").exists()


def test_r01_built_is_repeated_until_it_is_acknowledged(installer: Installer) -> None:
    """And the handoff script and its unit are in the new system by then."""

    def busy(asked: Asked, before: int) -> tuple[int, bytes]:
        # The first of its reports says that the packages are installed.
        return (503, b"") if asked.path.endswith("/event") and 1 <= before < 5 else all_well(asked, before)

    root = installer.place / "target"
    (root / "root").mkdir(parents=True)
    (root / "etc").mkdir()
    with recorder(busy) as server:
        ran = installer.run(kickstart_script("%post"), server, {"provisioner_root": str(root)})
    assert ran.status == 0, ran.output
    assert server.steps() == ["configure", *["built"] * 5]
    handoff = root / "etc/provisioner/handoff.sh"
    assert handoff.read_text() == "#!/bin/sh\ntrue\n"
    assert handoff.stat().st_mode & 0o777 == 0o700
    assert (root / "etc/systemd/system/multi-user.target.wants/provisioner-handoff.service").is_symlink()
    pauses = [int(line.split()[1]) for line in ran.fakes.splitlines() if line.startswith("sleep")]
    assert pauses == [2, 4, 8, 16]


def test_built_is_given_up_after_half_an_hour(installer: Installer) -> None:
    """A machine that nobody acknowledges reboots in the end: the guard halts it then."""

    def deaf(asked: Asked, before: int) -> tuple[int, bytes]:
        return (503, b"") if asked.path.endswith("/event") else all_well(asked, before)

    root = installer.place / "target"
    (root / "etc").mkdir(parents=True)
    script = kickstart_script("%post", handoff={"tool": "none"}).replace("/mnt/sysroot", str(root))
    with recorder(deaf) as server:
        ran = installer.run(script, server)
    pauses = [int(line.split()[1]) for line in ran.fakes.splitlines() if line.startswith("sleep")]
    assert 25 * 60 <= sum(pauses) <= 35 * 60
    assert max(pauses) == 64
    assert "did not acknowledge" in ran.output


def test_the_secrets_of_the_handoff_are_in_the_new_system_for_root_alone(installer: Installer) -> None:
    """Each is asked for once, by name; of several lines; and the variant of every family is this one snippet."""

    def gives(asked: Asked, before: int) -> tuple[int, bytes]:
        return (200, b"two\nlines") if "/secret/" in asked.path else all_well(asked, before)

    root = installer.place / "target"
    (root / "etc").mkdir(parents=True)
    told = {"tool": "pretend", "secrets": ["a-key", "b-key"]}
    with recorder(gives) as server:
        ran = installer.run(kickstart_script("%post", handoff=told).replace("/mnt/sysroot", str(root)), server)
    assert ran.status == 0, ran.output
    names = [each.path.rpartition("/")[2] for each in server.asked if "/secret/" in each.path]
    assert names == ["a-key", "b-key"]
    directory = root / "etc/provisioner/secrets"
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {each.name: each.read_text() for each in directory.iterdir()} == dict.fromkeys(names, "two\nlines\n")
    assert {each.stat().st_mode & 0o777 for each in directory.iterdir()} == {0o600}
    assert "lines" not in ran.output


def test_a_secret_of_the_handoff_that_is_refused_stops_it(installer: Installer) -> None:
    def refuses(asked: Asked, before: int) -> tuple[int, bytes]:
        return (410, b"") if asked.path.endswith("/secret/b-key") else all_well(asked, before)

    root = installer.place / "target"
    (root / "etc").mkdir(parents=True)
    told = {"tool": "pretend", "secrets": ["a-key", "b-key"]}
    with recorder(refuses) as server:
        ran = installer.run(kickstart_script("%post", handoff=told).replace("/mnt/sysroot", str(root)), server)
    assert ran.status == 1
    assert server.steps() == ["configure", "failed"]
    assert "b-key" in server.asked[-1].form["message"]


@pytest.mark.parametrize("name", ["rocky9", "debian12", "ubuntu2404", "sles15"])
def test_every_family_takes_the_secrets_of_the_handoff(name: str) -> None:
    files = [profile(name)["template"]]
    given = context(name, handoff={"tool": "pretend", "secrets": ["a-key"]})
    (text,) = render([Job(each, given) for each in files], sources())
    assert isinstance(text, str), text
    assert re.search(r"for provisioner_name in \W*a-key\W*; do", text)


@pytest.mark.parametrize("name", ["fcos", "flatcar"])
def test_ignition_refuses_a_tool_with_secrets(name: str) -> None:
    """What a config of Ignition holds outlives the installation."""
    given = context(name, handoff={"tool": "pretend", "secrets": ["a-key"]})
    (error,) = render([Job(profile(name)["template"], given)], sources())
    assert isinstance(error, ProvisionerError)
    assert "handoff: pretend" in error.message


def test_a_handoff_that_cannot_be_fetched_is_a_failure(installer: Installer) -> None:
    root = installer.place / "target"
    (root / "etc").mkdir(parents=True)

    def gone(asked: Asked, before: int) -> tuple[int, bytes]:
        return (403, b"") if asked.path.endswith("/handoff") else all_well(asked, before)

    with recorder(gone) as server:
        ran = installer.run(kickstart_script("%post").replace("/mnt/sysroot", str(root)), server)
    assert ran.status == 1
    assert server.steps() == ["configure", "failed"]


def test_r13_a_failed_installation_sends_its_log(installer: Installer) -> None:
    """The end of it, as an inert form value, whatever is in it."""
    log = installer.place / "tmp-anaconda.log"
    log.write_bytes(b"first\n" + b"x" * 100_000 + b"\n100% done & a=b + c; \x1b[31m\xff \xc3\xa9\nlast line\n")
    script = kickstart_script("%onerror").replace("/tmp/anaconda.log", str(log))
    with recorder(all_well) as server:
        ran = installer.run(script, server)
    assert ran.status == 0, ran.output
    (event,) = server.asked
    assert event.form["step"] == "failed"
    text = event.form["log"]
    assert text.endswith("100% done & a=b + c; [31m\ufffd é\nlast line")
    assert "first" not in text
    assert 65_000 < len(text) <= 65_536


def test_users_and_keys(tmp_path: Path) -> None:
    """Run with fakes for what changes the system; the keys land in files nobody else reads."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("useradd", "chown"):
        (tools / name).write_text(FAKE)
    (tools / "getent").write_text(f'#!/bin/sh\necho "$2:x:0:0::{tmp_path}/home/$2:/bin/sh"\n')
    (tools / "id").write_text('#!/bin/sh\n[ "$1" = -g ] && echo 0\n')
    (tools / "restorecon").write_text("#!/bin/sh\n")
    for path in tools.iterdir():
        path.chmod(0o755)
    key = "ssh-ed25519 AAAA it's $HOME `id`"
    parameters = {
        "ssh_keys": [key],
        "users": [{"name": "ops", "ssh_keys": ["k1", "k2"], "sudo": True}, {"name": "dev"}],
    }
    (script, _) = re.findall(r"(?ms)^%post[^\n]*\n(.*?)^%end$", answer_of("rocky9", parameters=parameters))
    script = script.replace("/etc/sudoers.d", f"{tmp_path}/sudoers")
    for shell in (["bash"], ["dash"]):  # the new system's, not the installer's
        shutil.rmtree(tmp_path / "home", ignore_errors=True)
        shutil.rmtree(tmp_path / "sudoers", ignore_errors=True)
        environment = {"PATH": f"{tools}:/usr/bin:/bin", "FAKES": str(tmp_path)}
        subprocess.run([*shell, "-e", "-c", script], env=environment, check=True, timeout=60)
        assert (tmp_path / "home/root/.ssh/authorized_keys").read_text() == f"{key}\n"
        assert (tmp_path / "home/ops/.ssh/authorized_keys").read_text() == "k1\nk2\n"
        assert (tmp_path / "home/ops/.ssh/authorized_keys").stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "sudoers/provisioner-1").read_text() == "ops ALL=(ALL) NOPASSWD: ALL\n"
        assert not (tmp_path / "sudoers/provisioner-2").exists()
    assert (tmp_path / "log").read_text().count("useradd --create-home --shell /bin/bash dev") == 2


def test_urls_of_the_context_are_all_that_scripts_talk_to() -> None:
    """Every address in a rendered answer file is a marker, a value of the profile, or a local path."""
    text = answer_of("rocky9")
    assert set(re.findall(r"https?://[^\s'\"]+", text)) == set()
    assert set(re.findall(r"@@provisioner:boot_url@@[^\s'\"]*", text)) <= set(URLS.values())

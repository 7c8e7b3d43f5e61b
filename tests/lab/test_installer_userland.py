"""The shipped preseed, read and run by the programs of Debian's real installer, against a server that misbehaves."""

import os
import pty
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from labkit.installer import initrd_of, unpack_root
from labkit.processes import LabError

from provisioner.core.tokens import Purpose, new_uid, token
from provisioner.render.confined import Job, render
from tests.conftest import wait_for
from tests.lab.userland import DISK, Userland, environment, userland
from tests.render.context import context, profile, sources
from tests.render.recorder import LOST, Answer, Asked, Recorder, recorder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="a chroot needs root"),
    pytest.mark.skipif(shutil.which("apt-get") is None, reason="the installer comes from Debian's archive"),
    pytest.mark.skipif(shutil.which("busybox") is None, reason="needs busybox-static"),
]

HASH = "$6$saltsalt$canaryInACoalMine./XYZ"
PASSPHRASE = "correct horse's battery $taple"
RELEASES = ("/debian/dists/bookworm/Release", "/debian/dists/trixie/Release")
UID = new_uid()
TOKENS = {f"{purpose}_token": token(b"k" * 32, UID, purpose) for purpose in Purpose}
ANSWER, EVENT = TOKENS["answer_token"], TOKENS["event_token"]
EARLY = "sh /var/lib/dpkg/info/network-preseed.postinst"
DISKS = "preseed_command partman/early_command"
LATE = "\n".join(f"/usr/lib/finish-install.d/{hook}" for hook in ("07preseed", "94save-logs", "94zz-provisioner"))
# partman runs the program for the passphrase with these arguments.
KEY = f"debconf-get partman-auto/disk >/tmp/disk\nblockdev-keygen {DISK} passphrase /tmp/key"
ALL = f"set -e\n{EARLY}\n{DISKS}\n{KEY}\n{LATE}"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack_root(initrd_of("12"), tmp_path_factory.mktemp("pristine"))


@pytest.fixture
def installer(pristine: Path, tmp_path: Path) -> Iterator[Userland]:
    with userland(pristine, tmp_path, str(shutil.which("busybox"))) as here:
        yield here


@pytest.fixture(scope="module")
def pristine13(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return unpack_root(initrd_of("13"), tmp_path_factory.mktemp("pristine"))
    except LabError as error:
        pytest.skip(f"Debian 13's installer is not to be had: {error}")


@pytest.fixture
def installer13(pristine13: Path, tmp_path: Path) -> Iterator[Userland]:
    with userland(pristine13, tmp_path, str(shutil.which("busybox"))) as here:
        yield here


def preseed(url: str, name: str = "debian12", early: str = "") -> str:
    """The shipped preseed for a machine with a root password and an encrypted disk, its markers filled.

    ``early`` is what a site's own template adds to the early script.
    """
    data = context(name, parameters={"disk": DISK, "encrypt": True}, secrets=["root_password", "disk_passphrase"])
    data["distro"] = {**data["distro"], "tree": f"{url}/debian"}
    own = f'{{% extends "{profile(name)["template"]}" %}}{{% block early %}}{early}\n{{% endblock %}}'
    (text,) = render([Job("preseed/own.cfg.j2", data)], sources() | {"preseed/own.cfg.j2": own})
    assert isinstance(text, str), text
    values = TOKENS | {"boot_url": url, "media_url": url}
    return re.sub(r"@@provisioner:(\w+)@@", lambda found: values[found[1]], text)


def well(asked: Asked, before: int) -> tuple[int, bytes]:
    """A server to which all is fine."""
    if asked.path == f"/build/{ANSWER}/answer":
        return 200, b"PRESEED"
    if asked.path == f"/build/{ANSWER}/secret/root_password" and asked.method == "POST":
        return 200, HASH.encode()
    if asked.path == f"/build/{ANSWER}/secret/disk_passphrase" and asked.method == "POST":
        return 200, PASSPHRASE.encode()
    if asked.path == f"/build/{ANSWER}/handoff":
        return 200, b"#!/bin/sh\ntrue\n"
    if asked.path in {f"/build/{EVENT}/event", *RELEASES}:
        return 200, b"ok"
    return 404, b""


def play(
    installer: Userland,
    answer: Answer = well,
    steps: str = ALL,
    until: Callable[[], bool] = lambda: False,
    terminal: int | None = None,
    name: str = "debian12",
    early: str = "",
) -> Recorder:
    """Run the steps until they end, a script parks the installer, or ``until``; the server's notes."""

    def filled(asked: Asked, before: int) -> tuple[int, bytes]:
        status, body = answer(asked, before)
        return status, preseed(server.url, name, early).encode() if body == b"PRESEED" else body

    with recorder(filled) as server:
        installer.start(steps, f"{server.url}/build/{ANSWER}/answer", terminal)
        wait_for(
            lambda: installer.process.poll() is not None or installer.parked or until(),
            120,
            f"the installer's steps, which said: {installer.read('/tmp/drive.log')}",
        )
    return server


def secrets(server: Recorder) -> list[Asked]:
    return [asked for asked in server.asked if "/secret/" in asked.path]


def events(server: Recorder, step: str) -> list[Asked]:
    return [asked for asked in server.asked if asked.path.endswith("/event") and asked.form["step"] == step]


@pytest.mark.parametrize(("name", "fixture"), [("debian12", "installer"), ("debian13", "installer13")])
def test_the_whole_preseed_in_order_and_what_it_leaves(name: str, fixture: str, request: pytest.FixtureRequest) -> None:
    installer: Userland = request.getfixturevalue(fixture)
    server = play(installer, name=name)
    assert installer.ended, installer.read("/tmp/drive.log")
    assert server.steps() == ["installer", "disk", "built"]
    assert installer.read("/tmp/disk").strip() == DISK
    assert [asked.method for asked in secrets(server)] == ["POST", "POST"]
    # Every question of the preseed got its answer: none was lost between the comments that hold the scripts.
    answered = installer.read("/var/lib/preseed/log").splitlines()
    asked = [line for line in preseed("http://x", name).splitlines() if line and not line.startswith("#")]
    assert len(answered) == len(asked)
    hook = installer.read("/target/etc/provisioner/handoff.sh")
    assert hook == "#!/bin/sh\ntrue\n"
    assert installer.read("/target/etc/network/interfaces").endswith("auto ens4\niface ens4 inet dhcp\n")
    assert_no_traces(installer, server)


def assert_no_traces(installer: Userland, server: Recorder) -> None:
    """Nothing that opens or decrypts anything stays where the installer's logs and answers go."""
    nonces = {asked.form["nonce"] for asked in secrets(server)}
    for secret in (ANSWER, EVENT, HASH, PASSPHRASE, *nonces):
        assert installer.holding(secret, "/var/log") == set()
        assert installer.holding(secret, "/var/lib/cdebconf") == set()
        assert installer.holding(secret, "/target") <= {"/target/called-chpasswd.input"}
    assert installer.holding(PASSPHRASE) == {"/tmp/key"}, "the file that cryptsetup reads, in memory"
    assert not (installer.root / "tmp/provisioner").exists()
    # What was looked through is what the installer leaves of every installation.
    assert "provisioner :: " in installer.read("/target/var/log/installer/cdebconf/questions.dat")


def test_s23_the_hash_goes_to_the_new_system_by_standard_input_and_nowhere_else(installer: Userland) -> None:
    play(installer)
    assert installer.ended, installer.read("/tmp/drive.log")
    assert installer.holding(HASH) == {"/target/called-chpasswd.input"}
    assert installer.read("/target/called-chpasswd.input") == f"root:{HASH}\n"
    assert installer.read("/target/called-chpasswd").splitlines()[0] == "--encrypted"


def test_s28_no_token_reaches_the_disk_and_none_stays_in_the_logs(installer: Userland) -> None:
    server = play(installer)
    assert installer.ended, installer.read("/tmp/drive.log")
    assert_no_traces(installer, server)
    assert "/build/..." in installer.read("/target/var/log/installer/syslog")
    assert "/build/..." in installer.read("/target/var/log/installer/hardware-summary")
    assert "preseed/url" in installer.read("/target/var/log/installer/cdebconf/questions.dat")


def test_programs_of_the_new_system_do_not_see_the_installers_debconf(installer: Userland) -> None:
    """They would wait for it for ever."""
    play(installer)
    for program in ("chpasswd", "sh"):
        called = installer.read(f"/target/called-{program}")
        assert set(environment(called)) <= {"PATH", "HOME", "LC_ALL", "DEBIAN_FRONTEND", "PWD", "SHLVL", "_"}, called
        assert environment(called)["DEBIAN_FRONTEND"] == "noninteractive"
        assert "descriptor 3 is open" not in called


def test_s23_a_lost_reply_is_asked_for_again_with_the_same_nonce(installer: Userland) -> None:
    def loses(asked: Asked, before: int) -> tuple[int, bytes]:
        if asked.path.endswith("/secret/root_password") and before < 2:
            return (503 if before else LOST), b""
        return well(asked, before)

    server = play(installer, loses)
    assert installer.ended, installer.read("/tmp/drive.log")
    nonces = [asked.form["nonce"] for asked in secrets(server) if asked.path.endswith("/root_password")]
    assert len(nonces) == 3 and len(set(nonces)) == 1
    assert installer.read("/target/called-chpasswd.input") == f"root:{HASH}\n"


def test_the_second_look_at_the_answer_file_survives_a_busy_server(installer: Userland) -> None:
    """early_command fetches the file again, to take the scripts out of it."""

    def busy(asked: Asked, before: int) -> tuple[int, bytes]:
        return (503, b"") if asked.path.endswith("/answer") and before in {1, 2} else well(asked, before)

    server = play(installer, busy)
    assert installer.ended, installer.read("/tmp/drive.log")
    assert server.steps() == ["installer", "disk", "built"]
    assert sum(asked.path.endswith("/answer") for asked in server.asked) == 4


def test_r01_built_is_repeated_until_it_is_acknowledged_before_the_installer_goes_on(installer: Userland) -> None:
    def busy(asked: Asked, before: int) -> tuple[int, bytes]:
        if asked.path.endswith("/event") and asked.form["step"] == "built":
            refused = len(events_so_far) < 4
            events_so_far.append(asked)
            return (503, b"") if refused else (200, b"ok")
        return well(asked, before)

    events_so_far: list[Asked] = []
    server = play(installer, busy)
    assert installer.ended, installer.read("/tmp/drive.log")
    assert len(events(server, "built")) == 5
    first, *rest = [pause for pause in installer.pauses() if pause != "5"]
    assert first == "2", "disk.sh looks twice"
    assert rest == ["2", "4", "8", "16"]


def test_s23_a_refused_secret_stops_the_installation_before_the_disk(installer: Userland) -> None:
    def refuses(asked: Asked, before: int) -> tuple[int, bytes]:
        return (410, b"") if "/secret/" in asked.path else well(asked, before)

    server = play(installer, refuses)
    assert installer.parked and not installer.ended
    assert server.steps() == ["installer", "failed"]
    (failed,) = events(server, "failed")
    assert "root password" in failed.form["message"]


def test_s28_the_log_of_a_failure_comes_without_tokens(installer: Userland) -> None:
    """The installer logs the preseed's URL and early_command: the end of that log goes to the server."""

    def no_mirror(asked: Asked, before: int) -> tuple[int, bytes]:
        return (404, b"") if asked.path.startswith("/debian/") else well(asked, before)

    server = play(installer, no_mirror)
    (failed,) = events(server, "failed")
    assert "successfully loaded preseed file from" in failed.form["log"]
    assert "/build/..." in failed.form["log"]
    assert ANSWER not in failed.form["log"] and EVENT not in failed.form["log"]


def test_r39_a_missing_mirror_is_noticed_before_the_disk_is(installer: Userland) -> None:
    def no_mirror(asked: Asked, before: int) -> tuple[int, bytes]:
        return (404, b"") if asked.path.startswith("/debian/") else well(asked, before)

    server = play(installer, no_mirror)
    assert installer.parked and not installer.ended
    assert server.steps() == ["installer", "failed"]
    assert secrets(server) == []
    assert "/debian does not give dists/bookworm/Release" in events(server, "failed")[0].form["message"]


def test_r13_a_script_that_breaks_is_reported_with_the_log_and_parks_the_installer(installer: Userland) -> None:
    """A site's own addition; the installer would show a dialog, and then go on to the disks."""
    server = play(installer, early="exit 3")
    assert installer.parked and not installer.ended
    assert server.steps() == ["installer", "failed"]
    (failed,) = events(server, "failed")
    assert failed.form["message"] == "the script early.sh ended with an error"
    assert "successfully loaded preseed file from" in failed.form["log"]
    assert ANSWER not in failed.form["log"] and EVENT not in failed.form["log"]


def test_r13_scripts_that_cannot_be_fetched_are_reported(installer: Userland) -> None:
    def gone(asked: Asked, before: int) -> tuple[int, bytes]:
        return (404, b"") if asked.path.endswith("/answer") and before else well(asked, before)

    server = play(installer, gone)
    assert installer.parked and not installer.ended
    assert [(asked.form["step"], asked.form["message"]) for asked in server.asked if asked.path.endswith("/event")] == [
        ("failed", "the scripts of the preseed could not be fetched")
    ]


def test_r01_a_disk_report_that_nobody_acknowledges_parks_the_installer(installer: Userland) -> None:
    """A command of a preseed that fails only shows a dialog, and then the installer would partition."""

    def deaf(asked: Asked, before: int) -> tuple[int, bytes]:
        return (503, b"") if asked.path.endswith("/event") and asked.form["step"] == "disk" else well(asked, before)

    server = play(installer, deaf)
    assert installer.parked and not installer.ended
    assert server.steps() == ["installer", *["disk"] * 8, "failed"]
    assert installer.read("/tmp/disk") == ""


def test_r41_a_step_of_the_installer_that_fails_is_reported_with_the_log(installer: Userland) -> None:
    """It would show a dialog and wait. The words are main-menu's own."""
    said = "main-menu[321]"
    steps = "\n".join(
        [
            EARLY,
            f"logger -t '{said}' \"INFO: Menu item 'bootstrap-base' selected\"",
            "while [ ! -e /tmp/go ]; do busybox sleep 1; done",
            f"logger -t '{said}' \"WARNING **: Configuring 'bootstrap-base' failed with error code 1\"",
            f"logger -t '{said}' \"WARNING **: Menu item 'bootstrap-base' failed.\"",
            "busybox sleep 60",
        ]
    )
    noted: list[str] = []

    def follows(asked: Asked, before: int) -> tuple[int, bytes]:
        if asked.path.endswith("/event"):
            noted.append(f"{asked.form['step']}: {asked.form['message']}")
            if asked.form["message"] == "bootstrap-base":
                installer.write("/tmp/go", "")
        return well(asked, before)

    server = play(installer, follows, steps, lambda: any(line.startswith("failed") for line in noted))
    assert noted[-2:] == [
        "installer: bootstrap-base",
        "failed: the installer: Configuring 'bootstrap-base' failed with error code 1",
    ]
    (failed,) = events(server, "failed")
    assert "Configuring 'bootstrap-base' failed" in failed.form["log"]


def test_r41_a_question_that_nobody_answers_is_reported(installer: Userland) -> None:
    """An unattended installer that asks after all waits for ever, and most of its failures are such questions."""
    ours, theirs = pty.openpty()
    ask = "db_subst preseed/command_failed CODE 1\ndb_input critical preseed/command_failed\ndb_go"
    noted: list[str] = []

    def notes(asked: Asked, before: int) -> tuple[int, bytes]:
        if asked.path.endswith("/event"):
            noted.append(f"{asked.form['step']}: {asked.form['message']}")
        return well(asked, before)

    try:
        play(installer, notes, f"{EARLY}\n{ask}", lambda: len(noted) > 1, theirs)
    finally:
        os.close(ours)
        os.close(theirs)
    assert noted == [
        "installer: Debian's installer is running",
        "question: the installer waits for an answer at the machine's console",
    ]

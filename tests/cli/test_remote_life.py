"""The whole of an administrator's work, once by commands on the server and once by commands that ask its API."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Served
from doors import Door, local, remote
from world import World

pytestmark = pytest.mark.slow

PASSWORD = "correct horse battery staple"
WORK: tuple[tuple[str, str, int], ...] = (
    # arguments, standard input, exit code
    ("subnet add two --cidr 127.0.3.0/24 --gateway 127.0.3.1 --range static:127.0.3.10-127.0.3.90", "", 0),
    ("subnet edit two --dhcp external --dns 127.0.3.1", "", 0),
    ("subnet free two --count 2 --hold", "", 0),
    ("subnet rename two zwei", "", 0),
    ("template add kickstart/x.ks.j2 --file -", "text\n", 0),
    ("template edit kickstart/x.ks.j2 --file -", "text --non-interactive\n", 0),
    ("template rename kickstart/x.ks.j2 kickstart/y.ks.j2", "", 0),
    ("template remove kickstart/y.ks.j2 --yes", "", 0),
    ("profile add web --parent rocky9 --param packages=[nginx] --description servers", "", 0),
    ("profile edit web --param timezone=Europe/Berlin", "", 0),
    ("profile rename web www", "", 0),
    ("machine add web01 --mac 52-54-00-12-34-56 --ip 127.0.2.11 --profile www --tag rack-12", "", 0),
    ("machine add db01 --mac 5254.0012.3457 --ip next:zwei -o json", "", 0),
    ("machine add n[01-03] --ip 127.0.3.20+ --mac 52:54:00:00:01:00+", "", 0),
    ("machine add web01 --mac 52:54:00:00:00:09", "", 4),
    ("machine edit db01 --profile www --add-interface 52:54:00:00:00:07,127.0.2.70 --tag db", "", 0),
    ("machine edit db01 --remove-interface 52-54-00-00-00-07 --untag db", "", 0),
    ("machine edit web01 --secret root_password=- --param timezone=UTC", PASSWORD, 0),
    ("machine edit web01 --clear-flag --serial CZ1", "", 0),
    ("machine import - --format csv --yes", "name,mac,tags\nweb01,52:54:00:12:34:56,rack-13\nn04,525400000104,x\n", 0),
    ("machine import - --format csv --dry-run", "name,mac,tags\nweb01,52:54:00:12:34:56,rack-13\n", 0),
    ("machine import - --format csv --yes", "name,mac\nn05,nonsense\n", 4),
    ("machine list", "", 0),
    ("machine list --tag rack-13 -o json", "", 0),
    ("machine export --format yaml", "", 0),
    ("build start web01 --param timezone=Europe/Paris -o json", "", 0),
    ("build start web01", "", 4),
    ("build show web01", "", 0),
    ("build log web01 --sealed", "", 0),
    ("build continue web01", "", 4),
    ("machine edit web01 --protected", "", 4),
    ("build cancel web01", "", 0),
    ("build show web01 --watch", "", 1),
    ("build start web01", "", 0),
    ("build diff web01", "", 0),
    ("build diff web01 1 2", "", 0),
    ("build reseal web01", "", 0),
    ("build show web01 --number 2", "", 0),
    ("build diff web01 1 9", "", 3),
    ("build cancel web01", "", 0),
    ("build repeat web01 --number 1", "", 0),
    ("build list web01 -o yaml", "", 0),
    ("machine remove web01 --yes", "", 4),
    ("build cancel web01", "", 0),
    ("machine edit db01 --protected", "", 0),
    ("build start db01", "", 4),
    ("machine remove db01 --yes", "", 4),
    ("machine rename web01 web02", "", 0),
    ("machine remove web02 --yes", "", 0),
    ("machine show web02", "", 3),
    ("build show web01 --number 1", "", 0),
    ("user add jane --role operator --password-file -", PASSWORD, 0),
    ("user edit jane --role viewer --disabled", "", 0),
    ("user password jane --password-file -", PASSWORD + " again", 0),
    ("user rename jane joan", "", 0),
    ("token add ci --user admin --role operator --scope machines --days 30", "", 0),
    ("token edit ci --role viewer --all", "", 0),
    ("token rename ci cd", "", 0),
    ("token revoke cd", "", 0),
    ("token edit cd --role viewer", "", 4),
    ("token remove cd --yes", "", 0),
    ("user remove joan --yes", "", 0),
    ("webhook add chat --url http://10.99.0.9:9/hook --event build.failed --secret-file - --disabled", PASSWORD, 0),
    ("webhook edit chat --all-events --new-secret", "", 0),
    ("webhook rename chat talk", "", 0),
    ("webhook deliveries talk", "", 0),
    ("webhook remove talk --yes", "", 0),
    ("profile remove www --yes", "", 4),
    ("distro rename rocky-9.6 rocky", "", 0),
    ("distro edit rocky --version 9.7", "", 0),
    ("history verify", "", 0),
)
# What is made anew each time (tokens, secrets, ids, masks), and the door itself, which events and the history name.
_ANEW = re.compile(
    r"pvt_[\w-]+|[\w-]{43}|\*{8} [0-9a-f]{8}|(?<=uid: )\w+|(?<=\* set )[\d :.-]+|\bcli\b|api \(token [^)]*\)"
)


@pytest.fixture
def twin(served: Served, _template: Path, tmp_path: Path) -> Door:
    """Commands on the host of another installation that is as the served one was at its start."""
    shutil.copytree(_template, tmp_path / "state")
    environment = served.environment | {"PROVISIONER_STATE_DIR": str(tmp_path / "state")}
    other = replace(served, environment=environment, state=tmp_path / "state")
    site = other.site
    world = World(site, tmp_path)
    world.subnet()
    world.distro()
    site.engine.dispose()
    remote(other)
    # The same person, by both doors.
    return replace(local(other), changed={"SUDO_USER": "admin"})


def test_the_same_work_here_and_through_the_api(served: Served, twin: Door) -> None:
    there = remote(served)
    for line, stdin, code in WORK:
        said = [door.run(*line.split(), stdin=stdin, code=code).timeless() for door in (twin, there)]
        texts = [(_ANEW.sub("ANEW", each.out), _ANEW.sub("ANEW", each.err)) for each in said]
        assert texts[0] == texts[1], line

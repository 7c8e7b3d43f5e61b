"""Here and through the API: every command prints the same bytes and ends with the same code, for the same state."""

import shlex

import pytest
from conftest import Served
from doors import Door, local, remote
from world import World

pytestmark = pytest.mark.slow

COMMANDS = """
machine list
machine list -o json
machine list -o yaml
machine list -o csv
machine list --state ready --tag rack-12 --limit 1
machine list --sort -updated_at
machine list --sort nonsense
machine list --profile nope
machine show web01
machine show WEB01 -o json
machine show 5254.0012.3456 -o yaml
machine show web09
machine show ''
machine show a/b
machine find 5254.0012.3456
machine find nothing
machine add web01 --mac 52:54:00:00:00:01
machine add web03 --mac 52:54:00:00:00:02 --ip 127.0.2.12 --profile rocky9 --param a=1 --tag x --dry-run
machine add web03 --mac 52:54:00:00:00:02 --ip 127.0.2.12 --dry-run -o json
machine add web03 --mac 52:54:00:00:00:02 --ip next:lab --dry-run
machine add web03 --mac nonsense
machine add web03 --mac 52:54:00:12:34:56
machine add web03 --mac 52:54:00:00:00:02 --ip 10.9.9.9
machine add web03 --mac 52:54:00:00:00:02 --profile nope
machine add web03 --mac 52:54:00:00:00:02 --param d=2020-01-01
machine add web03 --mac 52:54:00:00:00:02 --param 'x=[1, 2, {a: null}]' --dry-run
machine add n[001-003] --ip 127.0.2.20+ --dry-run
machine edit web01 --description größer --dry-run
machine edit web01 --description ''
machine edit web01 --add-interface 52:54:00:00:00:09,127.0.2.13 --dry-run
machine edit web01 --remove-interface 52:54:00:00:00:09
machine edit web01 --tag b --untag rack-12 --dry-run
machine edit web01 --param timezone=UTC --unset timezone --dry-run
machine edit web01 --secret nonsense
machine edit web01 --protected --dry-run
machine edit web09 --protected
machine rename web01 web02 --dry-run
machine rename web01 'a b'
machine remove web01 --dry-run
machine remove web09 --yes
machine export --format yaml
machine export --format csv
storm plan --machines 400 --link 10G
storm plan --machines 400 --link 10G --profile rocky9 --firmware bios -o json
storm plan --machines 1 --link 1G --tftp-rate 150 --media-rate 900 -o yaml
storm plan --machines 400 --link fast
storm plan --machines 400 --link 10G --profile nope
machine discovered
machine forget --all
machine forget 52:54:00:00:00:99
machine forget nonsense
subnet list
subnet list -o json
subnet show lab
subnet show lab -o json
subnet addresses lab
subnet free lab --count 3
subnet free nope
subnet add two --cidr 127.0.3.0/24 --range static:127.0.3.10-127.0.3.20 --dry-run
subnet add two --cidr 127.0.2.0/25
subnet edit lab --dhcp external --dry-run
subnet edit lab --gateway 10.0.0.1
subnet rename lab lab2 --dry-run
subnet remove lab --yes
profile list
profile list -o json
profile show rocky9
profile show rocky9 --as-of 2020-01-01
profile explain web01
profile add web --parent rocky9 --param packages=[nginx] --dry-run
profile add web --parent nope
profile add web --distro os=rocky,version=9 --dry-run
profile edit rocky9 --param timezone=Europe/Berlin --dry-run
profile edit rocky9 --parent rocky9
profile rename rocky9 rocky10 --dry-run
profile remove rocky9 --yes
template list
template list -o json
template show kickstart/el9.ks.j2
template show nonsense/x
template show nonsense
template edit kickstart/el9.ks.j2 --file /etc/hostname --dry-run
template rename kickstart/el9.ks.j2 kickstart/x.ks.j2 --dry-run
template rename snippets/disk.sh.j2 nonsense --dry-run
template add kickstart/el9.ks.j2 --file /etc/hostname
template add kickstart/new.j2 --file /nonexistent
template remove kickstart/el9.ks.j2 --yes
distro list
distro list -o csv
distro show rocky-9.6 -o json
distro show nope
distro edit rocky-9.6 --version 9.7 --os nonsense
distro edit rocky-9.6 --version 9.6
distro rename rocky-9.6 rocky --dry-run
distro rename rocky-9.6 rocky-9.6
distro remove rocky-9.6 --dry-run
image list
image show nope
image rename nope other
render web01
render web01 --file answer --param timezone=Europe/Berlin
render web01 --param timezone=[]
render web01 --as-of 2020-01-01
boot explain web01 --arch uefi
boot explain 52:54:00:00:00:99 -o json
inventory --list
inventory --list --retired
inventory --host web01
inventory --host web09
build list
build list web02
build list web09
build show web02
build show web02 -o csv
build show web02 --number 7
build show web01 --number 7
build show web09
build log web02 --sealed
build diff web02
build start web01 --param timezone=[]
build start web02
build start web09
build repeat web01
build reseal web01
build reseal web09
build cancel web01
build continue web01
build retry-handoff web02
history web01
history show 1
history show 99999
history --limit 3 -o json
history --kind nonsense
history --kind profile --limit 2
history --actor tester -o csv
history verify
user list
user list -o json
user show admin
user show nobody
user sessions
user sessions nobody
user add jane --role viewer --dry-run
user edit admin --role viewer
user edit admin --disabled --dry-run
user rename admin root --dry-run
user remove admin --yes
token list
token list -o json
token list --user nobody
token show nope
token show door-admin -o json
token edit door-admin --role viewer --dry-run
token revoke door-admin --dry-run
token remove door-admin --dry-run
webhook list
webhook show nope
webhook deliveries nope
""".strip().splitlines()


@pytest.fixture(scope="module")
def doors(served: Served, tmp_path_factory: pytest.TempPathFactory) -> tuple[Door, Door]:
    """Both ways to one installation with two machines, the second being built."""
    site = served.site
    world = World(site, tmp_path_factory.mktemp("scene"))
    world.machine(tags=["rack-12"], parameters={"timezone": "UTC"})
    world.machine("web02", "52:54:00:12:34:57", "127.0.2.15")
    site.engine.dispose()
    here, there = local(served), remote(served)
    there.run("build", "start", "web02")
    return here, there


@pytest.mark.parametrize("line", COMMANDS)
def test_the_same_bytes_here_and_through_the_api(doors: tuple[Door, Door], line: str) -> None:
    here, there = (door.run(*shlex.split(line), code=None).timeless() for door in doors)
    assert here == there


def test_a_dry_run_changes_nothing_through_the_api(doors: tuple[Door, Door]) -> None:
    before = doors[0].run("history", "--limit", "1", "-o", "json").json()[0]["id"]
    for line in COMMANDS:
        if "--dry-run" in line:
            doors[1].run(*shlex.split(line), code=None)
    assert doors[0].run("history", "--limit", "1", "-o", "json").json()[0]["id"] == before

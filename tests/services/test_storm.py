"""What the planner of boot storms counts with, and what it says."""

import pytest
from conftest import both_engines
from sqlalchemy import select
from world import ACTOR, IP, MAC, World

from provisioner.errors import BuildNotPossible, InvalidInput, NotFound
from provisioner.services import arming, bootfiles, media, storm
from provisioner.services.boot import BootRequest, boot_script
from provisioner.services.site import Site
from provisioner.services.traffic import Meter
from provisioner.store.engine import read, write
from provisioner.store.models import Attempt, Build, BuildTraffic, Distro, Machine, SealedFile, now

pytestmark = pytest.mark.slow


def files_of_the_distro(site: Site) -> int:
    """The bytes of kernel and initrd."""
    with read(site.engine) as session:
        distro = session.scalars(select(Distro)).one()
        return sum(media.path_of(site, each).stat().st_size for each in (distro.kernel_sha256, distro.initrd_sha256))


@both_engines
def test_without_builds_it_computes_and_says_so(site: Site, world: World) -> None:
    world.ready()
    found = storm.plan(site, 400, "10G")
    assert found["profile"] == "rocky9"
    assert found["measured_builds"] == 0
    loader = bootfiles.loaders()["snponly.efi"].stat().st_size
    assert found["bytes"] == {
        "tftp": loader,
        "boot": 0,
        "media": files_of_the_distro(site),
        "tree": 0,
        "total": loader + files_of_the_distro(site),
    }
    words = " ".join(found["sentences"])
    assert words.startswith("400 machines of rocky9 need ")
    assert "computed from distro rocky-9.6, no build was measured" in words
    assert "The install tree is not served from here and not counted: http" in words
    assert "10 Gbit/s carries that in" in words
    assert "--tftp-rate" in words


def test_a_sealed_build_gives_the_size_of_its_texts(site: Site, world: World) -> None:
    world.armed()
    found = storm.plan(site, 1, "1G", "rocky9", "bios")
    assert found["bytes"]["boot"] > 1000
    assert found["bytes"]["tftp"] == bootfiles.loaders()["undionly.kpxe"].stat().st_size
    assert found["sentences"][-1] == "Start it all at once."


def finish(site: Site, world: World, tftp: int, kernel: int) -> None:
    """A build that loaded so much, and was built a minute after its script."""
    world.armed() if not _there(site) else _again(site)
    boot_script(site, BootRequest(mac=MAC, source=IP))
    meter = Meter(site, lambda *_: None)
    meter.put(IP, "tftp", tftp)
    meter.put(IP, "media", kernel)
    meter.close()
    with write(site.engine) as session:
        build = session.scalars(select(Build).order_by(Build.id.desc())).first()
        assert build is not None
        assert build.machine is not None
        for attempt in session.scalars(select(Attempt).where(Attempt.build_id == build.id)):
            attempt.opened_at = now()
        build.state, build.machine.state, build.built_at, build.ended_at = "configured", "configured", now(), now()


def _there(site: Site) -> bool:
    with read(site.engine) as session:
        return session.scalar(select(Machine.id)) is not None


def _again(site: Site) -> None:

    arming.start(site, ACTOR, "web01")


@both_engines
def test_it_counts_with_the_median_of_what_builds_loaded(site: Site, world: World) -> None:
    for tftp, kernel in ((100_000, 50_000_000), (120_000, 90_000_000), (400_000, 70_000_000)):
        finish(site, world, tftp, kernel)
    found = storm.plan(site, 400, "10G", "rocky9")
    assert found["measured_builds"] == 3
    assert (found["bytes"]["tftp"], found["bytes"]["media"]) == (120_000, 70_000_000)
    with read(site.engine) as session:
        assert session.scalar(select(BuildTraffic.bytes).limit(1)) is not None
        names = set(session.scalars(select(SealedFile.name)))
    assert "ipxe" in names
    assert found["bytes"]["boot"] > 1000
    assert found["install_seconds"] is not None
    words = found["sentences"]
    assert words[0].startswith("400 machines of rocky9 need 28 GB: 70 MB each (120 kB TFTP, ")
    assert words[0].endswith("kernel, initrd, image; the median of 3 builds).")
    assert words[-1].startswith("Start them in ")
    assert found["wave"] * found["waves"] >= 400
    slower = storm.plan(site, 400, "10G", "rocky9", media_rate=100)
    assert slower["limit"] == "server"
    assert slower["server_seconds"] == pytest.approx(400 * 70e6 / 100e6, rel=0.01)


def test_what_cannot_be_planned_says_what_to_do(site: Site, world: World) -> None:
    with pytest.raises(NotFound) as nobody:
        storm.plan(site, 400, "10G")
    assert "--profile" in nobody.value.hint
    with pytest.raises(NotFound) as unknown:
        storm.plan(site, 400, "10G", "nope")
    assert "profile list" in unknown.value.hint
    with pytest.raises(BuildNotPossible):
        storm.plan(site, 400, "10G", "rocky9")  # no distro is registered
    for wrong in ({"machines": 0, "link": "10G"}, {"machines": 1, "link": "x"}):
        with pytest.raises(InvalidInput):
            storm.plan(site, profile="rocky9", **wrong)
    with pytest.raises(InvalidInput):
        storm.plan(site, 1, "1G", "rocky9", tftp_rate=float("nan"))

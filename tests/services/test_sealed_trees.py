"""What a build was sealed with stays and is served: whatever becomes of its distro, until the build has ended."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import both_engines
from mediums import RED_HAT, iso, served, sha, with_texts
from world import ACTOR, World

from provisioner.errors import MediaMissing, StillInUse
from provisioner.services import arming, builds, check, installables, machines, media, mediaimport, treeneeds, trees
from provisioner.services.installables import DistroInput
from provisioner.services.site import Site
from provisioner.store.base import now
from provisioner.store.engine import read, write
from provisioner.store.models import Build, Distro

STAGE2 = "images/install.img"


def imported(world: World, name: str = "rocky-9.6", stage2: bytes = b"stage2 ") -> str:
    """An ISO, imported under this name; where its tree is."""
    image = world.tmp / f"{name}-{sha(stage2)[:4]}.iso"
    if not image.exists():  # another of the same files has another date in it
        iso(image, with_texts("rocky-9.6", RED_HAT | {STAGE2: stage2 * 99}))
    return str(mediaimport.import_medium(world.site, ACTOR, image, name=name).distro["tree"])


def armed(world: World) -> None:
    """A machine with a build sealed with what rocky9 means."""
    world.subnet()
    world.machine()
    arming.start(world.site, ACTOR, "web01")


def become(site: Site, state: str) -> None:
    """The build is in this state, as far as anybody is told."""
    with write(site.engine) as session:
        build = session.query(Build).one()
        build.state = state
        build.built_at = now() if state in {"built", "configured"} else None


def sweep(world: World) -> None:
    """What removes trees that nobody needs: `check`, and the next import."""
    check.run(world.site)
    name = f"other-{os.urandom(2).hex()}"
    imported(world, name, name.encode())
    installables.remove(world.site, ACTOR, Distro, name)


def removed(world: World) -> None:
    installables.remove(world.site, ACTOR, Distro, "rocky-9.6")


def renamed(world: World) -> None:
    installables.rename(world.site, ACTOR, Distro, "rocky-9.6", "rocky")


def renamed_and_edited(world: World) -> None:
    renamed(world)
    installables.edit_distro(world.site, ACTOR, "rocky", {"tree": "http://mirror/9.6"})


def renamed_and_removed(world: World) -> None:
    renamed(world)
    installables.remove(world.site, ACTOR, Distro, "rocky")


CHANGES = [removed, renamed, renamed_and_edited, renamed_and_removed]


@pytest.mark.slow
@both_engines
@pytest.mark.parametrize("change", CHANGES, ids=lambda each: each.__name__)
def test_the_tree_and_files_of_a_build_under_way_outlive_their_distro(
    site: Site, world: World, change: Callable[[World], None]
) -> None:
    tree = imported(world)
    armed(world)
    change(world)
    sweep(world)
    assert Path(tree).is_dir()
    assert served(site, "rocky-9.6", STAGE2) == b"stage2 " * 99
    sealed = builds.sealed(site, "web01")["inputs"]["media"]
    assert sealed.keys() == {"kernel", "initrd"}
    assert all(sha(media.path_of(site, digest).read_bytes()) == digest for digest in sealed.values())


@pytest.mark.slow
@pytest.mark.parametrize("state", ["armed", "booting", "installing", "built"])
def test_a_name_does_not_come_to_mean_another_tree_while_builds_install_by_it(
    site: Site, world: World, tmp_path: Path, state: str
) -> None:
    tree = imported(world)
    armed(world)
    become(site, state)
    other = tmp_path / "other"
    other.mkdir()
    said = r"^tree: /.*, served as rocky-9\.6, is needed by build web01/1$"
    for to in ("", "http://mirror/9.6", str(other)):
        with pytest.raises(StillInUse, match=said) as refused:
            installables.edit_distro(site, ACTOR, "rocky-9.6", {"tree": to})
        assert "build cancel web01" in (refused.value.hint or "")
    installables.edit_distro(site, ACTOR, "rocky-9.6", {"tree": tree, "version": "9.7"})
    removed(world)
    files = [tmp_path / "vmlinuz", tmp_path / "initrd.img"]
    for file in files:
        file.write_bytes(b"boot")
    given = DistroInput("rocky", "9.6", *map(str, files), tree="http://mirror/9.6")
    with pytest.raises(StillInUse, match=said):
        installables.add_distro(site, ACTOR, "rocky-9.6", given)
    with pytest.raises(StillInUse, match=said):
        imported(world, stage2=b"another ")
    installables.add_distro(site, ACTOR, "rocky-9.7", given)
    with pytest.raises(StillInUse, match=said):
        installables.rename(site, ACTOR, Distro, "rocky-9.7", "rocky-9.6")
    assert imported(world) == tree, "the same medium is no other tree"
    sweep(world)
    assert served(site, "rocky-9.6", STAGE2) == b"stage2 " * 99
    assert [path.name for path in trees.directory(site).glob("[0-9a-f]*")].count(Path(tree).name) == 1


@pytest.mark.slow
def test_nothing_but_the_build_need_name_the_tree(site: Site, world: World) -> None:
    tree = imported(world)
    armed(world)
    with write(site.engine) as session:
        session.query(Distro).one().tree = ""
    sweep(world)
    assert Path(tree).is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("state", ["configured", "failed", "cancelled"])
def test_the_tree_goes_when_no_build_needs_it_and_its_distro_has_another(site: Site, world: World, state: str) -> None:
    tree = imported(world)
    armed(world)
    become(site, state)
    installables.edit_distro(site, ACTOR, "rocky-9.6", {"tree": "http://mirror/9.6"})
    check.run(site)
    assert not Path(tree).exists()


@pytest.mark.slow
def test_after_handoff_hours_a_built_machine_needs_its_tree_no_more(site: Site, world: World) -> None:
    tree = imported(world)
    armed(world)
    become(site, "built")
    with write(site.engine) as session:
        session.query(Build).one().built_at = now().replace(year=2020)
    installables.edit_distro(site, ACTOR, "rocky-9.6", {"tree": ""})
    check.run(site)
    assert not Path(tree).exists()


@pytest.mark.slow
@both_engines
def test_a_directory_of_somebody_else_is_published_for_as_long_as_a_build_needs_it(site: Site, world: World) -> None:
    mirror = world.tmp / "mirror"
    (mirror / "images").mkdir(parents=True)
    (mirror / STAGE2).write_bytes(b"theirs")
    world.distro()
    installables.edit_distro(site, ACTOR, "rocky-9.6", {"tree": str(mirror)})
    armed(world)
    removed(world)
    sweep(world)
    assert served(site, "rocky-9.6", STAGE2) == b"theirs"
    assert not [each for each in check.run(site) if str(mirror) in f"{each.what} {each.why} {each.remedy}"]
    builds.cancel(site, ACTOR, "web01")
    sweep(world)
    assert served(site, "rocky-9.6", STAGE2) is None
    assert (mirror / STAGE2).read_bytes() == b"theirs", "it is not ours to remove"


@both_engines
def test_builds_of_images_need_no_tree(site: Site, world: World) -> None:
    armed_with(site, {"profile": {"name": "stem"}, "distro": None, "media": {}})
    armed_with(site, {"profile": {"name": "web"}, "distro": {"name": "rocky", "tree": "http://m"}, "media": {}})
    armed_with(site, {"profile": {"name": "web"}, "distro": {"name": "rocky", "tree": "/srv/rocky"}, "media": {}})
    armed_with(site, {"profile": {"name": "web"}, "distro": {"name": "rocky", "tree": "/srv/rocky"}, "media": {}})
    with read(site.engine) as session:
        (need,) = treeneeds.needs(session, site)
    assert (need.distro, need.tree, need.said) == ("rocky", "/srv/rocky", "build old/3 and 1 more")


def armed_with(site: Site, sealed: dict[str, Any]) -> None:
    """A build that says it was sealed with this."""
    with write(site.engine) as session:
        number = session.query(Build).count() + 1
        session.add(Build(machine_name="old", number=number, state="armed", sealed=sealed))


@pytest.mark.slow
def test_a_removed_machine_takes_its_need_along(site: Site, world: World) -> None:
    tree = imported(world)
    armed(world)
    builds.cancel(site, ACTOR, "web01")
    machines.remove(site, ACTOR, "web01")
    installables.edit_distro(site, ACTOR, "rocky-9.6", {"tree": ""})
    check.run(site)
    assert not Path(tree).exists()


@pytest.mark.slow
def test_what_cannot_be_repeated_or_armed_for_want_of_its_tree_says_so(site: Site, world: World) -> None:
    tree = imported(world)
    armed(world)
    builds.cancel(site, ACTOR, "web01")
    removed(world)
    assert arming.repeat(site, ACTOR, "web01")["number"] == 2, "the tree of a removed distro is kept"
    builds.cancel(site, ACTOR, "web01")
    assert imported(world, stage2=b"another ") != tree
    with pytest.raises(MediaMissing, match=r"the tree of build 2 is not served as rocky-9\.6 any more"):
        arming.repeat(site, ACTOR, "web01")
    shutil.rmtree(installables.show(site, Distro, "rocky-9.6")["tree"])
    with pytest.raises(MediaMissing, match=r"the tree of distro rocky-9\.6 is gone"):
        arming.start(site, ACTOR, "web01")

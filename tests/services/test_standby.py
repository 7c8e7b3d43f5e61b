"""What boots know while the database cannot be asked: what it said when it last answered."""

from pathlib import Path

import pytest
from conftest import both_engines
from outage import down
from sqlalchemy import update
from world import ACTOR, IP, MAC, World

from provisioner.services import boot, installables, keeper, notes, published, standby, subnets
from provisioner.services.boot import BootRequest
from provisioner.services.installables import DistroInput
from provisioner.services.site import Site
from provisioner.store.engine import write
from provisioner.store.models import Machine

EFI = BootRequest(MAC, IP, platform="efi", boot_url="http://asked:8080")


@both_engines
def test_an_odd_machine_gets_to_its_disk_in_its_own_way(site: Site, world: World) -> None:
    world.ready()
    with write(site.engine) as session:
        session.execute(update(Machine).values(local_boot="exit"))
    own = boot.boot_script(site, EFI).text
    with down(site) as broken:
        assert boot.boot_script(broken, EFI).text != own, "nothing is known yet"
    keeper.look(site)
    with down(site) as broken:
        assert boot.boot_script(broken, EFI).text == own


def test_machines_are_told_the_url_of_their_subnet(site: Site, world: World) -> None:
    world.ready()
    subnets.edit(site, ACTOR, "lab", {"boot_url": "http://127.0.2.1:8080"})
    told = boot.first_script(site, IP, "http://asked:8080")
    local = boot.boot_script(site, EFI).text
    assert "http://127.0.2.1:8080/boot/" in told
    keeper.look(site)
    with down(site) as broken:
        assert boot.first_script(broken, IP, "http://asked:8080") == told
        assert boot.boot_script(broken, EFI).text == local


def test_r28_tftp_that_starts_without_the_database_knows_its_subnets(site: Site, world: World) -> None:
    world.subnet("ten", "10.9.0.0/16")
    keeper.look(site)
    with down(site) as broken:
        known = notes.Subnets(broken)
        assert known.admitted("10.9.1.1")
        assert not known.admitted("10.8.1.1")
        known.close()


def test_trees_are_published_on(site: Site, world: World, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(b"kernel")
    given = DistroInput("rocky", "9.6", str(kernel), str(kernel), str(tree))
    installables.add_distro(site, ACTOR, "here", given)
    keeper.look(site)
    with down(site) as broken:
        assert published.tree(broken, "here") == tree
        assert published.tree(broken, "elsewhere") is None


@pytest.mark.parametrize("left", [b"", b"{", b"[]", b'{"subnets": 1, "no": 2}'])
def test_a_damaged_file_is_made_anew(site: Site, world: World, left: bytes) -> None:
    world.subnet()
    file = site.settings.state_dir / "standby.json"
    file.write_bytes(left)
    assert standby.recall(site) == standby.Standby()
    keeper.look(site)
    assert list(standby.recall(site).subnets) == ["127.0.2.0/24"]


def test_nothing_is_written_while_nothing_changes(site: Site, world: World) -> None:
    world.subnet()
    keeper.look(site)
    before = (site.settings.state_dir / "standby.json").stat()
    keeper.look(site)
    assert (site.settings.state_dir / "standby.json").stat().st_ino == before.st_ino

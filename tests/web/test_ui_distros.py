"""Distros and images in the browser: what there is to install, adding by URL, removal with what it would do."""

import csv
import http.server
import io
import threading
from collections.abc import Iterator
from typing import ClassVar

import pytest
from uiclient import Browser
from world import ACTOR, World

from provisioner.services import catalogue, installables, profiles, records
from provisioner.services.installables import ImageInput
from provisioner.services.site import Site

pytestmark = pytest.mark.slow


class Mirror(http.server.BaseHTTPRequestHandler):
    """Serves a few files."""

    files: ClassVar[dict[str, bytes]] = {"/vmlinuz": b"kernel", "/initrd.img": b"initrd", "/disk.raw.gz": b"disk"}

    def do_GET(self) -> None:
        body = self.files.get(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        pass


@pytest.fixture
def mirror() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def image(world: World, name: str = "debian-12-base") -> None:
    file = world.tmp / "disk.raw.gz"
    file.write_bytes(b"disk" * 500)
    installables.add_image(world.site, ACTOR, name, ImageInput(str(file), "debian", "12"))


def test_an_installation_without_any_says_what_to_do(site: Site) -> None:
    browser = Browser(site)
    distros, images = browser.get("/distros"), browser.get("/images")
    assert "No distros yet" in distros.main
    assert "provisioner distro import" in distros.main
    assert distros.links()["Add a distro by its URL"] == "/distros:add"
    assert "No images yet" in images.main
    assert distros.links()["Images"] == "/images"
    assert "Add a distro by its URL" not in Browser(site, role="viewer").get("/distros").links()


def test_a_distro_shows_its_files_its_tier_and_who_builds_it(site: Site, world: World) -> None:
    world.ready()
    image(world)
    browser = Browser(site, role="viewer")
    listed = browser.get("/distros")
    row = listed.one("tbody tr").get_text(" ", strip=True)
    assert "rocky-9.6 rocky 9.6 x86_64" in row
    assert "validated" in row
    assert listed.links()["rocky9"] == "/profiles/rocky9"
    shown = browser.get("/distros/rocky-9.6")
    assert catalogue.distro(site, "rocky-9.6")["kernel_sha256"] in shown.main
    assert "http://mirror/tree" in shown.main
    assert "with 1 machine:" in shown.main
    assert "No distro has “nosuch”" in browser.get("/distros?q=nosuch").main
    picture = browser.get("/images/debian-12-base")
    assert "stem-cell" in picture.links()
    assert "2.0 KiB" in picture.main or "2000 Bytes" in picture.main
    told = list(csv.DictReader(io.StringIO(browser.get("/distros?format=csv").body)))
    assert (told[0]["name"], told[0]["profiles"], told[0]["machines"]) == ("rocky-9.6", "rocky9", "1")
    assert browser.get("/distros/nosuch").status == 404


def test_r26_removal_shows_first_what_it_would_do(site: Site, world: World) -> None:
    world.ready()
    browser = Browser(site)
    asked = browser.get("/distros/rocky-9.6/remove")
    assert "1 could not be built any more" in asked.main
    assert "web01" in asked.main
    assert catalogue.distros(site)
    fields = asked.fields("main form") | {"reason": "old"}
    gone = browser.post("/distros/rocky-9.6/remove", **fields)
    assert (gone.status, gone.place) == (303, "/distros")
    assert not catalogue.distros(site)
    assert records.page(site, limit=1)["items"][0]["reason"] == "old"


def test_what_a_profile_names_is_not_removed(site: Site, world: World) -> None:
    world.ready()
    profiles.edit(site, ACTOR, "rocky9", {"distro": "rocky-9.6"})
    browser = Browser(site)
    assert "It keeps its name and stays, while rocky9 names it." in browser.get("/distros/rocky-9.6").main
    asked = browser.get("/distros/rocky-9.6/remove")
    assert "is named by profile rocky9" in asked.main
    assert not asked.soup.select("main form")
    revision = catalogue.distro(site, "rocky-9.6")["revision"]
    assert browser.post("/distros/rocky-9.6/remove", revision=revision).status == 409


def test_renaming_and_its_errors(site: Site, world: World) -> None:
    image(world)
    browser = Browser(site)
    revision = catalogue.image(site, "debian-12-base")["revision"]
    bad = browser.post("/images/debian-12-base/rename", revision=revision, new_name="No Name")
    assert bad.status == 400
    assert bad.one("#f-new_name")["value"] == "No Name"
    assert bad.one("#f-new_name")["aria-invalid"] == "true"
    stale = browser.post("/images/debian-12-base/rename", revision="1.1", new_name="base")
    assert stale.status == 412
    good = browser.post("/images/debian-12-base/rename", revision=revision, new_name="base")
    assert good.place == "/images/base"


def test_a_distro_is_added_from_urls_and_only_from_those(site: Site, mirror: str) -> None:
    browser = Browser(site)
    form = browser.get("/distros:add?os=rocky").fields("#edit")
    assert form["os"] == "rocky"
    typed = form | {"name": "rocky-9.6", "version": "9.6"}
    for kernel in ("/etc/passwd", "file:///etc/passwd", "ftp://x/y", "http://a b"):
        refused = browser.post("/distros:add", **(typed | {"kernel": kernel, "initrd": f"{mirror}/initrd.img"}))
        assert refused.status == 400
        assert refused.one("#f-kernel")["aria-invalid"] == "true"
        assert refused.one("#f-kernel")["value"] == kernel
    nowhere = browser.post("/distros:add", **typed)
    assert nowhere.status == 400
    assert nowhere.one("#f-url")["aria-invalid"] == "true"
    missing = browser.post("/distros:add", **(typed | {"kernel": f"{mirror}/nosuch", "initrd": f"{mirror}/initrd.img"}))
    assert missing.status == 422
    assert "nosuch" in missing.main
    assert missing.one("#f-name")["value"] == "rocky-9.6"
    pieces = typed | {"kernel": f"{mirror}/vmlinuz", "initrd": f"{mirror}/initrd.img", "tree": f"{mirror}/tree"}
    added = browser.post("/distros:add", fragment=True, **pieces)
    assert (added.status, added.headers["HX-Redirect"]) == (204, "/distros/rocky-9.6")
    assert "It fits rocky9" in browser.get("/distros/rocky-9.6").text
    again = browser.post("/distros:add", **pieces)
    assert again.status == 409


def test_an_image_is_added_from_a_url(site: Site, mirror: str) -> None:
    browser = Browser(site)
    form = browser.get("/images:add").fields("#edit") | {"name": "base", "os": "debian", "version": "12"}
    refused = browser.post("/images:add", **(form | {"file": "/etc/shadow"}))
    assert refused.status == 400
    assert refused.one("#f-file")["aria-invalid"] == "true"
    added = browser.post("/images:add", **(form | {"file": f"{mirror}/disk.raw.gz"}))
    assert added.place == "/images/base"
    assert catalogue.image(site, "base")["kind"] == "stem-cell"


@pytest.mark.parametrize("role", ["viewer", "operator", "author"])
def test_only_administrators_change_what_there_is(site: Site, world: World, role: str) -> None:
    world.distro()
    browser = Browser(site, role=role)
    page = browser.get("/distros/rocky-9.6")
    assert page.status == 200
    assert not page.soup.select("main form[method=post], .danger-zone")
    for path in ("/distros:add", "/images:add", "/distros/rocky-9.6/remove"):
        assert browser.get(path).status == 403
        assert browser.post(path).status == 403
    assert browser.post("/distros/rocky-9.6/rename").status == 403


def test_a_distro_is_changed_after_a_look_at_what_that_does(site: Site, world: World, mirror: str) -> None:
    world.ready()
    browser = Browser(site)
    place = browser.get("/distros/rocky-9.6").links()["Change"]
    form = browser.get(place).fields("#edit")
    before = catalogue.distro(site, "rocky-9.6")
    typed = form | {"tree": "http://mirror.example.com/other", "kernel": f"{mirror}/vmlinuz", "reason": "moved"}
    looked = browser.post(place, **typed, look="1")
    assert looked.status == 200
    assert "1 machine depends on this" in looked.main and "Nothing is saved yet" in looked.main
    assert catalogue.distro(site, "rocky-9.6") == before, "nothing is saved by looking"
    again = looked.fields("#edit")
    assert (again["tree"], again["kernel"], again["reason"]) == (typed["tree"], typed["kernel"], "moved")
    done = browser.post(place, **again)
    assert (done.status, done.place) == (303, "/distros/rocky-9.6")
    after = catalogue.distro(site, "rocky-9.6")
    assert (after["tree"], after["kernel_name"], after["version"]) == (typed["tree"], "vmlinuz", before["version"])
    assert after["initrd_sha256"] == before["initrd_sha256"]
    assert records.listing(site, "distro/rocky-9.6")[0]["reason"] == "moved"


@pytest.mark.parametrize(
    ("field", "value"), [("kernel", "/etc/shadow"), ("tree", "file:///etc"), ("version", ""), ("rootfs", "ftp://x/y")]
)
def test_what_a_distro_cannot_be_is_said_beside_the_field(site: Site, world: World, field: str, value: str) -> None:
    world.ready()
    browser, place = Browser(site), "/distros/rocky-9.6/edit"
    refused = browser.post(place, **browser.get(place).fields("#edit") | {field: value, "reason": "kept"})
    assert refused.status == 400
    assert refused.one(f"#f-{field}")["aria-invalid"] == "true"
    assert (refused.fields("#edit")[field], refused.fields("#edit")["reason"]) == (value, "kept")


def test_two_people_change_one_distro(site: Site, world: World) -> None:
    world.ready()
    browser, place = Browser(site), "/distros/rocky-9.6/edit"
    typed = browser.get(place).fields("#edit") | {"tree": "http://mirror.example.com/mine"}
    installables.edit_distro(site, ACTOR, "rocky-9.6", {"version": "9.7"})
    refused = browser.post(place, **typed)
    assert refused.status == 412
    assert "You did not touch version" in refused.main
    assert browser.post(place, **refused.fields("#edit")).status == 303
    after = catalogue.distro(site, "rocky-9.6")
    assert (after["version"], after["tree"]) == ("9.7", "http://mirror.example.com/mine")


def test_an_image_is_changed(site: Site, world: World, mirror: str) -> None:
    image(world)
    browser, place = Browser(site), "/images/debian-12-base/edit"
    form = browser.get(place).fields("#edit")
    done = browser.post(place, **form | {"version": "12.1", "file": f"{mirror}/disk.raw.gz", "root": "LABEL=root"})
    assert done.place == "/images/debian-12-base"
    after = catalogue.image(site, "debian-12-base")
    assert (after["version"], after["root"], after["size"]) == ("12.1", "LABEL=root", 4)
    same = browser.get(place).fields("#edit")
    assert "Nothing of debian-12-base changed" in browser.follow(browser.post(place, **same)).text
    viewer = Browser(site, role="viewer")
    assert "Change" not in viewer.get("/images/debian-12-base").links()
    assert viewer.get(place).status == viewer.post(place, **same).status == 403

"""The stem-cell profile: what the deploy ramdisk is told. Its script itself runs in tests/lab/test_deploy_script.py."""

import re

import pytest

from provisioner.errors import ProvisionerError
from provisioner.render.bootargs import kernel_args
from provisioner.render.confined import Job, render
from tests.render.context import NETWORKS, URLS, context, profile, sources
from tests.render.goldens import FIRMWARES, hold

IMAGE = {
    "name": "stem-12",
    "kind": "stem-cell",
    "os": "debian",
    "version": "12",
    "arch": "x86_64",
    "sha256": "ab" * 32,
    "size": 126_000_000,
    "raw_size": 493_879_296,
    "format": "raw.gz",
    "root": "LABEL=stem-root",
    "url": "@@provisioner:media_url@@/media/sha256/ab/stem.raw.gz",
}


@pytest.mark.parametrize("links", NETWORKS)
@pytest.mark.parametrize("firmware", FIRMWARES)
def test_the_stem_cell_profile_matches_its_golden_files(firmware: str, links: str) -> None:
    """The firmware makes no difference: the ramdisk is the same, and the image has loaders for both."""
    data = context("stem-cell", links=links, image=IMAGE)
    (answer,) = render([Job(profile("stem-cell")["template"], data)], sources())
    if isinstance(answer, ProvisionerError):
        hold("stem-cell", firmware, links, f"{answer}\n")
        return
    arguments = kernel_args("image", URLS, data["machine"], None, IMAGE, data["parameters"], [])
    told = [line for line in answer.splitlines() if re.match(r"(provisioner_)?[a-z0-9_]+=\S", line)]
    hold("stem-cell", firmware, links, "\n".join([" ".join(arguments), *told, ""]))

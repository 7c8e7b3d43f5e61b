"""Names: harmless ones made plain, all others refused (T21, T23, S40)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.netboot.tftp.names import plain_name


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        (b"ipxe.efi", "ipxe.efi"),
        (b"/grub/grub.cfg", "grub/grub.cfg"),
        (b"/boot//grubx64.efi", "boot/grubx64.efi"),
        (b"./pxelinux.cfg/01-52-54-00-12-34-56", "pxelinux.cfg/01-52-54-00-12-34-56"),
        (b"/grub/by-mac/52:54:00:12:34:56", "grub/by-mac/52:54:00:12:34:56"),
        (b"grub/by-mac/" + b":".join([b"aB"] * 20), "grub/by-mac/" + ":".join(["aB"] * 20)),
        (b"media/sha256/ab/vmlinuz-6.1..x", "media/sha256/ab/vmlinuz-6.1..x"),
        ("média/é".encode(), "média/é"),
        (b"x" * 512, "x" * 512),
    ],
)
def test_names_that_firmware_asks_for_are_made_plain(raw: bytes, plain: str) -> None:
    assert plain_name(raw) == plain


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"/",
        b"//.//",
        b"..",
        b"../etc/passwd",
        b"grub/../../etc/passwd",
        b"grub/..",
        b"/../x",
        b"...",
        b"a/.../b",
        b"a/.. /b",
        b"..\\..\\windows",
        b"a\\b",
        b"C:\\boot.ini",
        b"c:/boot.ini",
        b"c:",
        b"file:///etc/passwd",
        b"http://host/x",
        b"grub/52:54:00:12:34",
        b"grub/52:54:00:12:34:56:78",
        b"a\nb",
        b"a\x1b[31m",
        b"a\x7f",
        b"\xff\xfe",
        b"caf\xe9",
        "a\u202eb".encode(),
        "\uff0e\uff0e/x".encode(),
        "\u2025/x".encode(),
        "a\u2028b".encode(),
        b"x" * 513,
        b"x" * 5000,
    ],
)
def test_t21_t23_names_that_could_lead_elsewhere_are_refused(raw: bytes) -> None:
    assert plain_name(raw) is None


@given(st.one_of(st.binary(max_size=600), st.text(alphabet="./\\:ab\0\n\u066b\uff0e", max_size=40).map(str.encode)))
def test_t21_no_name_leaves_the_tree(raw: bytes) -> None:
    name = plain_name(raw)
    if name is not None:
        parts = name.split("/")
        assert not {"", ".", ".."} & set(parts)
        assert "\\" not in name
        assert "\0" not in name
        assert name.isprintable()
        assert plain_name(name.encode()) == name

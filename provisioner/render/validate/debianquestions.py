"""What is known of the questions that Debian's installer asks.

Taken from the templates in the netboot images and components of Debian 12 and 13, and from Debian's example preseed.
"""

from collections.abc import Mapping

BOOLEANS = frozenset({
    "apt-setup/cdrom/set-first", "apt-setup/contrib", "apt-setup/non-free", "apt-setup/non-free-firmware",
    "apt-setup/use_mirror", "clock-setup/ntp", "clock-setup/utc", "debian-installer/allow_unauthenticated",
    "debian-installer/exit/halt", "debian-installer/exit/poweroff", "finish-install/keep-consoles",
    "grub-installer/force-efi-extra-removable", "grub-installer/only_debian", "grub-installer/update-nvram",
    "grub-installer/with_other_os", "hw-detect/load_firmware", "netcfg/confirm_static", "netcfg/disable_autoconfig",
    "netcfg/disable_dhcp", "netcfg/enable", "partman-auto-crypto/erase_disks", "partman-auto-lvm/no_boot",
    "partman-basicfilesystems/no_swap", "partman-crypto/confirm", "partman-crypto/weak_passphrase",
    "partman-efi/non_efi_system", "partman-lvm/confirm", "partman-lvm/confirm_nooverwrite",
    "partman-lvm/device_remove_lvm", "partman-md/confirm", "partman-md/confirm_nooverwrite",
    "partman-md/device_remove_md", "partman-partitioning/confirm_write_new_label", "partman/confirm",
    "partman/confirm_nooverwrite", "passwd/make-user", "passwd/root-login", "pkgsel/run_tasksel",
})  # fmt: skip
"""Questions that are answered with true or false."""
CHOICES: Mapping[str, frozenset[str]] = {
    "partman-auto/method": frozenset({"regular", "lvm", "crypto", "raid"}),
    "pkgsel/upgrade": frozenset({"none", "safe-upgrade", "full-upgrade"}),
    "pkgsel/update-policy": frozenset({"none", "unattended-upgrades"}),
    "mirror/protocol": frozenset({"http", "https", "ftp"}),
    "netcfg/target_network_config": frozenset({"nm_config", "ifupdown", "loopback"}),
}
"""Questions that take one of few words."""
INSTALLER = frozenset({
    "anna", "apt-cdrom-setup", "apt-setup", "auto-install", "base-config", "base-installer", "cdrom-checker",
    "cdrom-detect", "choose-mirror", "clock-setup", "console-data", "console-setup", "debconf", "debian-installer",
    "di-utils-reboot", "di-utils-shell", "disk-detect", "elilo-installer", "espeakup", "ethdetect",
    "finish-install", "grub-installer", "hw-detect", "keyboard-configuration", "load-cdrom", "load-iso",
    "load-media", "localechooser", "lowmem", "mirror", "net-retriever", "netcfg", "network-console", "nobootloader",
    "os-prober", "partconf", "partman", "partman-auto", "partman-auto-crypto", "partman-auto-lvm",
    "partman-auto-raid", "partman-base", "partman-basicfilesystems", "partman-basicmethods", "partman-btrfs",
    "partman-crypto", "partman-efi", "partman-ext3", "partman-iscsi", "partman-jfs", "partman-lvm", "partman-md",
    "partman-multipath", "partman-nbd", "partman-partitioning", "partman-swapfile", "partman-target", "partman-xfs",
    "passwd", "pkgsel", "popularity-contest", "prep-installer", "preseed", "rescue", "retriever", "save-logs",
    "tasksel", "time", "user-setup",
})  # fmt: skip
"""What the names of the installer's own questions begin with."""
PACKAGES = frozenset({
    "adduser", "apt-listchanges", "ca-certificates", "console-setup", "cryptsetup-initramfs", "dash", "debconf",
    "exim4-config", "grub-common", "grub-efi-amd64", "grub-pc", "grub2", "keyboard-configuration", "libc6",
    "libpam-runtime", "libpam0g", "libssl3", "libssl3t64", "locales", "man-db", "mdadm", "openssh-server",
    "popularity-contest", "postfix", "shim-signed", "sudo", "systemd-timesyncd", "tasksel", "tzdata", "ucf",
    "unattended-upgrades",
})  # fmt: skip
"""Packages of a usual system that ask something."""

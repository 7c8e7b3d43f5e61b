"""Fields that take one of a few words."""

ARCHES = ("x86_64",)
IMAGE_KINDS = ("golden", "stem-cell")
IMAGE_FORMATS = ("raw", "raw.gz", "raw.xz")
DHCP_MODES = ("off", "authoritative", "proxy", "external")

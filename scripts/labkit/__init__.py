"""Virtual machines on a virtual wire: what ``scripts/lab`` and the tests boot real firmware with. Needs root."""

"""N machines in software, over real sockets: the demo, the load generator, and a test tool.

Each has its own address in loopback and goes the whole way: TFTP with options, the boot scripts as iPXE runs them,
kernel and initrd against the sealed hash, the answer file, the unwrap, events, the handoff, `configured`; and it
tries again as real firmware and installers do, so that the server may be killed at any moment.

>>> from provisioner.simulate import Plan, fault, run
>>> result = run(site, Plan(machines=200, faults=[fault("power-cut", "disk:5%")]))  # doctest: +SKIP
>>> assert result.ok, result.wrong  # doctest: +SKIP
"""

from provisioner.simulate.journal import Record, read_journal
from provisioner.simulate.oracle import check_records
from provisioner.simulate.plan import FAILING, STEPS, Fault, Plan, fault
from provisioner.simulate.running import Result, clean, run

__all__ = [
    "FAILING",
    "STEPS",
    "Fault",
    "Plan",
    "Record",
    "Result",
    "check_records",
    "clean",
    "fault",
    "read_journal",
    "run",
]

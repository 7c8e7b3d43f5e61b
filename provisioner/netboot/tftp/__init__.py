"""The TFTP server: read requests only, for firmware (RFC 1350, 2347, 2348, 2349, 7440).

It knows nothing of machines: a caller gives it one function that turns a `Request` into content.
"""

from provisioner.netboot.tftp.contract import Content, Limits, OpenFile, Request, Resolve, Transfer
from provisioner.netboot.tftp.server import TftpServer

__all__ = ["Content", "Limits", "OpenFile", "Request", "Resolve", "TftpServer", "Transfer"]

"""The HTTP server below our applications: one loop waits for everything slow, threads only compute.

gunicorn gives processes, the parser of requests and the writer of answers. Its own threaded worker gives a thread to a
connection as soon as one byte of it is there, and leaves it there until the last byte of the answer is gone: some dozen
clients that send or read slowly, or machines that lost their power half-way, take every thread. Here a request gets a
thread when all of it has come, and gives it back when its answer is made; the rest is sent by the loop.
"""

from provisioner.web.server.worker import LoopWorker

__all__ = ["LoopWorker"]

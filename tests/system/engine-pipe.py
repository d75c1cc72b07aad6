#!/usr/bin/python3
"""engine-pipe.py DIR CONMON ARG...: start conmon as an engine does, with a sync pipe and a start pipe, in DIR; print
what comes out of the sync pipe until its end."""
import os
import sys

sync_read, sync_write = os.pipe()
start_read, start_write = os.pipe()
pid = os.fork()
if pid == 0:
    os.chdir(sys.argv[1])
    os.set_inheritable(sync_write, True)
    os.set_inheritable(start_read, True)
    os.environ.update(_OCI_SYNCPIPE=str(sync_write), _OCI_STARTPIPE=str(start_read))
    os.execv(sys.argv[2], sys.argv[2:])
os.close(sync_write)
os.close(start_read)
os.write(start_write, b"\0")
os.close(start_write)
with os.fdopen(sync_read) as pipe:
    sys.stdout.write(pipe.read())
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.exit(status if status >= 0 else 128 - status)

# SPDX-License-Identifier: Apache-2.0
"""What scripted runtimes are made of: a test writes a few lines of Python that misbehave with these helpers."""
import array
import json
import os
import signal
import socket
import sys
import time

ARGV = sys.argv
SUB = next((a for a in ARGV[1:] if a in ('create', 'restore', 'exec')), None)
SHELL = '/bin/busybox'


def opt(name):
	"""Value of option @name on the runtime's command line."""
	return ARGV[ARGV.index(name) + 1] if name in ARGV else None


def _numbers(field):
	with open('/proc/self/status') as f:
		return next(line.split()[1] for line in f if line.startswith(field))


def describe():
	"""What a process can see of how it was started."""
	here = {}
	for fd in range(0, 256):
		try:
			here[fd] = os.readlink('/proc/self/fd/%d' % fd)
		except OSError:
			pass
	umask = os.umask(0)
	os.umask(umask)
	return {'argv': ARGV, 'env': dict(os.environ), 'cwd': os.getcwd(), 'pid': os.getpid(), 'ppid': os.getppid(),
		'pgid': os.getpgid(0), 'sid': os.getsid(0), 'umask': umask, 'fds': here,
		'oom': open('/proc/self/oom_score_adj').read().strip(), 'ignored': int(_numbers('SigIgn'), 16),
		'blocked': int(_numbers('SigBlk'), 16),
		'modes': {fd: os.fstat(fd).st_mode for fd in (0, 1, 2)},
		'nonblock': {fd: not os.get_blocking(fd) for fd in (0, 1, 2)}}


def record(path):
	"""Write describe() to @path, complete or not at all."""
	with open(path + '.part', 'w') as f:
		json.dump(describe(), f)
	os.rename(path + '.part', path)


def write_pid(pid, text=None):
	with open(opt('--pid-file'), 'w') as f:
		f.write(str(pid) if text is None else text)


def payload(script, *, session=True, close=()):
	"""Start the payload: a shell that runs @script, with our descriptors. Returns its pid."""
	pid = os.fork()
	if pid:
		return pid
	if session:
		os.setsid()
	for fd in close:
		os.close(fd)
	signal.signal(signal.SIGPIPE, signal.SIG_DFL)
	if callable(script):
		script()
		os._exit(0)
	os.execv(SHELL, ['sh', '-c', script])


def orphan(script, **how):
	"""Start the payload so that it is nobody's child the moment we are gone."""
	pid = payload(script, **how)
	write_pid(pid)
	return pid


def terminal(script, send=True):
	"""Start the payload on a new pty and send the master to the console socket; return (pid, master)."""
	master, slave = os.openpty()
	pid = os.fork()
	if pid == 0:
		os.setsid()
		os.close(master)
		import fcntl
		import termios
		fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
		for fd in (0, 1, 2):
			os.dup2(slave, fd)
		if slave > 2:
			os.close(slave)
		os.execv(SHELL, ['sh', '-c', script])
	os.close(slave)
	if send:
		send_console(master)
	return pid, master


def send_console(*fds, data=b'/dev/ptmx'):
	s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
	s.connect(opt('--console-socket'))
	control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else []
	s.sendmsg([data], control)
	return s


def wait_for(path, seconds=20):
	"""Wait until the file @path exists."""
	end = time.monotonic() + seconds
	while not os.path.exists(path):
		if time.monotonic() > end:
			sys.exit(99)
		time.sleep(0.005)


def say(text):
	os.write(2, text if isinstance(text, bytes) else text.encode())

# SPDX-License-Identifier: Apache-2.0
"""Processes of the test's own PID namespace: start them with exact descriptors, wait for them, look at them.

The test is process 1 here, so every orphan becomes its child, whatever the program under test does about that.
"""
import ctypes
import os
import select
import signal
import sys
import time

import tap

_statuses = {}		# pid -> wait status of children that reap() has met
_libc = ctypes.CDLL(None, use_errno=True)


def isolate():
	"""Run this very test again as process 1 of its own PID and mount namespaces; returns inside."""
	if os.environ.get('CONTRACT_ISOLATED') == str(os.getppid()) or os.getpid() == 1:
		return
	if os.geteuid() != 0:
		print('1..0 # SKIP needs root: PID and mount namespaces')
		sys.exit(0)
	env = dict(os.environ)
	argv = ['unshare', '--mount', '--propagation', 'private', '--pid', '--fork', '--kill-child', '--mount-proc',
		'/usr/bin/python3', '-B'] + sys.argv
	os.execvpe('unshare', argv, env)


def spawn(argv, *, fds=None, env=None, cwd=None, setup=None, mask=(), ignored=()):
	"""Fork and exec @argv with exactly the descriptors of @fds (number there: descriptor here); return its pid.

	@setup is called in the child at last; @mask is the blocked signals and @ignored those that are ignored there.
	"""
	fds = dict(fds or {})
	for n in (0, 1, 2):
		fds.setdefault(n, None)
	sys.stdout.flush()
	pid = os.fork()
	if pid:
		return pid
	try:
		for s in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
			signal.signal(s, signal.SIG_DFL)
		for s in ignored:
			signal.signal(s, signal.SIG_IGN)
		signal.pthread_sigmask(signal.SIG_SETMASK, mask)
		null = os.open('/dev/null', os.O_RDWR)
		top = 200
		high = {n: _dup_from(null if fd is None else fd, top) for n, fd in fds.items()}
		for n, fd in high.items():
			os.dup2(fd, n, inheritable=True)
		for name in os.listdir('/proc/self/fd'):
			if int(name) not in fds:
				try:
					os.close(int(name))
				except OSError:
					pass
		if cwd:
			os.chdir(cwd)
		if setup:
			setup()
		os.execve(argv[0], argv, os.environ if env is None else env)
	except BaseException as e:
		os.write(2, ('spawn: %s: %s\n' % (argv[0], e)).encode())
	os._exit(127)


def become_rootless(uid):
	"""To be called in a child: an unprivileged user that is uid 0 of a user and mount namespace of its own, as Podman's is."""
	os.setgroups([])
	os.setresgid(uid, uid, uid)
	os.setresuid(uid, uid, uid)
	_libc.prctl(4, 1, 0, 0, 0)			# PR_SET_DUMPABLE: /proc/self is ours again
	if _libc.unshare(0x10000000 | 0x00020000) < 0:	# CLONE_NEWUSER | CLONE_NEWNS
		raise OSError(ctypes.get_errno(), 'unshare')
	for name, text in (('setgroups', 'deny'), ('uid_map', '0 %d 1' % uid), ('gid_map', '0 %d 1' % uid)):
		with open('/proc/self/' + name, 'w') as f:
			f.write(text)


def join_rootless(pid):
	"""To be called in a child: uid 0 in the user and mount namespace of @pid, which is an unprivileged user outside."""
	fds = [os.open('/proc/%d/ns/%s' % (pid, name), os.O_RDONLY) for name in ('user', 'mnt')]
	where = os.getcwd()
	os.setgroups([])
	for fd in fds:
		if _libc.setns(fd, 0) < 0:
			raise OSError(ctypes.get_errno(), 'setns')
		os.close(fd)
	os.setresgid(0, 0, 0)
	os.setresuid(0, 0, 0)
	_libc.prctl(4, 1, 0, 0, 0)
	os.chdir(where)


def _dup_from(fd, lowest):
	import fcntl
	return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest)


def reap():
	"""Collect every child that has ended."""
	while True:
		try:
			pid, status = os.waitpid(-1, os.WNOHANG)
		except ChildProcessError:
			return
		if pid == 0:
			return
		_statuses[pid] = status


def forget():
	_statuses.clear()


def is_alive(pid):
	reap()
	if pid in _statuses:
		return False
	try:
		return state(pid) not in ('Z', 'X')
	except (FileNotFoundError, ProcessLookupError):
		return False


def wait(pid, seconds=10.0, what='the process'):
	"""Wait for our child @pid to end; its status: exit code, or minus the signal's number."""
	end = time.monotonic() + seconds
	while pid not in _statuses:
		try:
			fd = os.pidfd_open(pid)
		except ProcessLookupError:
			reap()
			if pid in _statuses:
				break
			raise tap.Failure('%s (%d) is not ours to wait for' % (what, pid))
		p = select.poll()
		p.register(fd, select.POLLIN)
		# in slices: others have to be reaped meanwhile, or a PID namespace inside ours could not end
		ready = p.poll(max(0, min(100, int((end - time.monotonic()) * 1000))))
		os.close(fd)
		reap()
		if not ready and pid not in _statuses and time.monotonic() < end:
			continue
		if not ready and pid not in _statuses:
			raise tap.Failure('%s (%d, %s) still runs after %g s' % (what, pid, cmdline(pid)[:2], seconds))
		if pid not in _statuses and not _is_ours(pid):
			tap.until(lambda: not os.path.exists('/proc/%d' % pid) or _reap_has(pid), '%s ends' % what, seconds)
	return os.waitstatus_to_exitcode(_statuses[pid])


def _reap_has(pid):
	reap()
	return pid in _statuses


def _is_ours(pid):
	try:
		return int(stat(pid)[1]) == os.getpid()
	except OSError:
		return True


def stat(pid):
	"""Fields of /proc/PID/stat from the state on."""
	with open('/proc/%d/stat' % pid, 'rb') as f:
		return f.read().rsplit(b')', 1)[1].decode().split()


def state(pid):
	return stat(pid)[0]


def parent(pid):
	return int(stat(pid)[1])


def group(pid):
	return int(stat(pid)[2])


def session(pid):
	return int(stat(pid)[3])


def cpu_ms(pid):
	"""CPU time used by @pid, milliseconds."""
	s = stat(pid)
	return (int(s[11]) + int(s[12])) * 1000 // os.sysconf('SC_CLK_TCK')


def cmdline(pid):
	try:
		with open('/proc/%d/cmdline' % pid, 'rb') as f:
			return f.read().split(b'\0')[:-1]
	except OSError:
		return []


def comm(pid):
	try:
		with open('/proc/%d/comm' % pid) as f:
			return f.read().rstrip('\n')
	except OSError:
		return ''


def status_field(pid, name):
	with open('/proc/%d/status' % pid) as f:
		for line in f:
			if line.startswith(name + ':'):
				return line.split(':', 1)[1].strip()


def rss_kib(pid):
	"""Resident memory; 0 if it has just ended."""
	try:
		return int((status_field(pid, 'VmRSS') or '0').split()[0])
	except (FileNotFoundError, ProcessLookupError):
		return 0


def fds(pid):
	"""descriptor -> what it is, of a process."""
	out = {}
	for name in os.listdir('/proc/%d/fd' % pid):
		try:
			out[int(name)] = os.readlink('/proc/%d/fd/%s' % (pid, name))
		except OSError:
			pass
	return out


def everyone():
	"""Every process of this namespace but ourselves, not counting zombies."""
	reap()
	out = []
	for name in os.listdir('/proc'):
		if name.isdigit() and int(name) != os.getpid():
			try:
				if state(int(name)) not in ('Z', 'X'):
					out.append(int(name))
			except OSError:
				pass
	return out


def children(pid):
	out = []
	for p in everyone():
		try:
			if parent(p) == pid:
				out.append(p)
		except OSError:
			pass
	return out


def family(pid):
	"""@pid and all its descendants."""
	out = [pid]
	for p in out:
		out += [c for c in children(p) if c not in out]
	return out


def kill(pid, number=signal.SIGKILL):
	try:
		os.kill(pid, number)
	except ProcessLookupError:
		pass


def is_blocked(pid):
	"""It sleeps in a system call that waits (read, poll, select, epoll, a wait for a child)."""
	waiting = {0, 7, 19, 23, 45, 47, 61, 232, 247, 270, 271, 281, 441}
	try:
		with open('/proc/%d/syscall' % pid) as f:
			words = f.read().split()
		return state(pid) == 'S' and words[0].isdigit() and int(words[0]) in waiting
	except OSError:
		return False


def mount(source, target, kind, flags=0, data=None):
	r = _libc.mount(source.encode(), target.encode(), kind.encode() if kind else None, flags,
		data.encode() if data else None)
	if r < 0:
		e = ctypes.get_errno()
		raise OSError(e, os.strerror(e), target)


def umount(target):
	_libc.umount2(target.encode(), 2)

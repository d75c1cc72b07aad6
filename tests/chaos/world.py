# SPDX-License-Identifier: Apache-2.0
"""The machine of the chaos run (namespaces of its own, see netlab), its processes, and how they are killed."""
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.normpath(os.path.join(HERE, '..', '..'))
sys.path.insert(0, os.path.join(TOP, 'tests', 'contract', 'lib'))
import netlab		# noqa: E402
import tap		# noqa: E402

WORK = '/run/chaos'
BUILD = os.environ.get('TANDEM_BUILDDIR') or os.path.join(TOP, 'build')
DEADLINE = 20.0		# s; what takes longer on a busy machine is a hang


def program(variable, *places):
	for path in (os.environ.get(variable),) + places:
		if path and os.access(path, os.X_OK):
			return os.path.realpath(path)
	print('1..0 # SKIP %s: build it or set %s' % (places[0], variable))
	sys.exit(0)


class Programs:
	"""What is under test: copies, so that everyone may run them and /proc/PID/exe is theirs alone."""

	def __init__(self):
		stage = os.path.join(WORK, 'stage')
		os.makedirs(os.path.join(stage, 'bin'))
		conmon = program('TANDEM_CONMON', os.path.join(BUILD, 'conmon/conmon'), os.path.join(BUILD, 'bin/conmon'))
		helper = program('TANDEM_NETNS_HELPER', os.path.join(BUILD, 'netns-helper/netns-helper'),
			os.path.join(BUILD, 'bin/netns-helper'))
		self.load = os.path.join(stage, 'bin/load')
		shutil.copy(program('TANDEM_LOAD', os.path.join(BUILD, 'tests/chaos/load')), self.load)
		self.reference = conmon.startswith('/usr/bin/')
		if self.reference:
			self.conmon, self.helper = conmon, helper
		else:
			self.conmon = shutil.copy(conmon, os.path.join(stage, 'bin/conmon'))
			self.helper = shutil.copy(helper, os.path.join(stage, 'bin/netns-helper'))
			library = os.path.join(os.path.dirname(conmon), '..', 'lib', 'tandem')
			shutil.copytree(library, os.path.join(stage, 'lib', 'tandem'))
		subprocess.run(['chmod', '-R', 'a+rX', stage], check=True)
		self.runc = shutil.which('runc', path='/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin')
		self.busybox = shutil.which('busybox')
		if not self.runc or not self.busybox:
			print('1..0 # SKIP runc and busybox-static are needed')
			sys.exit(0)


def restage(programs, name):
	"""A second copy, so that /proc/PID/exe tells whose processes they are. @return (conmon, helper)"""
	if programs.reference:
		return programs.conmon, programs.helper
	stage = os.path.join(WORK, name)
	shutil.copytree(os.path.join(WORK, 'stage'), stage)
	return os.path.join(stage, 'bin/conmon'), os.path.join(stage, 'bin/netns-helper')


def enter(seconds=600):
	"""Return inside the machine, in a process whose parent is process 1 and reaps orphans; after @seconds all of it ends."""
	netlab.sandbox()
	tap.watch(seconds)
	pid = os.fork()
	if pid:
		_reap_until(pid)
	os.mkdir(WORK)
	os.chmod(WORK, 0o755)
	# Podman wants to see mounts that it makes come back out of its own namespaces.
	subprocess.run(['mount', '--make-rshared', '/'], check=True)


def _reap_until(driver):
	while True:
		pid, status = os.waitpid(-1, 0)
		if pid == driver:
			os._exit(os.waitstatus_to_exitcode(status) & 255)


def until(condition, what, seconds=DEADLINE):
	"""Wait for @condition; its value, or an exception that says what did not happen."""
	end = time.monotonic() + seconds
	while True:
		value = condition()
		if value:
			return value
		if time.monotonic() > end:
			raise TimeoutError('%s: not within %g s' % (what, seconds))
		time.sleep(0.005)


# --- processes ---

def stat_of(pid):
	"""(state, ppid, pgrp, sid, start time) or None."""
	try:
		with open('/proc/%d/stat' % pid) as f:
			fields = f.read().rpartition(')')[2].split()
		return fields[0], int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19])
	except (OSError, IndexError):
		return None


def lives(pid):
	st = stat_of(pid)
	return st is not None and st[0] not in 'ZX'


def works(pid):
	"""Neither dead nor stopped."""
	st = stat_of(pid)
	return st is not None and st[0] not in 'ZXTt'


def running(exe):
	"""pid → stat of the living processes of the program @exe."""
	found = {}
	for name in os.listdir('/proc'):
		if not name.isdigit():
			continue
		try:
			if os.readlink('/proc/%s/exe' % name) != exe:
				continue
		except OSError:
			continue
		st = stat_of(int(name))
		if st and st[0] not in 'ZX':
			found[int(name)] = st
	return found


def cmdline(pid):
	try:
		with open('/proc/%d/cmdline' % pid, 'rb') as f:
			return f.read().replace(b'\0', b' ').decode('utf-8', 'replace')
	except OSError:
		return ''


def describe_fds(pid):
	"""What the descriptors of a process are, without their numbers: counted kinds."""
	kinds = {}
	try:
		names = os.listdir('/proc/%d/fd' % pid)
	except OSError:
		return kinds
	for fd in names:
		try:
			what = os.readlink('/proc/%d/fd/%s' % (pid, fd))
		except OSError:
			continue
		kind = what.split(':[')[0] if ':[' in what else what
		kinds[kind] = kinds.get(kind, 0) + 1
	return kinds


def describe_sockets(pid):
	"""One line for each socket of a process, as far as /proc/net knows it."""
	known = {}
	for table, at in (('tcp', 9), ('udp', 9), ('tcp6', 9), ('udp6', 9), ('unix', 6)):
		with open('/proc/net/' + table) as f:
			for line in f.readlines()[1:]:
				w = line.split()
				known[w[at]] = '%s %s' % (table, ' '.join(w[1:4]) if at == 9 else ' '.join(w[3:8]))
	found = []
	for fd in os.listdir('/proc/%d/fd' % pid):
		try:
			what = os.readlink('/proc/%d/fd/%s' % (pid, fd))
		except OSError:
			continue
		if what.startswith('socket:['):
			found.append('%s=%s' % (fd, known.get(what[8:-1], '?')))
	return sorted(found)


# --- journal ---

class Journal:
	"""A journald of our own."""

	def __init__(self):
		os.makedirs('/run/systemd/journald.conf.d')
		os.makedirs('/run/log', exist_ok=True)
		with open('/run/systemd/journald.conf.d/chaos.conf', 'w') as f:
			f.write('[Journal]\nStorage=volatile\nRuntimeMaxUse=400M\nRateLimitBurst=0\nRateLimitIntervalSec=0\n'
				'ReadKMsg=no\nAudit=no\n')
		self.process = subprocess.Popen(['/lib/systemd/systemd-journald'], stdin=subprocess.DEVNULL,
			stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
		until(lambda: os.path.exists('/run/systemd/journal/socket'), 'journald listens')

	def entries(self, *matches):
		"""Entries as objects; what is not text comes as a list of bytes."""
		subprocess.run(['journalctl', '--sync'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
		out = subprocess.run(['journalctl', '-q', '--all', '-o', 'json'] + list(matches), stdout=subprocess.PIPE,
			stderr=subprocess.DEVNULL).stdout
		return [json.loads(line) for line in out.splitlines() if line]

	def stop(self):
		self.process.terminate()
		self.process.wait()


def entry_bytes(value):
	return bytes(value) if isinstance(value, list) else (value or '').encode()


class Threads:
	"""Threads whose failure is not lost."""

	def __init__(self, book):
		self.book, self.all = book, []

	def start(self, function, *args):
		def run():
			try:
				function(*args)
			except Exception as e:	# noqa: B902
				self.book.fail('%s: %s: %s' % (function.__qualname__, type(e).__name__, e))
		t = threading.Thread(target=run, daemon=True)
		t.start()
		self.all.append(t)
		return t

	def join(self, seconds=60):
		end = time.monotonic() + seconds
		for t in self.all:
			t.join(max(0.0, end - time.monotonic()))
			if t.is_alive():
				self.book.fail('a thread of the load hangs')


def kill(pid, number=signal.SIGKILL):
	try:
		os.kill(pid, number)
		return True
	except ProcessLookupError:
		return False


def kill_all(find):
	"""Every process that @find lists, in one instant: stopped first, so that none of them can replace another meanwhile."""
	def all_stopped():
		pids = find()
		for p in pids:
			kill(p, signal.SIGSTOP)
		return not any(works(p) for p in find())
	until(all_stopped, 'all stopped')
	for p in find():
		kill(p)

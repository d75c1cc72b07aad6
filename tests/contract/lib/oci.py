# SPDX-License-Identifier: Apache-2.0
"""OCI bundles for the real runc, with a busybox root file system, and bundles that only a scripted runtime reads."""
import json
import os
import subprocess

import processes
import tap

RUNC = '/usr/sbin/runc'
BUSYBOX = '/bin/busybox'


def need_runc():
	for path in (RUNC, BUSYBOX):
		if not os.access(path, os.X_OK):
			raise tap.Skip('%s is not installed' % path)


def make_rootfs(path):
	os.makedirs(path + '/bin')
	for d in ('proc', 'dev', 'sys', 'shared', 'tmp', 'run', 'etc'):
		os.mkdir('%s/%s' % (path, d))
	os.chmod(path + '/tmp', 0o1777)
	subprocess.run(['cp', BUSYBOX, path + '/bin/busybox'], check=True)
	for name in subprocess.run([BUSYBOX, '--list'], stdout=subprocess.PIPE, check=True).stdout.decode().split():
		if name != 'busybox':
			os.symlink('busybox', '%s/bin/%s' % (path, name))


def process(script, *, terminal=False, user=0, env=()):
	"""The `process` object of the runtime specification: what a container or an exec session runs."""
	args = ['/bin/sh', '-c', script] if isinstance(script, str) else list(script)
	caps = ['CAP_KILL', 'CAP_CHOWN', 'CAP_DAC_OVERRIDE', 'CAP_SETUID', 'CAP_SETGID']
	return {'terminal': terminal, 'user': {'uid': user, 'gid': user}, 'args': args, 'cwd': '/',
		'env': ['PATH=/bin', 'TERM=xterm'] + list(env), 'rlimits': [], 'noNewPrivileges': True,
		'capabilities': {k: caps for k in ('bounding', 'effective', 'permitted')}}


def config(script, rootfs, shared, cgroup, *, memory=None, rootless=False, **how):
	mounts = [
		{'destination': '/proc', 'type': 'proc', 'source': 'proc'},
		{'destination': '/dev', 'type': 'tmpfs', 'source': 'tmpfs', 'options': ['nosuid', 'mode=755', 'size=65536k']},
		{'destination': '/dev/pts', 'type': 'devpts', 'source': 'devpts',
			'options': ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620'] + ([] if rootless else ['gid=5'])},
		{'destination': '/dev/shm', 'type': 'tmpfs', 'source': 'shm', 'options': ['nosuid', 'nodev', 'mode=1777']},
		{'destination': '/shared', 'type': 'bind', 'source': shared, 'options': ['bind', 'rw']},
	]
	linux = {'namespaces': [{'type': t} for t in ('pid', 'ipc', 'uts', 'mount')]}
	if not rootless:
		linux['cgroupsPath'] = cgroup
		linux['resources'] = {'devices': [{'allow': True, 'access': 'rwm'}]}
		if memory:
			linux['resources']['memory'] = {'limit': memory, 'swap': memory}
	return {'ociVersion': '1.0.2', 'process': process(script, **how), 'hostname': 'test', 'mounts': mounts, 'linux': linux,
		'root': {'path': rootfs, 'readonly': True}}


class Bundle:
	"""A container that is not created yet. Its directory `shared` is /shared inside."""

	def __init__(self, lab, ident, script, *, directory=None, **how):
		self.lab, self.id = lab, ident
		self.path = directory or lab.path('b-' + ident[:6])
		self.shared = lab.path('s-' + ident[:6])
		os.makedirs(self.path, exist_ok=True)
		os.mkdir(self.shared)
		os.chmod(self.shared, 0o777)
		self.terminal = how.get('terminal', False)
		if script is not None:
			with open(self.path + '/config.json', 'w') as f:
				json.dump(config(script, lab.rootfs, self.shared, '/contract/' + ident, **how), f)
		self.pidfile = self.path + '/pidfile'
		self.attach_path = self.path + '/attach'

	def file(self, name):
		return os.path.join(self.shared, name)

	def runc(self, *args, check=True):
		"""Run runc on this container; its combined output. It must not hang on what the container holds open."""
		out = self.lab.path('runc.out')
		with open(out, 'wb') as f:
			p = subprocess.run([RUNC, '--root', self.lab.runc_root] + list(args), stdin=subprocess.DEVNULL, stdout=f,
				stderr=f, timeout=15)
		with open(out, 'rb') as f:
			text = f.read().decode('utf-8', 'replace')
		if check and p.returncode != 0:
			tap.fail('runc %s: status %d: %s' % (' '.join(args), p.returncode, text))
		return text

	def start(self):
		self.runc('start', self.id)

	def kill(self, number=9):
		self.runc('kill', self.id, str(number))

	def delete(self):
		self.runc('delete', '--force', self.id, check=False)

	@property
	def pid(self):
		with open(self.pidfile) as f:
			return int(f.read())

	# gates: a FIFO in /shared by which the test says when the container may go on

	def fifo(self, name='go'):
		path = self.file(name)
		os.mkfifo(path)
		os.chmod(path, 0o666)
		return self.lab.own_fd(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))

	def wait_file(self, name, seconds=10):
		"""Wait until the container has made /shared/@name, and return what is in it."""
		path = self.file(name)
		tap.until(lambda: os.path.exists(path), 'the container makes /shared/%s' % name, seconds)
		with open(path, 'rb') as f:
			return f.read()

	def is_running(self):
		return processes.is_alive(self.pid)

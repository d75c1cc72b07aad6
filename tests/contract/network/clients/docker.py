#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""N-234 to N-240: rootless Docker, which runs its whole daemon inside RootlessKit, with the helper first in its PATH as slirp4netns.

Only where docker.io is installed: installing it starts a daemon that rewrites the host's packet filter, which is nobody's wish
who runs the tests of something else.
"""
import io
import os
import signal
import subprocess
import sys
import tarfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'lib'))
import engineuser
import helperlab
import netlab
import tap
from helperlab import connect_error, free_port
from netlab import HOST, HOST4, OUTSIDE, OUTSIDE4, run
from tap import test

SCRIPT = '/usr/share/docker.io/contrib/dockerd-rootless.sh'


class Docker:
	"""A running rootless daemon with an image of busybox alone."""

	def __init__(self, t):
		if not os.access(SCRIPT, os.X_OK) or not os.access('/usr/bin/docker', os.X_OK):
			raise tap.Skip('docker.io is not installed')
		env = engineuser.account(t)
		os.mkdir(t.path('bin'))
		os.symlink(helperlab.PROGRAM, t.path('bin/slirp4netns'))
		self.env = dict(env, PATH='%s:/usr/sbin:/usr/bin:/sbin:/bin' % t.path('bin'), DOCKER_HOST='unix://' + t.path('xdg/docker.sock'),
			DOCKERD_ROOTLESS_ROOTLESSKIT_NET='slirp4netns', DOCKERD_ROOTLESS_ROOTLESSKIT_PORT_DRIVER='slirp4netns')
		# under /run, of which RootlessKit makes a copy of links, runc takes no root directory
		run('mount', '-t', 'tmpfs', '-o', 'uid=%d,mode=700' % netlab.USER, 'docker', '/mnt')
		self.log = open(t.path('dockerd.log'), 'wb')
		self.process = subprocess.Popen([SCRIPT, '--storage-driver=vfs', '--data-root=/mnt/docker'], cwd='/', env=self.env, stdin=subprocess.DEVNULL,
			stdout=self.log, stderr=self.log, start_new_session=True, **engineuser.as_user())
		t.own(self)
		tap.until(lambda: 'Server' in self.do('version', check=False), 'the daemon answers', 30, 0.2)
		self.do('import', self._image(t), 'busybox')

	@staticmethod
	def _image(t):
		with tarfile.open(t.path('image.tar'), 'w') as tar:
			tar.add('/bin/busybox', 'bin/busybox')
			for name in ('proc', 'dev', 'sys', 'etc', 'tmp'):
				entry = tarfile.TarInfo(name)
				entry.type, entry.mode = tarfile.DIRTYPE, 0o755
				tar.addfile(entry, io.BytesIO())
		return t.path('image.tar')

	def do(self, *words, check=True):
		return run('/usr/bin/docker', *words, check=check, env=self.env, cwd='/', **engineuser.as_user())

	def helper(self):
		"""Pid of the helper's keeper, a child of RootlessKit."""
		for pid in netlab.descendants(self.process.pid):
			with open('/proc/%d/cmdline' % pid, 'rb') as f:
				if f.read().split(b'\0')[0] == b'slirp4netns':
					return pid
		raise tap.Failure('no helper among the descendants of the daemon')

	def close(self):
		"""As the user's service manager ends it; whatever is left dies with the sandbox."""
		if self.process.poll() is None:
			self.process.send_signal(signal.SIGTERM)
			try:
				self.process.wait(15)
			except subprocess.TimeoutExpired:
				self.process.kill()
				self.process.wait()
		self.log.close()


def carries(t, d, port, far):
	"""A byte through the published port from near and far, and one from a container to the world."""
	for at, address in ((HOST, '127.0.0.1'), (OUTSIDE, HOST4)):
		c = t.connect(at, address, port)
		c.settimeout(10)
		tap.same(helperlab.read_all(c), b'served\n', 'answer to %s' % address)
	asks = subprocess.Popen(['/usr/bin/docker', 'run', '--rm', 'busybox', '/bin/busybox', 'nc', OUTSIDE4,
		str(far.getsockname()[1]), '-e', '/bin/busybox', 'echo', 'asked'], env=d.env, cwd='/', stdin=subprocess.DEVNULL,
		stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **engineuser.as_user())
	far.settimeout(20)
	tap.same(helperlab.read_all(t.accept(far)[0]), b'asked\n', 'what the container sends')
	tap.same(asks.wait(20), 0, 'status of docker run')


def serve(d, port):
	d.do('run', '-d', '--name', 'serves', '-p', '%d:80' % port, 'busybox', '/bin/busybox', 'nc', '-ll', '-p', '80', '-e',
		'/bin/busybox', 'echo', 'served')
	tap.until(lambda: connect_error(HOST, '127.0.0.1', port) == '', 'the service listens')


@test('N-234 N-237 N-238', 'containers of rootless Docker reach the world and are published, and all of it ends', modes=['user'], deadline=90)
def _(t):
	d, port = Docker(t), free_port()
	serve(d, port)
	carries(t, d, port, t.listen(OUTSIDE, OUTSIDE4))
	d.do('rm', '-f', 'serves')
	tap.same(connect_error(HOST, '127.0.0.1', port), 'ECONNREFUSED', 'connect to the port of a removed container')
	pids = netlab.descendants(d.helper())
	d.close()
	for pid in pids:
		tap.until(lambda: not netlab.alive(pid), 'process %d of the helper is gone' % pid, 3)


@test('N-234', 'the worker under rootless Docker is killed: ports and the way out are there as before', modes=['user'], deadline=90,
	ours='nobody replaces a killed slirp4netns')
def _(t):
	d, port = Docker(t), free_port()
	serve(d, port)
	far = t.listen(OUTSIDE, OUTSIDE4)
	for _ in range(2):
		worker = netlab.descendants(d.helper())[-1]
		os.kill(worker, signal.SIGKILL)
		tap.until(lambda: not netlab.alive(worker), 'the worker is gone')
		carries(t, d, port, far)


helperlab.main()

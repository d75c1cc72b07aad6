#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""N-231 to N-233, N-139: the real Buildah, rootless, with the helper first in its PATH under the name slirp4netns."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'lib'))
import engineuser
import helperlab
import netlab
import tap
from netlab import OUTSIDE, OUTSIDE4, run
from tap import test

CONF = {
	'storage.conf': '[storage]\ndriver = "vfs"\ngraphroot = "%(home)s/graph"\nrunroot = "%(home)s/run"\n',
	'containers.conf': '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'
		'[engine]\ncgroup_manager = "cgroupfs"\n',
}


class Buildah:
	"""A working container of busybox alone."""

	def __init__(self, t):
		if not os.access('/usr/bin/buildah', os.X_OK) or not os.access('/usr/sbin/runc', os.X_OK):
			raise tap.Skip('buildah or runc is not installed')
		self.env = engineuser.account(t)
		home = self.env['HOME']
		for name, text in CONF.items():
			with open(os.path.join(home, name), 'w') as f:
				f.write(text % {'home': home})
		os.mkdir(t.path('bin'))
		os.symlink(helperlab.PROGRAM, t.path('bin/slirp4netns'))
		self.env.update(CONTAINERS_STORAGE_CONF=home + '/storage.conf', CONTAINERS_CONF=home + '/containers.conf',
			STORAGE_DRIVER='vfs', PATH=t.path('bin') + ':' + self.env['PATH'])
		self.container = self.do('from', 'scratch').strip().splitlines()[-1]
		self.do('copy', '-q', self.container, '/bin/busybox', '/bin/busybox')

	def do(self, *words):
		return run('buildah', *words, env=self.env, cwd='/', **engineuser.as_user())

	def words(self, *command):
		return ['buildah', 'run', '--runtime', '/usr/sbin/runc', self.container, '/bin/busybox'] + list(command)

	def run(self, *command, check=True):
		return run(*self.words(*command), env=self.env, cwd='/', check=check, **engineuser.as_user())


def helper_process():
	"""Pid and argument words of the running helper."""
	for pid in netlab.processes():
		try:
			with open('/proc/%d/cmdline' % pid, 'rb') as f:
				words = f.read().decode().rstrip('\0 ').split('\0')
			if words[-1] == 'tap0' and os.path.samefile('/proc/%d/exe' % pid, helperlab.PROGRAM):
				return pid, words
		except OSError:
			pass
	return None


@test('N-231 N-139', 'a running container has address, MTU and name server, and the helper is what Buildah started', modes=['user'],
	deadline=60)
def _(t):
	b = Buildah(t)
	listener = t.listen(OUTSIDE, OUTSIDE4)
	process = subprocess.Popen(b.words('nc', OUTSIDE4, str(listener.getsockname()[1]), '-e', '/bin/busybox', 'sh'),
		env=b.env, cwd='/', stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
		**engineuser.as_user())
	listener.settimeout(20)
	shell, peer = t.accept(listener)
	shell.sendall(b'b=/bin/busybox; $b ip addr show tap0; $b cat /etc/resolv.conf; echo done\n')
	text = b''
	while b'done' not in text:
		piece = shell.recv(65536)
		tap.true(piece, 'the container ended: %r' % text)
		text += piece
	text = text.decode()
	for part in ('10.0.2.100/24', 'mtu 65520', 'nameserver 10.0.2.3'):
		tap.has(text, part, 'output of the container')
	found = helper_process()
	tap.true(found, 'no helper is running')
	tap.has(found[1], '-c', 'arguments of the helper')
	pids = netlab.descendants(found[0])
	shell.close()
	process.wait()
	for pid in pids:
		tap.until(lambda: not netlab.alive(pid), 'process %d of the helper is gone' % pid, 3)


@test('N-231 N-232 N-6', 'one run after the other, with its own exit status, and nothing stays', modes=['user'], deadline=60)
def _(t):
	b = Buildah(t)
	for n in range(3):
		text = b.run('ip', 'addr', 'show', 'tap0')
		tap.has(text, '10.0.2.100/24', 'output')
		tap.has(text, 'mtu 65520', 'output')
		tap.same(helper_process(), None, 'helper')
	done = subprocess.run(b.words('sh', '-c', 'exit 7'), env=b.env, cwd='/', stdin=subprocess.DEVNULL,
		stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **engineuser.as_user())
	tap.same(done.returncode, 7, 'status')


@test('N-231 N-94', 'names are asked of the host\'s name server', modes=['user'], deadline=60)
def _(t):
	netlab.resolv_conf('127.0.0.1')
	u = t.udp(netlab.HOST, '127.0.0.1', 53)
	u.settimeout(20)
	b = Buildah(t)
	process = subprocess.Popen(b.words('nslookup', '-type=a', 'name.example', '10.0.2.3'), env=b.env, cwd='/',
		stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **engineuser.as_user())
	query, peer = u.recvfrom(512)
	tap.has(query, b'\4name\7example', 'query')
	record = b'\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4' + bytes([192, 0, 2, 7])
	u.sendto(query[:2] + b'\x81\x80\0\1\0\1\0\0\0\0' + query[12:] + record, peer)
	tap.has(process.communicate(timeout=20)[0], b'192.0.2.7', 'output of nslookup')


helperlab.main()

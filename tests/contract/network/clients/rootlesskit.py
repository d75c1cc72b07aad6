#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""N-234 to N-240: the real RootlessKit as the helper's caller, with its slirp4netns network and port drivers."""
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'lib'))
import engineuser
import helperlab
import netlab
import tap
from helperlab import connect_error, free_port
from netlab import HOST, HOST4, OUTSIDE, OUTSIDE4, Netns, run
from tap import test

class Kit:
	"""A running RootlessKit whose child waits."""

	def __init__(self, t, *options, name='kit'):
		env = engineuser.account(t)
		self.state = t.path(name)
		shutil.rmtree(self.state, ignore_errors=True)
		self.log = open(t.path(name + '.log'), 'wb')
		self.process = subprocess.Popen(['rootlesskit', '--debug', '--net=slirp4netns', '--copy-up=/etc',
			'--slirp4netns-binary=' + helperlab.PROGRAM, '--state-dir=' + self.state] + list(options) +
			['sh', '-c', 'echo up; exec cat >/dev/null'], cwd='/', env=env, **engineuser.as_user(),
			stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log)
		t.own(self)
		if self.process.stdout.readline() != b'up\n':
			raise tap.Failure('RootlessKit did not come up: %s' % open(self.log.name).read()[-400:])
		child = tap.until(self._child_pid, 'RootlessKit writes child_pid, which it does after the child has begun')
		self.guest = t.own(Netns('/proc/%s/ns/net' % child))
		self.guest.open()
		self.helper = self._helper_pid()

	def _child_pid(self):
		try:
			with open(self.state + '/child_pid') as f:
				return f.read().strip()
		except FileNotFoundError:
			return None

	def _helper_pid(self):
		for pid in netlab.descendants(self.process.pid):
			with open('/proc/%d/cmdline' % pid, 'rb') as f:
				words = f.read().split(b'\0')
			with open('/proc/%d/stat' % pid) as f:
				parent = int(f.read().rpartition(')')[2].split()[1])
			if parent == self.process.pid and b'tap0' in words:
				return pid
		raise tap.Failure('no helper among the children of RootlessKit')

	def ctl(self, *words):
		return run('rootlessctl', '--socket=' + self.state + '/api.sock', *words, **engineuser.as_user())

	def close(self):
		if self.process.poll() is None:
			self.process.kill()
		self.process.wait()
		self.process.stdin.close()
		self.process.stdout.close()
		self.log.close()


@test('N-234 N-235 N-237', 'RootlessKit comes up, its child has address, MTU and route, and reaches the world', modes=['user'])
def _(t):
	k = Kit(t)
	link = k.guest.link('tap0')
	tap.same((link['mtu'], k.guest.addresses('tap0')), (65520, ['10.0.2.100']), 'mtu and address')
	tap.same([r['gateway'] for r in k.guest.routes() if r['dst'] == 'default'], ['10.0.2.2'], 'default route')
	t.through(k.guest, t.listen(OUTSIDE, OUTSIDE4), OUTSIDE4)
	t.through(k.guest, t.listen(), '10.0.2.2')


@test('N-235', 'with every option that it can pass', modes=['user'])
def _(t):
	k = Kit(t, '--mtu=1500', '--cidr=10.41.0.0/16', '--disable-host-loopback', '--ipv6', '--slirp4netns-sandbox=true',
		'--slirp4netns-seccomp=true', '--port-driver=slirp4netns')
	tap.same((k.guest.link('tap0')['mtu'], k.guest.addresses('tap0')), (1500, ['10.41.0.100']), 'mtu and address')
	t.through(k.guest, t.listen(OUTSIDE, OUTSIDE4), OUTSIDE4)
	tap.same(connect_error(k.guest, '10.41.0.2', t.listen().getsockname()[1]), 'ENETUNREACH', 'connect to the gateway')
	tap.same(sorted(os.listdir('/proc/%d/root' % k.helper)), ['etc', 'run'], 'root directory of the helper')
	tap.same(helperlab.status_field(k.helper, 'Seccomp'), '2', 'seccomp mode of the helper')


@test('N-239', 'sandbox and filter auto, as Docker\'s start script has it', modes=['user'])
def _(t):
	k = Kit(t, '--mtu=65520', '--disable-host-loopback', '--slirp4netns-sandbox=auto', '--slirp4netns-seccomp=auto',
		'--port-driver=builtin')
	t.through(k.guest, t.listen(OUTSIDE, OUTSIDE4), OUTSIDE4)
	tap.same(sorted(os.listdir('/proc/%d/root' % k.helper)), ['etc', 'run'], 'root directory of the helper')


@test('N-238 N-173 N-179', 'the port driver: a published port, one added, one removed, source addresses kept', modes=['user'])
def _(t):
	first, second = free_port(), free_port()
	k = Kit(t, '--port-driver=slirp4netns', '--publish=0.0.0.0:%d:8080/tcp' % first)
	s = t.listen(k.guest, '0.0.0.0', 8080)
	c = t.connect(OUTSIDE, HOST4, first)
	p, peer = t.accept(s)
	tap.same(peer, c.getsockname(), 'peer that the service sees')
	tap.same(connect_error(HOST, '::1', first), 'ECONNREFUSED', 'connect to ::1')
	k.ctl('add-ports', '127.0.0.1:%d:8080/tcp' % second, '0.0.0.0:%d:53/udp' % second)
	tap.has(k.ctl('list-ports'), str(second), 'list of ports')
	c = t.connect(HOST, '127.0.0.1', second)
	p, peer = t.accept(s)
	p.sendall(b'x')
	tap.same((c.recv(1), peer[0]), (b'x', '10.0.2.2'), 'byte and peer')
	u = t.udp(k.guest, '0.0.0.0', 53)
	t.udp(OUTSIDE).sendto(b'datagram', (HOST4, second))
	tap.same(u.recv(100), b'datagram', 'datagram')
	k.ctl('remove-ports', '2')
	tap.same(connect_error(HOST, '127.0.0.1', second), 'ECONNREFUSED', 'connect after removal')
	tap.same(connect_error(OUTSIDE, HOST4, first), '', 'connect to the other port')


@test('N-238 N-167', 'a port that is taken is reported as an error', modes=['user'])
def _(t):
	k = Kit(t, '--port-driver=slirp4netns')
	taken = t.listen(HOST, '0.0.0.0').getsockname()[1]
	try:
		k.ctl('add-ports', '0.0.0.0:%d:80/tcp' % taken)
	except tap.Failure as e:
		tap.has(str(e), 'slirp_add_hostfwd failed', 'message')
	else:
		tap.fail('the port was accepted')


@test('N-6 N-139 N-241', 'RootlessKit is killed: helper and ports are gone, and the next one takes the same; five times',
	modes=['user'], deadline=40)
def _(t):
	port = free_port()
	for n in range(5):
		k = Kit(t, '--port-driver=slirp4netns', '--publish=0.0.0.0:%d:8080/tcp' % port, name='kit%d' % n)
		pids = netlab.descendants(k.helper)
		t.listen(k.guest, '0.0.0.0', 8080)
		tap.same(connect_error(HOST, '127.0.0.1', port), '', 'connect')
		if n % 2:
			k.process.kill()
		else:
			k.process.stdin.close()		# the child ends, and RootlessKit ends the helper
		k.process.wait()
		for pid in pids:
			tap.until(lambda: not netlab.alive(pid), 'process %d of the helper is gone' % pid, 3)
		tap.same(connect_error(HOST, '127.0.0.1', port), 'ECONNREFUSED', 'connect afterwards')


helperlab.main()

#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""N-59 to N-71: entering namespaces and getting the tap, by every kind of target."""
import errno
import fcntl
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import helperlab
import netlab
import tap
from helperlab import ALL, ROOTLESS
from tap import test

TUNSETIFF, TUNSETPERSIST = 0x400454ca, 0x400454cb
IFF_TUN, IFF_TAP, IFF_NO_PI, IFF_MULTI_QUEUE = 0x0001, 0x0002, 0x1000, 0x0100


def attach(guest, name, flags):
	"""A descriptor of the link @name of the guest, made by us."""
	with guest:
		fd = os.open('/dev/net/tun', os.O_RDWR | os.O_CLOEXEC)
		fcntl.ioctl(fd, TUNSETIFF, struct.pack('16sH22x', name.encode(), flags))
	return fd


def serves(t, guest):
	"""The guest reaches a service on the host's loopback."""
	s = t.listen()
	c, p, _ = t.through(guest, s)
	c.sendall(b'ping')
	tap.same(p.recv(16), b'ping', 'bytes through the helper')


@test('N-62', 'a PID is a target', modes=ALL)
def _(t):
	g = t.guest()
	t.start(g, kind='pid')
	serves(t, g)


@test('N-19 N-60 N-62 N-64', 'a path is a target, with --userns-path where the caller is outside', modes=ALL)
def _(t):
	g = t.guest()
	t.start(g, kind='path')
	serves(t, g)


@test('N-64', 'a bind-mounted namespace file is a target, and may be unmounted once the helper is ready')
def _(t):
	g = t.guest()
	path = t.path('netns')
	open(path, 'w').close()
	netlab.run('mount', '--bind', g.path, path)
	words = ['--userns-path=' + g.userns_path] if t.mode == 'user' else []
	h = t.raw('-c', *words, '--netns-type=path', path, 'tap0', ready=True)
	h.wait_ready()
	netlab.run('umount', path)
	os.unlink(path)
	serves(t, g)


@test('N-64 N-70', 'the process behind the target may end once the helper is ready')
def _(t):
	for kind in ('pid', 'path'):
		g = t.guest()
		# with -e: the wish to keep the network is plain (N-142)
		h = t.start(g, kind=kind, exit_fd=True)
		g.end()
		serves(t, g)
		tap.true(h.is_alive(), 'the helper left with the process')
		h.close()


@test('N-64', 'a file that is no namespace is refused with status 1 and no ready byte')
def _(t):
	for path in ('/etc/passwd', '/proc/self/ns/uts', '/'):
		h = t.raw('-c', '--netns-type=path', path, 'tap0', ready=True)
		tap.same((h.reap(), h.read_ready(0)), (1, b''), 'status and ready descriptor with ' + path)
		tap.true(h.err().strip(), 'no word on stderr')


@test('N-5 N-40', 'a PID that does not exist is refused with status 1 and no ready byte')
def _(t):
	h = t.raw('-c', '999999', 'tap0', ready=True)
	tap.same((h.reap(), h.read_ready(0)), (1, b''), 'status and ready descriptor')
	tap.has(h.err(), '999999', 'stderr')


@test('N-62', 'an ordinary user cannot enter by path alone: status 1, nothing left behind', modes=['user'])
def _(t):
	g = t.guest()
	h = t.raw('-c', '--netns-type=path', g.path, 'tap0', ready=True)
	tap.same((h.reap(), h.read_ready(0)), (1, b''), 'status and ready descriptor')
	tap.has(h.err(), 'Operation not permitted', 'stderr')
	tap.same(g.link('tap0'), None, 'link')


@test('N-62', 'an ordinary user cannot take the namespaces of another', modes=['user'])
def _(t):
	g = t.guest(owner=netlab.USER + 1, userns=True)
	h = t.raw('-c', g.pid, 'tap0', ready=True)
	tap.same((h.reap(), h.read_ready(0)), (1, b''), 'status and ready descriptor')
	tap.same(g.link('tap0'), None, 'link')


@test('N-61', 'entering one\'s own user namespace fails, and that is ignored', modes=[ROOTLESS])
def _(t):
	g = t.guest()
	h = t.raw('-c', g.pid, 'tap0', ready=True)
	h.wait_ready()
	serves(t, g)


@test('N-63', 'the target may belong to a descendant of the caller\'s user namespace', modes=['root', ROOTLESS])
def _(t):
	g = t.guest(userns=True, owner=netlab.USER)
	h = t.raw('-c', '--netns-type=path', g.path, 'tap0', ready=True)
	h.wait_ready()
	serves(t, g)


@test('N-3 N-59', 'the helper stays in its own network namespace, and the guest sees the tap only', modes=ALL)
def _(t):
	g, h, path = t.api_pair()
	for pid in h.all_pids():
		tap.same(os.readlink('/proc/%d/ns/net' % pid), os.readlink('/proc/self/ns/net'), 'network namespace')
	port = helperlab.free_port()
	helperlab.forward(path, port, 80)
	listening = g.run('ss', '-Hltn') + g.run('ss', '-Hlun')
	tap.same(listening, '', 'sockets listening in the guest')
	tap.same(sorted(l['ifname'] for l in g.links()), ['lo', 'tap0'], 'links of the guest')
	tap.same([l['ifname'] for l in netlab.HOST.links() if 'tap' in l['ifname']], [], 'taps on the host')


@test('N-65 N-234', 'an existing persistent tap is used as it is, and stays')
def _(t):
	g = t.guest()
	g.ip('tuntap', 'add', 'name', 'tap0', 'mode', 'tap')
	g.ip('link', 'set', 'tap0', 'up')
	before = g.link('tap0')
	h = t.start(g, configure=False)
	g.ip('addr', 'add', '10.0.2.100/24', 'dev', 'tap0')
	g.ip('route', 'add', 'default', 'via', '10.0.2.2')
	after = g.link('tap0')
	tap.same((after['address'], after['mtu'], after['ifindex']),
		(before['address'], before['mtu'], before['ifindex']), 'address, mtu and index of the tap')
	serves(t, g)
	h.kill()
	tap.true(g.link('tap0'), 'the tap went with the helper')
	h = t.start(g, configure=False)
	serves(t, g)


@test('N-65', 'a tun device and a multi-queue tap of that name are refused, and stay')
def _(t):
	for kind in (['mode', 'tun'], ['mode', 'tap', 'multi_queue']):
		g = t.guest()
		g.ip('tuntap', 'add', 'name', 'tap0', *kind)
		h = t.raw('-c', *t.target(g), 'tap0', ready=True)
		tap.same((h.reap(), h.read_ready(0)), (1, b''), 'status and ready descriptor with %r' % kind)
		tap.true(h.err().strip(), 'no word on stderr')
		tap.true(g.link('tap0'), 'the link is gone')


@test('N-65', 'a name that belongs to another kind of link is refused, and the link is left alone')
def _(t):
	g = t.guest()
	g.ip('link', 'add', 'tap0', 'type', 'bridge')
	before = g.link('tap0')
	h = t.raw('-c', *t.target(g), 'tap0', ready=True)
	tap.same((h.reap(), h.read_ready(0)), (1, b''), 'status and ready descriptor')
	tap.same(g.link('tap0'), before, 'link')


@test('N-65 N-69', 'a tap to which another process is attached is refused with status 1')
def _(t):
	g = t.guest()
	fd = attach(g, 'tap0', IFF_TAP | IFF_NO_PI)
	try:
		h = t.raw('-c', *t.target(g), 'tap0', ready=True)
		tap.same((h.reap(), h.read_ready(0)), (1, b''), 'status and ready descriptor')
		tap.has(h.err(), os.strerror(errno.EBUSY), 'stderr')
	finally:
		os.close(fd)


@test('N-65', 'a second helper for the same name fails and does not disturb the first')
def _(t):
	g, first = t.pair()
	h = t.raw('-c', *t.target(g), 'tap0', ready=True)
	tap.same((h.reap(), h.read_ready(0)), (1, b''), 'status and ready descriptor')
	serves(t, g)


@test('N-66 N-74', 'without -c the link is down, has the kernel\'s MTU and no address, and lo is down')
def _(t):
	g = t.guest()
	t.start(g, '--mtu=9000', configure=False)
	link = g.link('tap0')
	tap.true('UP' not in link['flags'], 'the link is up: %r' % link['flags'])
	tap.true('BROADCAST' in link['flags'], 'flags %r' % link['flags'])
	tap.same((link['mtu'], link['addr_info']), (1500, []), 'mtu and addresses')
	tap.true('UP' not in g.link('lo')['flags'], 'lo is up')
	tap.same(g.routes(), [], 'routes')


@test('N-66', 'the link goes when the helper goes, with -c and without')
def _(t):
	for configure in (True, False):
		g = t.guest()
		h = t.start(g, configure=configure)
		h.kill()
		tap.same(g.link('tap0'), None, 'link')


@test('N-68', 'any name of up to 15 bytes is taken')
def _(t):
	for name in ('a', 'eth0', 'x' * 15):
		g = t.guest()
		h = t.start(g, link=name)
		tap.true(g.link(name), 'no link %s' % name)
		h.close()


@test('N-68', 'an empty name or one above 15 bytes is refused',
	ours='the reference cuts the name, and lets the kernel choose an empty one')
def _(t):
	g = t.guest()
	t.refused('-c', *t.target(g), 'x' * 16)
	t.refused('-c', *t.target(g), '')
	tap.same([l['ifname'] for l in g.links()], ['lo'], 'links')


@test('N-2', 'without /dev/net/tun the reason is said and the status is 1, unless no tap is needed')
def _(t):
	g = t.guest()
	hide = ['unshare', '--mount', 'sh', '-c', 'mount -t tmpfs none /dev/net && exec "$@"', 'sh']
	if t.mode == 'user':
		raise tap.Skip('an ordinary user cannot hide a device from the helper without a user namespace')
	h = t.raw('-c', *t.target(g), 'tap0', ready=True, prefix=hide)
	seen = h.read_ready()
	if seen == b'1':
		serves(t, g)
	else:
		tap.same((h.reap(), seen), (1, b''), 'status and ready descriptor')
		tap.has(h.err(), '/dev/net/tun', 'stderr')
		tap.same(g.link('tap0'), None, 'link')


helperlab.main(ALL)

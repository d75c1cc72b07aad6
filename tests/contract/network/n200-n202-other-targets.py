#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""N-200 to N-202: the packet socket server, and inherited taps."""
import fcntl
import os
import signal
import socket
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import frames
import helperlab
import tap
from helperlab import ROOTLESS
from netlab import pidfd_wait
from tap import test

ME = frames.mac('02:00:00:00:00:01')


def bess(t, *options, **how):
	path = t.path('bess.sock')
	h = t.raw('--target-type=bess', *options, path, ready=True, **how)
	tap.until(lambda: os.path.exists(path) and 'bess.sock' in open('/proc/net/unix').read(), 'the listener is there')
	return h, path


def client(path):
	s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
	s.connect(path)
	s.settimeout(5)
	return s


def arp(s, wanted='10.0.2.2'):
	s.send(frames.arp_request(ME, '10.0.2.100', wanted))
	return frames.Packet(s.recv(70000))


@test('N-26 N-200 N-201', 'one client is served, one message is one frame; readiness comes with the client')
def _(t):
	h, path = bess(t)
	tap.same(h.read_ready(0.3), None, 'ready descriptor before the client')
	s = t.own(client(path))
	tap.same(h.read_ready(), b'1', 'ready descriptor')
	answer = arp(s)
	tap.same((answer.kind, answer.payload[7], answer.payload[8:14]), (frames.ARP, 2, frames.GATEWAY_MAC), 'answer')
	s.send(frames.ether(frames.GATEWAY_MAC, ME, frames.IPV4, frames.echo4('10.0.2.100', '10.0.2.2', 1, 1)))
	answer = frames.Packet(s.recv(70000))
	tap.same((answer.proto, answer.payload[0], answer.saddr), (1, 0, '10.0.2.2'), 'echo reply')


@test('N-200', 'a second client is refused, and the path stays at the end')
def _(t):
	h, path = bess(t, exit_fd=True)
	s = t.own(client(path))
	tap.same(h.read_ready(), b'1', 'ready descriptor')
	arp(s)
	try:
		client(path).close()
		tap.fail('a second client was connected')
	except ConnectionRefusedError:
		pass
	h.close_exit()
	tap.same(h.reap(), 0, 'status')
	tap.true(os.path.exists(path), 'the path is gone')


@test('N-200', 'an existing path is replaced, one of 108 bytes or more refused')
def _(t):
	open(t.path('bess.sock'), 'w').close()
	h, path = bess(t)
	s = t.own(client(path))
	arp(s)
	t.refused('--target-type=bess', t.path('x' * 100))


@test('N-200', 'options that concern the stack work: network, MTU, IPv6')
def _(t):
	h, path = bess(t, '--cidr=10.9.0.0/24', '--enable-ipv6', '--mtu=65520')
	s = t.own(client(path))
	tap.same(arp(s, '10.9.0.2').payload[8:14], frames.mac('52:55:0a:09:00:02'), 'hardware address of the gateway')
	s.send(frames.router_solicitation(ME))
	while True:
		p = frames.Packet(s.recv(70000))
		if p.proto == 58 and p.payload[0] == 134:
			break


@test('N-201', 'SIGTERM while waiting for the client leaves no process', ours='the reference orphans its child')
def _(t):
	h, path = bess(t)
	pids = h.all_pids()
	h.signal(signal.SIGTERM)
	h.reap(3)
	for pid in pids:
		tap.until(lambda: not helperlab.netlab.alive(pid), 'process %d is gone' % pid, 1)


@test('N-201', 'when the client has gone it ends with status 0, or accepts again', ours='the reference spins')
def _(t):
	h, path = bess(t)
	s = client(path)
	arp(s)
	s.close()
	if pidfd_wait(h.pid, 2):
		tap.same(h.reap(), 0, 'status')
	else:
		arp(t.own(client(path)))


def inherited_tap(t, guest):
	with guest:
		fd = os.open('/dev/net/tun', os.O_RDWR | os.O_CLOEXEC)
		fcntl.ioctl(fd, 0x400454ca, struct.pack('16sH22x', b'tap0', 0x1002))
	guest.ip('link', 'set', 'tap0', 'up')
	guest.ip('addr', 'add', '10.0.2.100/24', 'dev', 'tap0')
	guest.ip('route', 'add', 'default', 'via', '10.0.2.2')
	return fd


@test('N-18 N-202', 'an inherited tap is served as it is', ours='since 1.3')
def _(t):
	g = t.guest()
	fd = inherited_tap(t, g)
	h = t.raw('--netns-type=tapfd', fd, ready=True, extra_fds=[fd])
	os.close(fd)
	h.wait_ready()
	t.through(g, t.listen())
	h.kill()
	tap.same(g.link('tap0'), None, 'link')


@test('N-202 N-33', 'a descriptor that is not open, no tap, or no number is refused', ours='since 1.3, and not there')
def _(t):
	r, w = os.pipe()
	for value, fds in (('77', []), (str(r), [r]), ('x', []), ('-1', []), ('', [])):
		h = t.raw('--netns-type=tapfd', '--', value, ready=True, extra_fds=fds)
		tap.same((h.reap(3), h.read_ready(0)), (1, b''), 'status and ready descriptor with %r' % value)
		tap.true('tapfd' in h.err() or value in h.err(), 'stderr: %r' % h.err())
	os.close(r)
	os.close(w)
	if helperlab.REFERENCE:		# it takes the word for a path, and so ends as well
		tap.fail('1.2.0 does not know tapfd')


helperlab.main()

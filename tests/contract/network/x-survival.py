#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What outlives a killed worker on the plain path (--data-path=slirp), and what a killed keeper means (N-242 to N-245).

Our helper only: the reference is one process.
"""
import os
import signal
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import frames
import helperlab
import netlab
import tap
from helperlab import api, api_open, forward, free_port, n_fds, read_all
from netlab import HOST, HOST4, OUTSIDE, OUTSIDE4
from tap import test

MORE = 'an addition'
ME, ANOTHER = frames.mac('02:00:00:00:00:99'), frames.mac('02:00:00:00:00:98')


def worker_of(pid):
	"""The worker of the keeper @pid, by parentage."""
	children = netlab.descendants(pid)
	return [p for p in children if p != pid]


def kill_worker(h, number=signal.SIGKILL):
	"""Kill the worker and wait until another one works."""
	restarts = h.err().count('works again')
	before = tap.until(lambda: worker_of(h.pid), 'a worker')
	for pid in before:
		os.kill(pid, number)
	tap.until(lambda: h.err().count('works again') > restarts, 'the next worker works', 15)
	return before


def slirp(t, *options, **how):
	return t.api_pair('--data-path=slirp', *options, **how)


@test('N-6', 'connections inside the stack are reset at once on both sides when its worker is killed', ours=MORE)
def _(t):
	g, h, path = slirp(t)
	port = free_port()
	forward(path, port, 8080)
	outward = t.through(g, t.listen(OUTSIDE, OUTSIDE4), OUTSIDE4)[:2]
	service = t.listen(g, '0.0.0.0', 8080)
	c = t.connect(OUTSIDE, HOST4, port)
	inward = (c, t.accept(service)[0])
	for a, b in (outward, inward):
		a.sendall(b'x')
		tap.same(b.recv(10), b'x', 'bytes before')
	kill_worker(h)
	for pair, what in ((outward, 'outward'), (inward, 'inward')):
		for end, name in zip(pair, ('client', 'server')):
			end.settimeout(2)
			try:
				seen = end.recv(10)
			except ConnectionResetError:
				seen = 'reset'
			except socket.timeout:
				seen = 'nothing'
			tap.same(seen, 'reset', '%s of the %s connection' % (name, what))


@test('N-182', '100 kills under a loop of clients: none is refused, and one that comes in the gap is served', ours=MORE,
	deadline=120)
def _(t):
	g, h, path = slirp(t)
	port = free_port()
	forward(path, port, 8080)
	service = t.listen(g, '0.0.0.0', 8080)
	fds = n_fds(h)
	cut = 0
	for n in range(100):
		restarts = h.err().count('works again')
		for pid in tap.until(lambda: worker_of(h.pid), 'a worker'):
			os.kill(pid, signal.SIGKILL)
		c = OUTSIDE.connect(HOST4, port)	# ConnectionRefusedError fails the test
		with c:
			s, peer = service.accept()
			with s:
				tap.same(peer, c.getsockname(), 'peer that the service sees')
				c.sendall(b'request %d' % n)
				tap.same(s.recv(100), b'request %d' % n, 'request')
				s.sendall(b'answer')
				s.shutdown(socket.SHUT_WR)
				tap.same(read_all(c), b'answer', 'answer')
		tap.until(lambda: h.err().count('works again') > restarts, 'the next worker works', 15)
	tap.same(api(path, 'list_hostfwd')['entries'][0]['id'], 1, 'id of the forward')
	tap.until(lambda: n_fds(h) <= fds + 1, 'descriptors are back at %d' % fds, 10)
	h.kill()
	tap.same(g.link('tap0'), None, 'link')


@test('N-171 N-84', 'ids, UDP forwards, DHCP leases and the API path go on', ours=MORE)
def _(t):
	g, h, path = slirp(t)
	ports = [free_port(kind=socket.SOCK_DGRAM) for _ in range(3)]
	for n, port in enumerate(ports):
		forward(path, port, 5000 + n, proto='udp')
	api(path, 'remove_hostfwd', id=2)
	services = [t.udp(g, '0.0.0.0', 5000 + n) for n in range(3)]
	s = g.packets('tap0')
	leases = [frames.ask_dhcp(s, frames.dhcp(m, frames.DISCOVER, xid=n)).yiaddr for n, m in enumerate((ME, ANOTHER))]
	tap.same(leases, ['10.0.2.15', '10.0.2.16'], 'leases')
	kill_worker(h)
	tap.same([e['id'] for e in api(path, 'list_hostfwd')['entries']], [1, 3], 'ids')
	tap.same(api(path, 'add_hostfwd', proto='udp', host_port=ports[1], guest_port=5001)['return']['id'], 4, 'next id')
	for service, port in zip(services, ports):
		c = t.udp(OUTSIDE, '0.0.0.0')
		c.sendto(b'q', (HOST4, port))
		data, peer = service.recvfrom(10)
		tap.same((data, peer[0]), (b'q', OUTSIDE4), 'datagram and source')
		service.sendto(b'a', peer)
		tap.same(c.recvfrom(10), (b'a', (HOST4, port)), 'answer')
	again = frames.ask_dhcp(s, frames.dhcp(ANOTHER, frames.DISCOVER, xid=9)).yiaddr
	tap.same(again, '10.0.2.16', 'address of the second MAC, which asks first this time')


@test('N-149', 'an API client that asked while there was no worker gets its answer', ours=MORE)
def _(t):
	g, h, path = slirp(t)
	early = api_open(path)			# accepted, says nothing yet
	tap.until(lambda: n_fds(h), 'descriptors')
	for pid in worker_of(h.pid):
		os.kill(pid, signal.SIGKILL)
	late = api_open(path)
	for c in (early, late):
		c.sendall(b'{"execute":"list_hostfwd"}')
	for c in (early, late):
		c.settimeout(5)
		tap.same(read_all(c), b'{"return":{"entries":[]},"entries":[]}', 'answer')
		c.close()


@test('N-1', 'a stopped worker is replaced, and the story is told on stderr', ours=MORE)
def _(t):
	g, h, path = slirp(t)
	old = kill_worker(h, signal.SIGSTOP)
	tap.until(lambda: not [p for p in old if netlab.alive(p)], 'the stopped one is gone')
	t.through(g, t.listen(OUTSIDE, OUTSIDE4), OUTSIDE4)
	tap.has(h.err(), 'does not respond', 'stderr')
	tap.has(h.err(), 'killed by SIGKILL', 'stderr')


@test('N-242 N-136', 'with an exit descriptor the network outlives its keeper, and ends on that descriptor all the same', ours=MORE)
def _(t):
	for options in ([], ['--enable-seccomp'], ['--enable-sandbox', '--enable-seccomp']):
		g, h, path = slirp(t, *options, exit_fd=True)
		port = free_port()
		forward(path, port, 8080)
		worker = worker_of(h.pid)[0]
		h.process.kill()
		h.reap()
		keeper = tap.until(lambda: [p for p in netlab.descendants(worker) if p != worker], 'a new keeper')[0]
		t.through(g, t.listen(OUTSIDE, OUTSIDE4), OUTSIDE4)
		os.kill(worker, signal.SIGKILL)		# the new keeper starts another worker
		second = tap.until(lambda: [p for p in netlab.descendants(keeper) if p != keeper], 'a new worker', 10)
		service = t.listen(g, '0.0.0.0', 8080)
		c = t.connect(OUTSIDE, HOST4, port)
		t.accept(service)
		h.close_exit()
		tap.until(lambda: not [p for p in [keeper] + second if netlab.alive(p)], 'both are gone')
		tap.until(lambda: g.link('tap0') is None, 'the link is gone')


@test('N-128', 'after kills of the worker the exit descriptor still ends everything', ours=MORE)
def _(t):
	g, h, path = slirp(t, exit_fd=True)
	for _ in range(5):
		kill_worker(h)
	h.close_exit()
	tap.same(h.reap(), 0, 'status')
	tap.same(g.link('tap0'), None, 'link')
	tap.same(os.path.exists(path), False, 'API path is there')


def wear_out(helpers):
	"""Let each worker of @helpers die as by a bug of its own, until its keeper says that this leads nowhere."""
	deaths = dict.fromkeys(helpers, 0)
	seen = set()
	while not all('cannot be started' in h.err() for h in helpers):
		for h in helpers:
			if 'cannot be started' in h.err():
				continue
			for pid in set(worker_of(h.pid)) - seen:
				seen.add(pid)
				os.kill(pid, signal.SIGSEGV)
				deaths[h] += 1
		netlab.pidfd_wait(helpers[0].pid, 0.02)
	return deaths


@test('N-242', '--on-worker-failure: when workers keep dying, stop ends the network cleanly, and continue goes on trying', ours=MORE,
	modes=['user'], deadline=120)
def _(t):
	if helperlab.REFERENCE:
		tap.fail('it has no workers')
	guests, helpers, ports = [t.guest() for _ in range(3)], [], [free_port() for _ in range(3)]
	for n, options in enumerate((['--on-worker-failure=stop'], ['--on-worker-failure=stop', '--data-path=slirp'], ['--data-path=slirp'])):
		path = t.path('api%d.sock' % n)
		helpers.append(t.start(guests[n], '-a', path, '-p', '%d:8080' % ports[n], *options, exit_fd=True))
	last = helpers.pop()
	deaths = wear_out(helpers + [last])
	tap.same(set(deaths.values()), {12}, 'deaths of each')
	for n, h in enumerate(helpers):
		tap.same(h.reap(), 1, 'status')
		tap.has(h.err(), '12 deaths in a row', 'stderr')
		tap.same(guests[n].link('tap0'), None, 'link')
		tap.same(os.path.exists(t.path('api%d.sock' % n)), False, 'API path is there')
		tap.same(helperlab.connect_error(HOST, '127.0.0.1', ports[n]), 'ECONNREFUSED', 'connect to the port')
	tap.true(last.is_alive(), 'continue: it has ended')
	service = t.listen(guests[2], '0.0.0.0', 8080)
	c = t.connect(HOST, '127.0.0.1', ports[2])		# waits in the queue of the port until there is a worker
	service.settimeout(20)
	p, _ = t.accept(service)
	c.sendall(b'x')
	tap.same(p.recv(1), b'x', 'byte')
	last.close_exit()
	tap.same(last.reap(), 0, 'status')


helperlab.main()

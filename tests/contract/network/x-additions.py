#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What ours has beyond the reference: IPv6 and dual-stack forwards, ranges, chosen ports, -p, list with flows.

N-174 is the clause that allows it. Every old request is answered byte for byte as before (N-157 to N-178).
"""
import json
import os
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import helperlab
import tap
from helperlab import api, connect_error, forward, free_port, read_all
from netlab import HOST, HOST4, HOST6, OUTSIDE, OUTSIDE4, OUTSIDE6
from tap import test

MORE = 'an addition'


def six(t, *options):
	"""A guest with IPv6, its helper and API."""
	g = t.guest()
	g.sysctl('net.ipv6.conf.default.accept_dad', 0)
	path = t.path('api.sock')
	h = t.start(g, '--enable-ipv6', '-a', path, '--macaddress=02:00:00:00:00:05', *options)
	tap.until(lambda: g.addresses('tap0', 'inet6', 'global') and
		[r for r in g.routes('-6') if r['dst'] == 'default'], 'IPv6 in the guest')
	return g, h, path


def add(path, **arguments):
	answer = api(path, 'add_hostfwd', **arguments)
	if 'return' not in answer:
		raise tap.Failure('add_hostfwd %r: %r' % (arguments, answer))
	return answer['return']


def reaches(t, service, at, address, port):
	"""A client connects to address:port of the host and reaches the service: the peer that it sees."""
	c = t.connect(at, address, port)
	s, peer = t.accept(service)
	c.sendall(b'request')
	tap.same(s.recv(100), b'request', 'bytes')
	s.sendall(b'answer')
	s.close()
	tap.same(read_all(c), b'answer', 'bytes')
	return peer


@test('N-174', 'tcp6: a rule on :: listens on IPv6 only and keeps the client\'s address', ours=MORE)
def _(t):
	g, h, path = six(t)
	port = free_port()
	add(path, proto='tcp6', host_port=port, guest_port=8080)
	s = t.listen(g, '::', 8080)
	tap.same(reaches(t, s, OUTSIDE, HOST6, port)[0], OUTSIDE6, 'peer from outside')
	tap.same(reaches(t, s, HOST, '::1', port)[0], 'fd00::2', 'peer from the host\'s loopback')
	tap.same(connect_error(HOST, '127.0.0.1', port), 'ECONNREFUSED', 'connect by IPv4')
	add(path, proto='tcp', host_port=port, guest_port=8080)


@test('N-174', 'an IPv6 literal as host address needs no digit in the protocol', ours=MORE)
def _(t):
	g, h, path = six(t)
	port = free_port()
	add(path, proto='tcp', host_addr='::1', host_port=port, guest_port=8080)
	s = t.listen(g, '::', 8080)
	reaches(t, s, HOST, '::1', port)
	tap.same(connect_error(OUTSIDE, HOST6, port), 'ECONNREFUSED', 'connect to another address')


@test('N-174', 'udp6', ours=MORE)
def _(t):
	g, h, path = six(t)
	port = free_port()
	add(path, proto='udp6', host_port=port, guest_port=53)
	u = t.udp(g, '::', 53)
	c = t.udp(OUTSIDE, '::')
	for n in range(3):
		c.sendto(b'query', (HOST6, port))
		data, peer = u.recvfrom(100)
		tap.same((data, peer[0]), (b'query', OUTSIDE6), 'datagram and source')
		u.sendto(b'answer', peer)
		data, peer = c.recvfrom(100)
		tap.same((data, peer[1]), (b'answer', port), 'answer and source port')


@test('N-174', 'dual-stack: one id for both families, removed together', ours=MORE)
def _(t):
	g, h, path = six(t)
	port = free_port()
	n = add(path, proto='tcp', dual_stack=True, host_port=port, guest_port=8080)['id']
	s4, s6 = t.listen(g, '0.0.0.0', 8080), t.listen(g, '::', 8080)
	tap.same(reaches(t, s4, OUTSIDE, HOST4, port)[0], OUTSIDE4, 'peer by IPv4')
	tap.same(reaches(t, s6, OUTSIDE, HOST6, port)[0], OUTSIDE6, 'peer by IPv6')
	tap.same(api(path, 'remove_hostfwd', id=n), {'return': {}}, 'answer')
	tap.same(connect_error(HOST, '127.0.0.1', port), 'ECONNREFUSED', 'connect by IPv4 afterwards')
	tap.same(connect_error(HOST, '::1', port), 'ECONNREFUSED', 'connect by IPv6 afterwards')
	tap.same(api(path, 'list_hostfwd')['entries'], [], 'list')


@test('N-174', 'IPv6 rules without --enable-ipv6 are refused with a reason', ours=MORE)
def _(t):
	g, h, path = t.api_pair()
	answer = api(path, 'add_hostfwd', proto='tcp6', host_port=free_port(), guest_port=80)
	tap.true('error' in answer and 'IPv6' in json.dumps(answer), 'answer %r' % answer)


@test('N-171', 'a range of ports is one request, one id, all or nothing', ours=MORE)
def _(t):
	g, h, path = t.api_pair()
	first = 20000		# below the ports that connections take
	n = add(path, proto='tcp', host_port=first, host_port_end=first + 9, guest_port=8000)['id']
	for k in (0, 5, 9):
		reaches(t, t.listen(g, '0.0.0.0', 8000 + k), HOST, '127.0.0.1', first + k)
	api(path, 'remove_hostfwd', id=n)
	tap.same(connect_error(HOST, '127.0.0.1', first + 5), 'ECONNREFUSED', 'connect afterwards')
	taken = t.listen(HOST, '127.0.0.1', first + 7)
	answer = api(path, 'add_hostfwd', proto='tcp', host_port=first, host_port_end=first + 9, guest_port=8000)
	tap.true('error' in answer, 'answer %r' % answer)
	for k in (0, 5, 9):
		t.listen(HOST, '0.0.0.0', first + k)
	tap.same(api(path, 'list_hostfwd')['entries'], [], 'list')


@test('N-172', 'ranges that make no sense are refused', ours=MORE)
def _(t):
	g, h, path = t.api_pair()
	for first, last, guest, member in ((9000, 8999, 80, 'host_port'), (9000, 70000, 80, 'host_port'),
			(9000, 'x', 80, 'host_port'), (9000, 9010, 65530, 'guest_port'), (1, 65535, 1, None)):
		answer = api(path, 'add_hostfwd', proto='tcp', host_port=first, host_port_end=last, guest_port=guest)
		tap.true('error' in answer, 'answer to %r: %r' % ((first, last), answer))
		if member:
			tap.same(answer['error']['desc'], 'bad request: add_hostfwd: bad arguments.' + member, 'text')
	tap.same(api(path, 'list_hostfwd')['entries'], [], 'list')
	tap.true(h.is_alive(), 'the helper ended')


@test('N-164', 'a host port is chosen on request and reported', ours=MORE)
def _(t):
	g, h, path = t.api_pair()
	got = add(path, proto='tcp', choose_host_port=True, guest_port=8080)
	tap.true(1024 <= got['host_port'] <= 65535, 'port %r' % got)
	reaches(t, t.listen(g, '0.0.0.0', 8080), HOST, '127.0.0.1', got['host_port'])
	tap.same(api(path, 'list_hostfwd')['entries'][0]['host_port'], got['host_port'], 'port in the list')


@test('N-176', 'list shows live flows with bytes and age', ours=MORE)
def _(t):
	g, h, path = t.api_pair()
	c, s, _ = t.through(g, t.listen(OUTSIDE, OUTSIDE4), OUTSIDE4)
	c.sendall(b'x' * 5000)
	got = 0
	while got < 5000:
		got += len(s.recv(65536))
	flows = tap.until(lambda: [f for f in api(path, 'list')['return']['flows']
		if f['remote_addr'] == OUTSIDE4 and f['remote_port'] == s.getsockname()[1]], 'the flow is in the list')
	tap.same(len(flows), 1, 'flows to this port')
	flow = flows[0]
	tap.same((flow['proto'], flow['guest_addr'], flow['guest_port'], flow['state']),
		('tcp', '10.0.2.100', c.getsockname()[1], 'established'), 'flow')
	tap.true(flow['bytes_out'] >= 5000 and flow['age_ms'] >= 0, 'counters %r' % flow)
	c.close()
	s.close()


@test('N-176', 'list shows the forwards too', ours=MORE)
def _(t):
	g, h, path = t.api_pair()
	port = free_port()
	forward(path, port, 80)
	entry = api(path, 'list')['return']['forwards'][0]
	tap.same({k: entry[k] for k in ('id', 'proto', 'host_addr', 'host_port', 'guest_addr', 'guest_port')}, {'id': 1,
		'proto': 'tcp', 'host_addr': '0.0.0.0', 'host_port': port, 'guest_addr': '10.0.2.100', 'guest_port': 80}, 'entry')


@test('N-9', '-p publishes at the start, in every form', ours=MORE)
def _(t):
	port = free_port()
	first = 21000
	g = t.guest()
	g.sysctl('net.ipv6.conf.default.accept_dad', 0)
	path = t.path('api.sock')
	t.start(g, '--enable-ipv6', '-a', path, '-p', '%d:8080' % port, '--publish=127.0.0.1:%d:8081/tcp' % (port + 1),
		'-p', '[::1]:%d:8080' % port, '-p', '%d-%d:9000-9002' % (first, first + 2), '-p', '%d:53/udp' % port)
	tap.until(lambda: g.addresses('tap0', 'inet6', 'global'), 'IPv6 in the guest')
	s4, s6 = t.listen(g, '0.0.0.0', 8080), t.listen(g, '::', 8080)
	reaches(t, s4, OUTSIDE, HOST4, port)
	reaches(t, s6, HOST, '::1', port)
	reaches(t, t.listen(g, '0.0.0.0', 8081), HOST, '127.0.0.1', port + 1)
	tap.same(connect_error(OUTSIDE, HOST4, port + 1), 'ECONNREFUSED', 'connect to another address')
	reaches(t, t.listen(g, '0.0.0.0', 9002), HOST, '127.0.0.1', first + 2)
	u = t.udp(g, '0.0.0.0', 53)
	t.udp(OUTSIDE).sendto(b'query', (HOST4, port))
	tap.same(u.recv(100), b'query', 'datagram')
	tap.same(sorted({e['id'] for e in api(path, 'list_hostfwd')['entries']}), [1, 2, 3, 4, 5], 'ids')
	tap.same(forward(path, free_port(), 80), 6, 'next id')


@test('N-9', '-p with host port 0 chooses one and prints it', ours=MORE)
def _(t):
	g = t.guest()
	path = t.path('api.sock')
	h = t.start(g, '-a', path, '-p', '0:8080')
	port = api(path, 'list_hostfwd')['entries'][0]['host_port']
	tap.true(port > 0, 'port')
	tap.has(h.out(), str(port), 'stdout')
	reaches(t, t.listen(g, '0.0.0.0', 8080), HOST, '127.0.0.1', port)


@test('N-4', '-p that makes no sense or cannot be had ends it: status 1, the value named, nothing left', ours=MORE)
def _(t):
	g = t.guest()
	taken = t.listen(HOST, '127.0.0.1').getsockname()[1]
	for value in ('x', '80', '80:', ':80', '70000:80', '80:70000', '8080:80/sctp', '9000-8999:80', '1.2.3:80:80', '[::1:80:80',
		      '%d:80' % taken, '8080:0'):
		h = t.raw('-c', '-p', value, *t.target(g), 'tap0', ready=True)
		tap.same((h.reap(3), h.read_ready(0)), (1, b''), 'status and ready descriptor with %r' % value)
		tap.has(h.err(), value if value != '%d:80' % taken else str(taken), 'stderr')
		tap.same(g.link('tap0'), None, 'link with %r' % value)
	if helperlab.REFERENCE:
		tap.fail('1.2.0 does not know -p')


@test('N-9', 'no addition makes an abbreviation ambiguous that the reference takes')
def _(t):
	names = ('configure exit-fd ready-fd mtu enable-ipv6 api-socket cidr disable-host-loopback netns-type userns-path '
		'enable-sandbox enable-seccomp outbound-addr outbound-addr6 disable-dns macaddress target-type help version').split()
	hidden = ['no-host-loopback', 'create-sandbox']
	for name in names:
		for n in range(1, len(name) + 1):
			if sum(other.startswith(name[:n]) for other in names + hidden) == 1:
				break
		word = '--' + name[:n]
		value = {'mtu': '=1500', 'macaddress': '=02:00:00:00:00:01', 'userns-path': '=/proc/self/ns/user',
			'target-type': '=netns', 'netns-type': '=pid'}.get(name, '=1')
		if name in ('configure', 'enable-ipv6', 'disable-host-loopback', 'enable-sandbox', 'enable-seccomp', 'disable-dns',
			    'help', 'version'):
			value = ''
		status, out, err = t.output_of(word + value)
		tap.lacks(err, 'ambiguous', 'stderr with ' + word)
		tap.lacks(err, 'unrecognized', 'stderr with ' + word)


@test('N-20', '--sandbox=strict works where every step is permitted', ours=MORE)
def _(t):
	g = t.guest()
	h = t.start(g, '--enable-sandbox', '--sandbox=strict', kind='pid')
	tap.same(sorted(os.listdir('/proc/%d/root' % h.pid)), ['etc', 'run'], 'root directory')


@test('N-96', 'it starts and serves with no network at all on the host', modes=['root'])
def _(t):
	g = t.guest()
	path = t.path('api.sock')
	h = t.start(g, '-a', path, prefix=['unshare', '--net'])
	tap.same(api(path, 'list_hostfwd')['entries'], [], 'list')
	tap.same(connect_error(g, OUTSIDE4, 80), 'ENETUNREACH', 'connect')


@test('N-34', '--on-worker-failure takes continue or stop, and says so otherwise', ours=MORE)
def _(t):
	_, err = t.refused('--on-worker-failure=maybe', '1', 'tap0', words=('--on-worker-failure', 'maybe'))
	tap.true('continue' in err and 'stop' in err, 'stderr: %r' % err)


helperlab.main()

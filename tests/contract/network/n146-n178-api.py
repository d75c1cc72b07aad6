#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""N-146 to N-178: the API socket, every request and every error, byte for byte."""
import errno
import json
import os
import socket
import stat
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import helperlab
import tap
from helperlab import ALL, api, api_open, api_text, connect_error, forward, free_port, read_all
from netlab import HOST, HOST4, OUTSIDE, USER, run
from tap import test


def error_of(path, text):
	"""desc of the answer, which has to be a compact object of one member error (N-152)."""
	if isinstance(text, (dict, list)):
		text = json.dumps(text).encode()
	return desc(api_text(path, text))


def desc(raw):
	answer = json.loads(raw)
	tap.lacks(raw, b'\n', 'answer')
	tap.lacks(raw.split(b'"desc"')[0], b' ', 'answer')
	tap.same(list(answer), ['error'], 'members of the answer %r' % raw)
	return answer['error']['desc']


def rule(**changes):
	"""add_hostfwd of five good members, with changes; a member changed to ... is left out."""
	arguments = {'proto': 'tcp', 'host_addr': '0.0.0.0', 'host_port': 8080, 'guest_addr': '10.0.2.100', 'guest_port': 80}
	arguments.update(changes)
	return {'execute': 'add_hostfwd', 'arguments': {k: v for k, v in arguments.items() if v is not ...}}


@test('N-15 N-146', 'the socket is made with the umask\'s mode')
def _(t):
	for mask, mode in ((0o022, 0o755), (0o077, 0o700)):
		path = t.path('api.%o' % mask)
		g = t.guest()
		t.start(g, '-a', path, start=lambda: os.umask(mask) and None)
		seen = os.stat(path)
		tap.true(stat.S_ISSOCK(seen.st_mode), 'not a socket')
		tap.same(stat.S_IMODE(seen.st_mode), mode, 'mode')
		tap.same(seen.st_uid, t.uid, 'owner')


@test('N-147', 'an existing path is replaced, whatever it is', modes=ALL)
def _(t):
	path = t.path('api.sock')
	for make in (lambda: open(path, 'w').close(), lambda: os.symlink('/etc/passwd', path), lambda: os.mkfifo(path),
		     lambda: None):
		if os.path.lexists(path):
			os.unlink(path)
		make()
		g = t.guest()
		h = t.start(g, '-a', path)
		tap.same(api(path, 'list_hostfwd').get('entries'), [], 'answer')
		h.close()
	tap.true(os.path.exists('/etc/passwd'), 'the target of the link')


@test('N-147', 'a directory at the path makes the start fail')
def _(t):
	path = t.path('dir')
	os.mkdir(path)
	g = t.guest()
	h = t.start(g, '-a', path, ready=None)
	tap.same((h.reap(), h.read_ready(0)), (1, b''), 'status and ready descriptor')
	tap.same(g.link('tap0'), None, 'link')
	tap.true(os.path.isdir(path), 'the directory')


@test('N-147', 'a second helper with the same path takes it over')
def _(t):
	path = t.path('api.sock')
	g1, g2 = t.guest(), t.guest()
	first = t.start(g1, '-a', path)
	forward(path, free_port(), 80)
	second = t.start(g2, '-a', path)
	tap.same(api(path, 'list_hostfwd').get('entries'), [], 'entries of the second')
	tap.true(first.is_alive(), 'the first ended')


@test('N-147', 'death by a signal leaves the path, and the next start replaces it')
def _(t):
	g, h, path = t.api_pair()
	h.kill()
	h2 = t.start(g, '-a', path)
	tap.same(api(path, 'list_hostfwd').get('entries'), [], 'answer')


@test('N-148', 'a path of 107 bytes works, one of 108 fails and leaves nothing')
def _(t):
	good = t.path('s' * (107 - len(t.path(''))))
	tap.same(len(good), 107, 'length')
	g = t.guest()
	h = t.start(g, '-a', good + 's', ready=None)
	tap.same((h.reap(), h.read_ready(0)), (1, b''), 'status and ready descriptor')
	tap.same(g.link('tap0'), None, 'link')
	tap.true(h.err().strip(), 'no word on stderr')
	t.start(g, '-a', good)
	tap.same(api(good, 'list_hostfwd').get('entries'), [], 'answer')


@test('N-148', 'a relative path is relative to the working directory at start, also sandboxed')
def _(t):
	for options in ([], ['--enable-sandbox']):
		g = t.guest()
		h = t.start(g, '-a', 'relative.sock', *options, kind='pid', cwd=t.path(''))
		tap.same(api(t.path('relative.sock'), 'list_hostfwd').get('entries'), [], 'answer with %r' % options)
		h.close()


@test('N-148', 'no directory or no permission is fatal, and a new start succeeds')
def _(t):
	paths = ['/no/such/directory/s'] + (['/etc/s'] if t.mode == 'user' else [])
	for path in paths:
		g = t.guest()
		h = t.start(g, '-a', path, ready=None)
		tap.same((h.reap(), h.read_ready(0)), (1, b''), 'status and ready descriptor with ' + path)
		tap.same(g.link('tap0'), None, 'link')
		t.start(g, '-a', t.path('good.sock')).close()


@test('N-148', 'an empty path is refused', ours='the reference binds a nameless address')
def _(t):
	g = t.guest()
	t.refused('-c', '--api-socket=', *t.target(g), 'tap0')


@test('N-149 N-152', 'it answers a complete request although the client keeps its side open, and then closes', modes=ALL)
def _(t):
	g, h, path = t.api_pair()
	with api_open(path) as s:
		s.sendall(b'{"execute":"list_hostfwd"}')
		tap.has(read_all(s), b'"entries":[]', 'answer')


@test('N-149 N-178', 'it answers a client that half-closes')
def _(t):
	g, h, path = t.api_pair()
	tap.has(api_text(path, b'{"execute":"list_hostfwd"}\n', half_close=True), b'"entries":[]', 'answer')


@test('N-150', 'a request in pieces is one request', ours='the reference judges the first piece')
def _(t):
	g, h, path = t.api_pair()
	text = b'{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_port":%d,"guest_port":80}}' % free_port()
	with api_open(path) as s:
		for at in range(0, len(text), 7):
			s.sendall(text[at:at + 7])
			time.sleep(0.002)	# so that the pieces are read apart; if they are not, nothing is lost
		tap.same(read_all(s), b'{"return":{"id":1}}', 'answer')


@test('N-150', 'a request whose first piece comes late is served', ours='the reference stands still meanwhile')
def _(t):
	g, h, path = t.api_pair()
	with api_open(path) as s:
		t.through(g, t.listen())	# packets go on
		s.sendall(b'{"execute":')
		t.through(g, t.listen())
		s.sendall(b'"list_hostfwd"}')
		tap.has(read_all(s), b'"entries":[]', 'answer')


@test('N-151', '4095 bytes are a request, 4096 are too large')
def _(t):
	g, h, path = t.api_pair()
	text = b'{"execute":"list_hostfwd","x":"'
	fits = text + b'y' * (4095 - len(text) - 2) + b'"}'
	tap.same(len(fits), 4095, 'length')
	tap.has(api_text(path, fits), b'"entries":[]', 'answer to 4095 bytes')
	tap.same(error_of(path, fits + b' '), 'bad request: too large message', 'answer to 4096 bytes')


@test('N-151 N-161', 'an endless stream of zero bytes gets the answer and a closed connection')
def _(t):
	g, h, path = t.api_pair()
	with api_open(path) as s:
		got = []
		reader = threading.Thread(target=lambda: got.append(read_all(s)))
		reader.start()
		sent = 0
		try:
			while sent < 64 << 20:
				sent += s.send(b'\0' * 4096)
		except (BrokenPipeError, ConnectionResetError):
			pass
		reader.join(5)
		tap.true(sent < 64 << 20, 'everything was swallowed')
		tap.same(desc(got[0]), 'bad request: too large message', 'answer')
	tap.has(api_text(path, b'{"execute":"list_hostfwd"}'), b'"entries":[]', 'answer to the next client')


@test('N-152 N-178', 'the answer comes by a single read of 2048 bytes')
def _(t):
	g, h, path = t.api_pair()
	with api_open(path) as s:
		s.sendall(json.dumps(rule(host_port=free_port())).encode() + b'\n')
		s.shutdown(socket.SHUT_WR)
		tap.same(s.recv(2048), b'{"return":{"id":1}}', 'answer')
		tap.same(s.recv(1), b'', 'end')


@test('N-153', 'white space before, a newline or anything else after the value are accepted')
def _(t):
	g, h, path = t.api_pair()
	for text in (b' \n\t{"execute":"list_hostfwd"}', b'{"execute":"list_hostfwd"}\n', b'{"execute":"list_hostfwd"} rest',
		     b'{"execute":"list_hostfwd"}{"execute":"x"}', b'{"execute":"list_hostfwd"}\0\0', b'{"execute":"list_hostfwd","more":[1]}'):
		tap.has(api_text(path, text), b'"entries":[]', 'answer to %r' % text)


@test('N-153 N-157', 'what is not JSON is answered so')
def _(t):
	g, h, path = t.api_pair()
	for text in (b'', b' ', b'{', b'{"execute":}', b'// x\n{"execute":"list_hostfwd"}', b'{"execute":"a","execute":"b"}',
		     b'\0{"execute":"list_hostfwd"}', b'hello', b'{"execute":"list_hostfwd"\0}', b'[1,]'):
		tap.same(error_of(path, text), 'bad request: cannot parse JSON', 'answer to %r' % text)


@test('N-158', 'JSON that is no object is answered so')
def _(t):
	g, h, path = t.api_pair()
	tap.same(error_of(path, b'[]'), 'bad request: json_object() failed', 'answer to an array')


@test('N-159', 'an object without execute, or where it is no string')
def _(t):
	g, h, path = t.api_pair()
	for text in (b'{}', b'{"execute":1}', b'{"execute":null}', b'{"arguments":{}}'):
		tap.same(error_of(path, text), 'bad request: no execute found', 'answer to %r' % text)


@test('N-160', 'an unknown name')
def _(t):
	g, h, path = t.api_pair()
	for name in ('foo', '', 'ADD_HOSTFWD', 'add_hostfwd '):
		tap.same(error_of(path, {'execute': name}), 'bad request: unknown execute', 'answer to %r' % name)


@test('N-162 N-174', 'protocols that are neither tcp nor udp')
def _(t):
	g, h, path = t.api_pair()
	for proto in ('', 'TCP', 'sctp', 'foo', 'tcp '):
		tap.same(error_of(path, rule(proto=proto)), 'bad request: add_hostfwd: bad arguments.proto', 'proto %r' % proto)


@test('N-170 N-162', 'a protocol that is absent or no string is an answer, not the end of the helper',
	ours='the reference crashes')
def _(t):
	g, h, path = t.api_pair()
	for proto in (..., 1, None, ['tcp']):
		tap.same(error_of(path, rule(proto=proto)), 'bad request: add_hostfwd: bad arguments.proto', 'proto %r' % (proto,))
	for text in (b'{"execute":"add_hostfwd"}', b'{"execute":"add_hostfwd","arguments":[]}'):
		tap.same(error_of(path, text), 'bad request: add_hostfwd: bad arguments.proto', 'answer to %r' % text)
	tap.true(h.is_alive(), 'the helper ended')


@test('N-163 N-165', 'addresses that are no dotted IPv4 addresses')
def _(t):
	g, h, path = t.api_pair()
	for value in ('x', '1.2.3', '1.2.3.4.5', '256.1.1.1', 'localhost', ' 127.0.0.1'):
		tap.same(error_of(path, rule(host_addr=value)), 'bad request: add_hostfwd: bad arguments.host_addr', value)
		tap.same(error_of(path, rule(guest_addr=value)), 'bad request: add_hostfwd: bad arguments.guest_addr', value)


@test('N-164 N-166', 'ports that are absent, no number, or 0')
def _(t):
	g, h, path = t.api_pair()
	for value in (..., '80', None):
		tap.same(error_of(path, rule(host_port=value)), 'bad request: add_hostfwd: bad arguments.host_port', repr(value))
		tap.same(error_of(path, rule(guest_port=value)), 'bad request: add_hostfwd: bad arguments.guest_port', repr(value))
	tap.same(error_of(path, rule(guest_port=0)), 'bad request: add_hostfwd: bad arguments.guest_port', 'guest_port 0')
	tap.same(error_of(path, rule(host_port=0)), 'bad request: add_hostfwd: bad arguments.host_port', 'host_port 0')


@test('N-172', 'ports outside 1 to 65535 are refused', ours='the reference takes them modulo 65536')
def _(t):
	g, h, path = t.api_pair()
	for value in (65536, -1, 70000, 1e9, 65536 * 3 + 8080):
		tap.same(error_of(path, rule(host_port=value)), 'bad request: add_hostfwd: bad arguments.host_port', repr(value))
		tap.same(error_of(path, rule(guest_port=value)), 'bad request: add_hostfwd: bad arguments.guest_port', repr(value))


@test('N-163 N-166', 'checks are made in the order proto, host_addr, host_port, guest_addr, guest_port')
def _(t):
	g, h, path = t.api_pair()
	bad = {'proto': 'x', 'host_addr': 'x', 'host_port': 'x', 'guest_addr': 'x', 'guest_port': 'x'}
	good = rule()['arguments']
	for name in list(bad):
		tap.same(error_of(path, rule(**bad)), 'bad request: add_hostfwd: bad arguments.' + name, 'first complaint')
		bad[name] = good[name]


@test('N-167', 'an address in use, a privileged port, and an address that is not the host\'s', modes=ALL)
def _(t):
	g, h, path = t.api_pair()
	text = 'bad request: add_hostfwd: slirp_add_hostfwd failed'
	taken = t.listen(HOST, '127.0.0.1').getsockname()[1]
	tap.same(error_of(path, rule(host_addr='127.0.0.1', host_port=taken)), text, 'a port in use')
	tap.same(error_of(path, rule(host_addr='203.0.113.1')), text, 'an address of somebody else')
	if t.mode != 'root':
		tap.same(error_of(path, rule(host_port=80)), text, 'a privileged port')
	else:
		forward(path, 80, 80)


@test('N-168', 'remove without an id, with one that is no number, or unknown')
def _(t):
	g, h, path = t.api_pair()
	for arguments in ({}, {'id': '1'}, {'id': None}, {'id': 0}, {'id': 1}, {'id': 99}, {'id': -1}):
		tap.same(error_of(path, {'execute': 'remove_hostfwd', 'arguments': arguments}),
			'bad request: remove_hostfwd: bad arguments.id', repr(arguments))
	tap.same(error_of(path, {'execute': 'remove_hostfwd'}), 'bad request: remove_hostfwd: bad arguments.id', 'no arguments')


@test('N-170 N-176', 'defaults: any host address, network + 100; a fraction of a port is cut off', modes=ALL)
def _(t):
	for cidr, address in (('10.0.2.0/24', '10.0.2.100'), ('10.41.0.0/16', '10.41.0.100')):
		g, h, path = t.api_pair('--cidr=' + cidr)
		ports = [free_port() for _ in range(4)]
		for n, empty in enumerate((..., None, '')):
			api_text(path, json.dumps(rule(host_addr=empty, guest_addr=empty, host_port=ports[n])).encode())
		api_text(path, json.dumps(rule(host_port=ports[3] + 0.9, guest_port=80.9, guest_addr='')).encode())
		entries = api(path, 'list_hostfwd')['entries']
		tap.same([(e['host_addr'], e['host_port'], e['guest_addr'], e['guest_port']) for e in entries],
			[('0.0.0.0', p, address, 80) for p in ports], 'entries')
		h.close()


@test('N-171', 'ids are 1, 2, 3 for each success, and never come again')
def _(t):
	g, h, path = t.api_pair()
	ids = []
	for n in range(3):
		ids.append(forward(path, free_port(), 80))
		api_text(path, json.dumps(rule(host_addr='203.0.113.1')).encode())
	tap.same(ids, [1, 2, 3], 'ids')
	for n in ids:
		tap.same(api_text(path, b'{"execute":"remove_hostfwd","arguments":{"id":%d}}' % n), b'{"return":{}}', 'answer')
	tap.same(forward(path, free_port(), 80), 4, 'id after removal')


@test('N-173', 'a rule on 0.0.0.0 listens on IPv4 only')
def _(t):
	g, h, path = t.api_pair('--enable-ipv6')
	port = free_port()
	forward(path, port, 80)
	tap.same(connect_error(HOST, '::1', port), 'ECONNREFUSED', 'connect to ::1')
	t.listen(HOST, '::', port)


@test('N-175', 'the same rule twice fails, tcp and udp are independent, nothing is checked in the guest')
def _(t):
	g, h, path = t.api_pair()
	port = free_port()
	forward(path, port, 80, guest_addr='10.0.2.77')
	forward(path, port, 80, 'udp')
	for proto in ('tcp', 'udp'):
		tap.same(error_of(path, rule(proto=proto, host_port=port)),
			'bad request: add_hostfwd: slirp_add_hostfwd failed', proto)
	forward(path, free_port(), 80, host_addr='127.0.0.1')


@test('N-176', 'an empty list, and entries in order of creation with members in order')
def _(t):
	g, h, path = t.api_pair()
	tap.has(api_text(path, b'{"execute":"list_hostfwd"}'), b'"entries":[]', 'empty list')
	a, b, c = free_port(), free_port(), free_port()
	forward(path, a, 80)
	forward(path, b, 81, 'udp', '127.0.0.1', '10.0.2.50')
	forward(path, c, 82)
	api(path, 'remove_hostfwd', id=1)
	entries = [b'{"id":2,"proto":"udp","host_addr":"127.0.0.1","host_port":%d,"guest_addr":"10.0.2.50","guest_port":81' % b,
		b'{"id":3,"proto":"tcp","host_addr":"0.0.0.0","host_port":%d,"guest_addr":"10.0.2.100","guest_port":82' % c]
	text = api_text(path, b'{"execute":"list_hostfwd"}')
	at = [text.find(e) for e in entries]
	tap.true(0 <= at[0] < at[1], 'entries in %r' % text)
	tap.same([e['id'] for e in json.loads(text)['entries']], [2, 3], 'ids')


@test('N-176', 'the list is given at both places', ours='the reference gives it at top level only')
def _(t):
	g, h, path = t.api_pair()
	forward(path, free_port(), 80)
	answer = api(path, 'list_hostfwd')
	tap.same(list(answer), ['return', 'entries'], 'members')
	tap.same(answer['return']['entries'], answer['entries'], 'the two lists')
	tap.same(len(answer['entries']), 1, 'number of entries')


@test('N-177', 'remove closes the listener and lets established connections go on', modes=ALL)
def _(t):
	g, h, path = t.api_pair()
	port = free_port()
	n = forward(path, port, 8080)
	s = t.listen(g, '0.0.0.0', 8080)
	c = t.connect(HOST, '127.0.0.1', port)
	p, _ = t.accept(s)
	tap.same(api_text(path, b'{"execute":"remove_hostfwd","arguments":{"id":%d}}' % n), b'{"return":{}}', 'answer')
	tap.same(connect_error(HOST, '127.0.0.1', port), 'ECONNREFUSED', 'connect afterwards')
	for a, b in ((c, p), (p, c)):
		a.sendall(b'still here')
		tap.same(b.recv(100), b'still here', 'bytes')
	tap.same(forward(path, port, 8080), n + 1, 'id of the same rule made again')


@test('N-177', 'remove of a udp rule frees its port')
def _(t):
	g, h, path = t.api_pair()
	port = free_port(kind=socket.SOCK_DGRAM)
	n = forward(path, port, 53, 'udp')
	api(path, 'remove_hostfwd', id=n)
	t.udp(HOST, '0.0.0.0', port)


@test('N-154', 'a hundred clients connect at once without blocking, and each is answered', ours='its backlog is 0')
def _(t):
	g, h, path = t.api_pair()
	clients = []
	for n in range(100):
		s = t.own(socket.socket(socket.AF_UNIX))
		s.setblocking(False)
		s.connect(path)		# BlockingIOError if the backlog is full
		clients.append(s)
	for s in clients:
		s.settimeout(5)
		s.sendall(b'{"execute":"list_hostfwd"}')
	for s in clients:
		tap.has(read_all(s), b'"entries":[]', 'answer')


@test('N-155', 'while a client says nothing, packets pass and other clients are answered',
	ours='the reference stands still')
def _(t):
	g, h, path = t.api_pair()
	silent = [t.own(api_open(path)) for _ in range(5)]
	half = t.own(api_open(path))
	half.sendall(b'{"execute":"list')
	t.through(g, t.listen())
	tap.same(api(path, 'list_hostfwd').get('entries'), [], 'answer')
	half.sendall(b'_hostfwd"}')
	tap.has(read_all(half), b'"entries":[]', 'answer to the slow one')


@test('N-155', 'a silent client is dropped after some seconds', ours='the reference waits for ever', modes=['user'],
	deadline=60)
def _(t):
	g, h, path = t.api_pair()
	with api_open(path) as s:
		s.settimeout(40 if not helperlab.REFERENCE else 2)
		tap.true(read_all(s) is not None, 'end')
	tap.true(h.is_alive(), 'the helper ended')


@test('N-156', 'clients that leave early do no harm')
def _(t):
	g, h, path = t.api_pair()
	for n in range(200):
		with api_open(path) as s:
			if n % 3:
				s.sendall(b'{"execute":"list_hostfwd"}'[:26 - n % 26 * (n % 2)])
	start = helperlab.level(h)
	tap.same(api(path, 'list_hostfwd').get('entries'), [], 'answer')
	tap.true(h.is_alive(), 'the helper ended')


@test('N-156', 'thousands of requests leave no descriptor open')
def _(t):
	g, h, path = t.api_pair()
	api(path, 'list_hostfwd')
	start = helperlab.level(h)
	port = free_port()
	for n in range(500):
		n = forward(path, port, 80)
		api(path, 'remove_hostfwd', id=n)
		api_text(path, b'{')
	tap.until(lambda: helperlab.n_fds(h) <= start, 'descriptors are back at %d' % start)


@test('N-222 N-238', 'requests as Podman and RootlessKit send them')
def _(t):
	g, h, path = t.api_pair()
	port = free_port()
	text = ('{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_addr":"0.0.0.0","host_port":%d,"guest_addr":"",'
		'"guest_port":80}}\n' % port).encode()
	tap.same(api_text(path, text), b'{"return":{"id":1}}', 'answer')
	text = ('{"execute":"add_hostfwd","arguments":{"proto":"udp","host_addr":"","host_port":%d,"guest_addr":"10.0.2.100",'
		'"guest_port":80}}\n' % port).encode()
	tap.same(api_text(path, text), b'{"return":{"id":2}}', 'answer')


@test('N-167', 'errors carry the name of the errno', ours='an addition')
def _(t):
	g, h, path = t.api_pair()
	taken = t.listen(HOST, '127.0.0.1').getsockname()[1]
	answer = json.loads(api_text(path, json.dumps(rule(host_addr='127.0.0.1', host_port=taken)).encode()))
	tap.true('EADDRINUSE' in json.dumps(answer['error']), 'answer %r' % answer)


helperlab.main()

#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""N-203 to N-205, N-4, N-5: what is printed where, and that what explains a failure is printed."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import helperlab
import tap
from helperlab import ALL, api, free_port, forward
from netlab import HOST4_SECOND
from tap import test


def banner(t, *options):
	g = t.guest()
	h = t.start(g, *options, exit_fd=True)
	h.close_exit()
	tap.same(h.reap(), 0, 'status')
	return h.out()


@test('N-203', 'the banner on stdout names MTU, network, gateway, DNS, DHCP range, recommended address, API path, MAC')
def _(t):
	text = banner(t, '--mtu=1400', '--cidr=10.9.0.0/16', '-a', t.path('api.sock'), '--outbound-addr=' + HOST4_SECOND,
		'--macaddress=02:00:00:00:00:07')
	for word in ('1400', '10.9.0.0', '255.255.0.0', '10.9.0.2', '10.9.0.3', '10.9.0.15', '10.9.0.30', '10.9.0.100',
		     t.path('api.sock'), HOST4_SECOND, '02:00:00:00:00:07'):
		tap.has(text, word, 'stdout')


@test('N-204', 'the banner is there at the ready byte, once', ours='the reference\'s stdout is fully buffered')
def _(t):
	g, h = t.pair('--enable-ipv6')
	text = h.out()
	tap.has(text, '10.0.2.100', 'stdout at the ready byte')
	for line in text.splitlines():
		tap.same(text.splitlines().count(line), 1, 'times that %r is printed' % line)


@test('N-204', 'no line of stdout is printed twice, with a failure after the start of a child either',
	ours='the reference forks with a full buffer')
def _(t):
	g = t.guest()
	h = t.start(g, '--enable-ipv6', '--macaddress=01:00:00:00:00:00', ready=None)
	tap.same(h.reap(), 1, 'status')
	lines = h.out().splitlines()
	tap.same(len(lines), len(set(lines)), 'lines of %r' % h.out())


@test('N-4 N-5', 'a start that fails says why on stderr, with status 1, and ends by itself though the ready pipe is held open',
	modes=ALL)
def _(t):
	g = t.guest()
	for words in (['--netns-type=path', '/etc/passwd', 'tap0'], ['999999', 'tap0'],
		      ['-a', '/no/such/dir/s', *t.target(g), 'tap0'], ['--macaddress=ff:ff:ff:ff:ff:ff', *t.target(g), 'tap0']):
		r, w = os.pipe()
		h = t.raw('-c', '-r', w, *words, extra_fds=[w])		# our w stays open, as an engine's does
		tap.same(h.reap(), 1, 'status with %r' % words)
		tap.true(h.err().strip(), 'no word on stderr with %r' % words)
		os.set_blocking(r, False)
		try:
			tap.fail('ready descriptor: %r' % os.read(r, 16))
		except BlockingIOError:
			pass
		os.close(r)
		os.close(w)


@test('N-205', 'traffic and forwards print nothing')
def _(t):
	g, h = t.pair()
	s = t.listen()
	t.through(g, s)
	before = len(h.out()), len(h.err())
	for _ in range(50):
		t.through(g, s)
		helperlab.connect_error(g, '10.0.2.2', 1)
	tap.same((len(h.out()), len(h.err())), before, 'bytes printed')


@test('N-205', 'a thousand requests to the API print little', ours='the reference prints each')
def _(t):
	g, h, path = t.api_pair()
	api(path, 'list_hostfwd')
	before = len(h.out()) + len(h.err())
	for _ in range(200):
		api(path, 'list_hostfwd')
		api(path, 'nonsense')
	written = len(h.out()) + len(h.err()) - before
	tap.true(written < 4000, '%d bytes printed' % written)


@test('N-31', 'the environment changes nothing')
def _(t):
	g = t.guest()
	t.start(g, env={'PATH': '/nowhere', 'TMPDIR': '/nowhere', 'HOME': '/nowhere', 'LC_ALL': 'xx_YY'})
	t.through(g, t.listen())
	g = t.guest()
	t.start(g, env={})
	t.through(g, t.listen())


@test('N-205', 'stdout and stderr may be closed, or their reader gone')
def _(t):
	for how in ('exec 1>&- 2>&-; exec "$@"', 'exec "$@" >/dev/full 2>/dev/full'):
		g = t.guest()
		h = t.start(g, prefix=['bash', '-c', how, 'bash'], kind='pid')
		t.through(g, t.listen())
		h.close()


helperlab.main()

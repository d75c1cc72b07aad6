#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""N-9 to N-49: options, positionals and what is refused before any namespace is touched."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import helperlab
import tap
from tap import test


@test('N-9', 'options may stand behind the positionals')
def _(t):
	g = t.guest()
	h = t.raw('-c', *t.target(g), 'tap0', '--mtu=1400', ready=True)
	h.wait_ready()
	tap.same(g.link('tap0')['mtu'], 1400, 'mtu')


@test('N-9', 'POSIXLY_CORRECT makes the first positional end the options')
def _(t):
	g = t.guest()
	env = dict(os.environ, POSIXLY_CORRECT='1')
	h = t.raw('-c', str(g.pid), 'tap0', '--mtu=1400', ready=True, env=env)
	h.wait_ready()
	tap.same(g.link('tap0')['mtu'], 1500, 'mtu')


@test('N-9 N-13', 'values follow an equals sign, a blank, or a short option')
def _(t):
	for words in (['--mtu=1400'], ['--mtu', '1400'], ['-m', '1400'], ['-m1400'], ['-cm1400']):
		g = t.guest()
		h = t.start(g, *words)
		tap.same(g.link('tap0')['mtu'], 1400, 'mtu with %r' % words)
		h.close()


@test('N-9 N-10', 'a long name may be abbreviated while it is unique')
def _(t):
	g = t.guest()
	h = t.raw('--conf', '--mt=1400', *t.target(g), 'tap0', ready=True)
	h.wait_ready()
	tap.same(g.link('tap0')['mtu'], 1400, 'mtu')


@test('N-9', 'an ambiguous abbreviation is refused with usage')
def _(t):
	for word in ('--enable', '--enable-s', '--disable', '--outbound', '--netns'[:3]):
		t.refused(word, '1', 'tap0', words=['ambiguous'], usage=True)


@test('N-9', 'of --outbound-addr the exact name wins over the longer one that it begins')
def _(t):
	g = t.guest()
	t.start(g, '--outbound-addr=127.0.0.1')


@test('N-9', 'two dashes end the options')
def _(t):
	g = t.guest()
	h = t.raw('-c', '--', *([str(g.pid), 'tap0', '--mtu=1400']), ready=True)
	h.wait_ready()
	tap.same(g.link('tap0')['mtu'], 1500, 'mtu')


@test('N-9', 'of a repeated option the last one wins')
def _(t):
	g = t.guest()
	t.start(g, '--mtu=1300', '--mtu=1400', '--cidr=10.9.0.0/24', '--cidr=10.8.0.0/24')
	tap.same(g.link('tap0')['mtu'], 1400, 'mtu')
	tap.same(g.addresses('tap0'), ['10.8.0.100'], 'address')


@test('N-9', 'an unknown option or a missing value is refused with usage')
def _(t):
	t.refused('--no-such-option', '1', 'tap0', words=['no-such-option'], usage=True)
	t.refused('-x', '1', 'tap0', words=['x'], usage=True)
	t.refused('1', 'tap0', '--mtu', words=['mtu'], usage=True)
	t.refused('1', 'tap0', '-m', words=['m'], usage=True)
	t.refused('--configure=yes', '1', 'tap0', words=['configure'], usage=True)


@test('N-29 N-30', 'the two names that were never released still work and warn')
def _(t):
	g = t.guest()
	h = t.start(g, '--no-host-loopback')
	s = t.listen()
	tap.same(helperlab.connect_error(g, '10.0.2.2', s.getsockname()[1]), 'ENETUNREACH', 'connect')
	h.close()
	tap.has(h.out() + h.err(), '--disable-host-loopback', 'output')
	g = t.guest()
	h = t.start(g, '--create-sandbox', kind='pid')
	tap.true('home' not in os.listdir('/proc/%d/root' % h.pid), 'no sandbox')
	h.close()
	tap.has(h.out() + h.err(), '--enable-sandbox', 'output')


@test('N-32', 'a positional too many is ignored with a warning on stdout')
def _(t):
	g = t.guest()
	h = t.raw('-c', *t.target(g), 'tap0', '8', ready=True)
	h.wait_ready()
	h.close()
	tap.true(any(word in h.out().lower() for word in ('warn', 'ignor')), 'no warning: %r' % h.out())


@test('N-32', 'a missing positional prints the usage only')
def _(t):
	for words in ([], [str(1)], ['--netns-type=path', '/proc/1/ns/net']):
		t.refused(*words, usage=True)


@test('N-32', 'an unknown --netns-type word is refused', ours='the reference takes any word for path')
def _(t):
	g = t.guest()
	t.refused('--netns-type=paht', g.path, 'tap0', words=['paht'], usage=True)


@test('N-33', 'integers allow leading blanks and a plus sign')
def _(t):
	g = t.guest()
	h = t.raw('-c', '--mtu= +1400', *t.target(g), 'tap0', ready=True)
	h.wait_ready()
	tap.same(g.link('tap0')['mtu'], 1400, 'mtu')


@test('N-33 N-34', 'a descriptor that is no number from 0 up is refused with usage')
def _(t):
	for value in ('x', '-1', '3x', '3 '):
		for option, name in (('-e', 'exit-fd'), ('-r', 'ready-fd')):
			t.refused(option, value, '1', 'tap0', words=[name], usage=True)


@test('N-33', 'an empty or too big descriptor number is refused',
	ours='the reference takes an empty value for 0 and cuts to 32 bits')
def _(t):
	for value in ('', '4294967298', '99999999999999999999'):
		for option, name in (('--exit-fd=', 'exit-fd'), ('--ready-fd=', 'ready-fd')):
			t.refused(option + value, '1', 'tap0', words=[name], usage=True)


@test('N-35', 'an MTU outside 1 to 65521 is refused with usage')
def _(t):
	for value in ('0', '-1', '65522', 'x', '1500x', '99999999999', ''):
		t.refused('--mtu=' + value, '1', 'tap0', usage=True)


@test('N-36', 'a user namespace path that does not exist is refused with usage')
def _(t):
	t.refused('--userns-path=/no/such/path', '1', 'tap0', words=['/no/such/path'], usage=True)


@test('N-37', 'a MAC address without --configure is refused with usage')
def _(t):
	t.refused('--macaddress=02:00:00:00:00:01', '1', 'tap0', usage=True)


@test('N-38', 'bess excludes -c, --netns-type, --userns-path and a second positional')
def _(t):
	for words in (['-c', '/run/x'], ['--netns-type=path', '/run/x'], ['--userns-path=/proc/self/ns/user', '/run/x'],
		      ['/run/x', 'tap0'], []):
		t.refused('--target-type=bess', *words, usage=True)


@test('N-39', 'an unknown target type is refused with usage')
def _(t):
	t.refused('--target-type=tun', '1', 'tap0', usage=True)


@test('N-40', 'a PID that is no positive integer is refused with usage')
def _(t):
	for value in ('0', 'x', '12x', ''):
		t.refused(value, 'tap0', usage=True)
	t.refused('--', '-5', 'tap0', usage=True)


@test('N-41', 'a path that does not exist is refused with usage')
def _(t):
	t.refused('--netns-type=path', '/no/such/netns', 'tap0', usage=True)


@test('N-42', 'a malformed CIDR is refused')
def _(t):
	for value in ('10.0.2.0', 'foo', '10.0.2/24', '10.0.2.0/', '10.0.2.0/24x', '10.0.2.0/240', ' 10.0.2.0/24',
		      '1000.0.2.0/24', '10.0.2.0.0/24', '', 'fd00::/64', '10.0.2.0/-1', '10.0.2.0/+24'):
		t.refused('--cidr=' + value, '1', 'tap0', words=['invalid CIDR'], usage=False)


@test('N-43', 'an octet above 255 is refused')
def _(t):
	t.refused('--cidr=10.0.256.0/24', '1', 'tap0', usage=False)


@test('N-44', 'a prefix length outside 1 to 25 is refused, before host bits are looked at')
def _(t):
	for value in ('10.0.2.0/26', '10.0.2.0/0', '10.0.2.100/26', '10.0.2.0/32', '10.0.2.0/99'):
		t.refused('--cidr=' + value, '1', 'tap0', words=['prefix length needs to be 1-25'], usage=False)


@test('N-45', 'a network address with host bits is refused')
def _(t):
	for value in ('10.0.2.100/24', '10.0.2.0/16', '10.0.2.64/25', '192.0.0.0/1'):
		t.refused('--cidr=' + value, '1', 'tap0', usage=False, words=[
			'CIDR needs to be a network address like 10.0.2.0/24, not like 10.0.2.100/24'])


@test('N-46', 'an outbound address that is neither an address nor an interface with one is refused')
def _(t):
	for value in ('nosuchif', '1.2.3', 'fd00::1', ''):
		t.refused('--outbound-addr=' + value, '1', 'tap0', usage=False)
	for value in ('nosuchif', '10.0.0.1', 'fd00:::1'):
		t.refused('--outbound-addr6=' + value, '1', 'tap0', usage=False)


@test('N-47', 'a MAC address with a bad byte or too many is refused')
def _(t):
	for value in ('02:00:00:00:00:zz', '02:00:00:00:00:01:02', '02:00:00:00:00:100'):
		out, err = t.refused('-c', '--macaddress=' + value, '1', 'tap0', usage=False)
		tap.true(any(part in out + err for part in value.split(':')), 'the value is not named: %r' % err)


@test('N-76', 'a MAC address of fewer than six bytes is refused', ours='the reference pads it with zeros')
def _(t):
	g = t.guest()
	t.refused('-c', '--macaddress=02:00:00', *t.target(g), 'tap0', words=['02:00:00'])


@test('N-48', 'prefix lengths from 1 to 25 are valid', modes=['root'])
def _(t):
	for value, address in (('10.0.2.128/25', '10.0.2.228'), ('10.0.0.0/8', '10.0.0.100'),
			       ('128.0.0.0/1', '128.0.0.100'), ('172.16.0.0/12', '172.16.0.100')):
		g = t.guest()
		h = t.start(g, '--cidr=' + value)
		tap.same(g.addresses('tap0'), [address], 'address with ' + value)
		h.close()


@test('N-49', 'an MTU below 68 ends with status 1 and no ready byte')
def _(t):
	for configure in (['-c'], []):
		g = t.guest()
		h = t.raw(*configure, '--mtu=67', *t.target(g), 'tap0', ready=True)
		tap.same(h.reap(), 1, 'status')
		tap.same(h.read_ready(0), b'', 'ready descriptor')
		tap.same(g.link('tap0'), None, 'link')


@test('N-4 N-49', 'what is refused has touched no namespace')
def _(t):
	g = t.guest()
	for words in (['--mtu=0'], ['--cidr=10.0.2.0/26'], ['--no-such-option'], ['--macaddress=zz']):
		t.refused('-c', *words, *t.target(g), 'tap0')
		tap.same([l['ifname'] for l in g.links()], ['lo'], 'links')
		tap.same(g.addresses('lo'), [], 'addresses of lo')


helperlab.main()

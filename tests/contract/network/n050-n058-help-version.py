#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""N-50 to N-58: what --help and --version print, and under which circumstances they must."""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import helperlab
import tap
from netlab import run
from tap import test

TOKENS = ('--disable-host-loopback', '--mtu', '--enable-sandbox', '--enable-seccomp', '--cidr', '--outbound-addr',
	'--enable-ipv6', '--api-socket', '--netns-type')


@test('N-27 N-28 N-50', 'every token that an engine looks for stands in the help, which goes to stdout alone')
def _(t):
	for option in ('--help', '-h', '--hel'):
		status, out, err = t.output_of(option)
		tap.same((status, err), (0, ''), 'status and stderr of ' + option)
		for token in TOKENS:
			tap.has(out, token, 'help')


@test('N-50', 'every option that the contract lists is in the help')
def _(t):
	out = t.output_of('--help')[1]
	for token in ('--configure', '--exit-fd', '--ready-fd', '--userns-path', '--outbound-addr6', '--disable-dns',
		      '--macaddress', '--target-type', '--help', '--version', '-c', '-e', '-r', '-m', '-6', '-a', '-h', '-v'):
		tap.true(re.search(r'(^|[\s,])%s\b' % re.escape(token), out), 'help lacks ' + token)


@test('N-50', 'the start scripts\' grep for --netns-type as a word finds it')
def _(t):
	done = subprocess.run(['bash', '-c', '"$0" --help | grep -qw -- --netns-type', helperlab.PROGRAM])
	tap.same(done.returncode, 0, 'status of grep')


@test('N-51', 'help works without /dev/net/tun, /run or /sys')
def _(t):
	out = run('unshare', '--mount', 'sh', '-c',
		'mount -t tmpfs none /dev && mount -t tmpfs none /sys && mount -t tmpfs none /run && exec "$0" --help',
		helperlab.PROGRAM)
	tap.has(out, '--netns-type', 'help')


@test('N-51', 'help works in a namespace without any mapped user')
def _(t):
	out = run('setpriv', '--reuid=54321', '--clear-groups', 'unshare', '--user', '--net', helperlab.PROGRAM, '--help')
	tap.has(out, '--netns-type', 'help')


@test('N-51', 'help survives a closed and a broken stdout')
def _(t):
	for how in ('"$0" --help >&-', '"$0" --help | true', '"$0" --help >/dev/full'):
		done = subprocess.run(['bash', '-c', how, helperlab.PROGRAM], stdin=subprocess.DEVNULL,
			stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=5)
		tap.true(done.returncode in (0, 1), '%s: status %d' % (how, done.returncode))


@test('N-27', 'help and version win over what follows, and act at once')
def _(t):
	tap.same(t.output_of('--help', '--no-such-option')[0], 0, 'status')
	tap.same(t.output_of('--version', '--mtu=0')[0], 0, 'status')
	tap.same(t.output_of('1', 'tap0', '-v')[0], 0, 'status')


@test('N-53 N-54 N-55 N-56 N-57 N-58', 'the version has five lines of the given shape, one with the word version')
def _(t):
	for option in ('--version', '-v'):
		status, out, err = t.output_of(option)
		tap.same((status, err), (0, ''), 'status and stderr')
		lines = out.splitlines()
		tap.true(re.fullmatch(r'slirp4netns version \d+\.\d+\.\d+(\+\S+)?', lines[0]), 'first line %r' % lines[0])
		tap.true(tuple(int(n) for n in re.findall(r'\d+', lines[0])[1:4]) >= (1, 2, 0), 'too old: ' + lines[0])
		tap.true(re.match(r'commit: \S+', lines[1]), 'second line %r' % lines[1])
		tap.true(re.match(r'libslirp: \d+\.\d+', lines[2]), 'third line %r' % lines[2])
		tap.true(re.fullmatch(r'SLIRP_CONFIG_VERSION_MAX: [3-9]\d*', lines[3]), 'fourth line %r' % lines[3])
		tap.true(re.match(r'libseccomp: \d+\.\d+\.\d+', lines[4]), 'fifth line %r' % lines[4])
		tap.same([l for l in lines if 'version' in l], lines[:1], 'lines with the word version')


@test('N-58', 'tapfd is announced only by 1.3.0 or later')
def _(t):
	version = tuple(int(n) for n in re.findall(r'\d+', t.output_of('--version')[1])[1:4])
	tap.same('tapfd' in t.output_of('--help')[1], version >= (1, 3, 0), 'tapfd in the help')


helperlab.main()

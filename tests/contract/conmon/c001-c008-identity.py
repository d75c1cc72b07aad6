#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Name, version and help (C-1 to C-8)."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import conmonlab	# noqa: E402
import processes	# noqa: E402
import tap		# noqa: E402
from tap import test	# noqa: E402

SEMVER = re.compile(r'(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?\Z')


def says(t, *argv, status=0):
	r = t.conmon(*argv, sync=None)
	tap.same(r.front_status(), status, 'status')
	return r.out(), r.err()


@test('C-1', 'exe and comm end in conmon, cmdline and environ stay as given')
def _(t):
	r, b = t.fake('read x', '-i', env={'MARK': 'a mark'})
	m = r.monitor
	tap.same(os.path.basename(os.readlink('/proc/%d/exe' % m)), 'conmon', 'exe')
	tap.same(processes.comm(m), 'conmon', 'comm')
	tap.same([a.decode() for a in processes.cmdline(m)][1:], r.argv, 'cmdline')
	with open('/proc/%d/environ' % m, 'rb') as f:
		tap.true(b'MARK=a mark' in f.read().split(b'\0'), 'environ as given')
	t.attach(b).half_close()
	tap.same(r.end(), 1)


@test('C-2 C-37', 'the pid in the pid file is the monitor from first to last')
def _(t):
	b = t.bundle('read x < /shared/go')
	b.fifo()
	r = t.create(b)
	first, start = r.monitor, processes.stat(r.monitor)[19]
	b.start()
	tap.same(int(t.text(r.conmon_pidfile)), first)
	tap.same(processes.stat(first)[19], start, 'start time')
	with open(b.file('go'), 'w') as f:
		f.write('go\n')
	tap.same(r.end(), 0)
	tap.same(int(t.text(r.conmon_pidfile)), first)


@test('C-3 C-4', '--version prints exactly two lines on stdout and nothing on stderr')
def _(t):
	out, err = says(t, '--version')
	tap.true(re.fullmatch(r'conmon version \d+\.\d+\.\d+\S*\ncommit: .*\n', out), 'two lines: %r' % out)
	tap.same(err, '', 'stderr')


@test('C-5', 'every caller can parse the version: CRI-O third field, Podman 4 expression, Podman info')
def _(t):
	out, _ = says(t, '--version')
	field = out.split()[2]
	m = SEMVER.match(field)
	tap.true(m, 'semantic version: %r' % field)
	tap.true(tuple(int(n) for n in m.groups()[:3]) >= (2, 1, 2), 'at least 2.1.2')
	tap.true(re.match(r'^(version:|conmon version)? (\d+)\.(\d+)\.(\d+)', out), 'Podman 4')
	tap.same(out.replace('\n', ', ', 1).rstrip('\n').count('\n'), 0, 'Podman info')


@test('C-6', 'the version opens every gate: 2.2.1 or later', ours='2.1.6 is older')
def _(t):
	out, _ = says(t, '--version')
	tap.true(tuple(int(n) for n in SEMVER.match(out.split()[2]).groups()[:3]) >= (2, 2, 1), out)


OLD = '''api-version bundle cid cuuid name runtime runtime-arg runtime-opt systemd-cgroup no-pivot no-new-keyring
container-pidfile conmon-pidfile exec exec-attach exec-process-spec restore terminal stdin leave-stdin-open log-path
log-size-max log-global-size-max log-tag no-sync-log log-level syslog exit-dir persist-dir exit-command exit-command-arg
exit-delay timeout socket-dir-path full-attach sdnotify-socket replace-listen-pid sync version'''.split()
NEW = 'log-rotate log-max-files log-allowlist-dir log-label no-container-partial-message'.split()


@test('C-7', '-h, --help and --help-all list every option on stdout and exit 0')
def _(t):
	for word in ('-h', '--help', '--help-all'):
		out, err = says(t, word)
		tap.same(err, '', 'stderr of ' + word)
		for name in OLD:
			tap.has(out, '--' + name, 'help by ' + word)


@test('C-7', 'help lists the options of 2.2, and journald when there is journald', ours='newer than 2.1.6')
def _(t):
	out, _ = says(t, '--help')
	for name in NEW:
		tap.has(out, '--' + name, 'help')
	tap.has(out, 'journald')


@test('C-8', '--version is acted on after the whole line parsed: extra words pass, an unknown option is an error')
def _(t):
	out, _ = says(t, '--version', 'word', '--api-version', '1', '-c', 'x')
	tap.has(out, 'conmon version ')
	out, _ = says(t, '--version', '--no-such-option', status=1)
	tap.lacks(out, 'conmon version ')
	out, _ = says(t, '--version', '--timeout', 'abc', status=1)
	tap.lacks(out, 'conmon version ')


conmonlab.main()

#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Grammar of the command line (C-9 to C-17)."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import conmonlab	# noqa: E402
import tap		# noqa: E402
from tap import test	# noqa: E402

RECORD = "if SUB: record(DIR + '/seen'); write_pid(payload('exit 0'))"


def seen(t, *argv, runtime=RECORD, key='data', **how):
	"""Run conmon with exactly @argv and a recording runtime; what the runtime was given behind its own name."""
	r = t.conmon(*argv, **how)
	r.created(key)
	tap.same(r.front_status(), 0)
	r.sync_ended()
	return json.loads(t.text(t.path('seen')))['argv'][1:]


def refused(t, *argv, reason, env=None, stream=2):
	r = t.conmon(*argv, sync='seq', env=env)
	tap.same(r.front_status(), 1, 'status')
	tap.has(r.err() if conmonlab.REFERENCE is None else r.err() + r.out(), 'conmon: option parsing failed: ' + reason)
	r.sync_ended()
	tap.same(os.listdir(t.cwd), [], 'files made')
	if conmonlab.REFERENCE is None:
		tap.same(r.out(), '', 'stdout')
		tap.same(r.err().count('\n'), 1, 'lines on stderr: %r' % r.err())


@test('C-9', 'long options take = or the next word; short ones the next word; short flags bundle')
def _(t):
	b, rt = t.plain(), t.runtime(RECORD)
	argv = seen(t, '--api-version', '--cid=' + b.id, '-u', b.id, '--runtime', rt, '-b', b.path, '--log-path=none',
		'--container-pidfile', b.pidfile, '-is', '--full-attach')
	tap.same(argv, ['--systemd-cgroup', 'create', '--bundle', b.path, '--pid-file', b.pidfile, b.id])


@test('C-10', 'an option that takes a value takes the next word whatever it looks like')
def _(t):
	b, rt = t.plain(), t.runtime(RECORD)
	argv = seen(t, '--api-version', '-c', b.id, '-u', b.id, '-r', rt, '-b', b.path, '-l', 'none', '-p', b.pidfile,
		'--full-attach', '--runtime-arg', '--log-format=json', '--runtime-arg', '--', '--runtime-arg', '',
		'--runtime-opt', '-c')
	tap.same(argv, ['--log-format=json', '--', '', 'create', '--bundle', b.path, '--pid-file', b.pidfile, '-c', b.id])


@test('C-11', 'words that are no options are ignored anywhere, and all behind --')
def _(t):
	b, rt = t.plain(), t.runtime(RECORD)
	argv = seen(t, 'word', '--api-version', '1', '-c', b.id, 'more', '-u', b.id, '-r', rt, '-b', b.path, '-l', 'none',
		'-p', b.pidfile, '--full-attach', 'end', '--', '--no-such-option', '-c', 'other')
	tap.same(argv[-1], b.id)


@test('C-12', '--api-version=0 still means true')
def _(t):
	b, rt = t.plain(), t.runtime(RECORD)
	seen(t, '--api-version=0', '-c', b.id, '-u', b.id, '-r', rt, '-b', b.path, '-l', 'none', '-p', b.pidfile,
		'--full-attach=', key='data')


@test('C-13', 'the last scalar wins, lists keep every value in order')
def _(t):
	b, rt = t.plain(), t.runtime(RECORD)
	argv = seen(t, '--api-version', '-c', 'wrong', '-c', b.id, '-u', b.id, '-r', '/nonexistent', '-r', rt, '-b', '/x',
		'-b', b.path, '-l', 'none', '-p', 'wrong', '-p', b.pidfile, '--full-attach', '--runtime-arg', 'a', '--runtime-opt',
		'1', '--runtime-arg=b', '--restore-arg', '2', '--runtime-opt=3')
	tap.same(argv, ['a', 'b', 'create', '--bundle', b.path, '--pid-file', b.pidfile, '1', '2', '3', b.id])


@test('C-14', 'integers may be decimal, hexadecimal, octal and signed')
def _(t):
	for value in ('10', '0x10', '010', '+3', '-1', '2147483647'):
		r = t.conmon('--version', '--timeout', value, sync=None)
		tap.same(r.front_status(), 0, 'status with ' + value)
	for value in ('9223372036854775807', '-0x10'):
		r = t.conmon('--version', '--log-size-max', value, sync=None)
		tap.same(r.front_status(), 0, 'status with ' + value)


@test('C-14 C-17', 'what is no integer, or too large, is refused in words')
def _(t):
	for value in ('abc', '', '10x', '1.5', '0xg'):
		refused(t, '--timeout', value, reason='Cannot parse integer value “%s” for --timeout' % value)
	for value in ('2147483648', '-2147483649', '99999999999'):
		refused(t, '-T', value, reason='Integer value “%s” for ' % value)
		refused(t, '--timeout=' + value, reason='Integer value “%s” for --timeout out of range' % value)
	refused(t, '--log-size-max', '9223372036854775808',
		reason='Integer value “9223372036854775808” for --log-size-max out of range')


@test('C-17', 'the reason goes to stderr in one line', ours='before 2.1.8 it went to stdout')
def _(t):
	r = t.conmon('--no-such-option', sync=None)
	tap.same(r.front_status(), 1)
	tap.same(r.err(), 'conmon: option parsing failed: Unknown option --no-such-option\n')
	tap.same(r.out(), '')


@test('C-17', 'unknown options and missing values are named as typed')
def _(t):
	refused(t, '--foo', reason='Unknown option --foo')
	refused(t, '-c', reason='Missing argument for -c')
	refused(t, '--cid', reason='Missing argument for --cid')
	refused(t, '-Z', reason='Unknown option -Z')


@test('C-16', 'non-ASCII values are refused in the C locale and pass in a UTF-8 one')
def _(t):
	text = 'Invalid byte sequence in conversion input'
	for env in ({'LANG': 'C', 'LC_ALL': None}, {'LANG': None}, {'LC_ALL': 'C', 'LANG': 'C.UTF-8'}):
		refused(t, '--version', '--log-tag', 'äöüß', reason=text, env=env)
	r = t.conmon('--version', '--log-tag', 'äöüß', sync=None, env={'LANG': 'C.UTF-8'})
	tap.same(r.front_status(), 0)
	refused(t, '--version', '--log-tag', os.fsdecode(b'\xff\xfe'), reason=text, env={'LANG': 'C.UTF-8'})


conmonlab.main()

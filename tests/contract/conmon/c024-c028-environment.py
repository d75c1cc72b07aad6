#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Environment variables, consumed and passed on (C-24 to C-28)."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import conmonlab	# noqa: E402
import tap		# noqa: E402
from tap import test	# noqa: E402

RECORD = "record(DIR + '/seen'); write_pid(payload('exit 0'))"


def runtime_saw(t):
	return json.loads(t.text(t.path('seen')))


@test('C-24 C-54', 'without the variables there are no pipes, and no waiting')
def _(t):
	b = t.plain()
	r = t.conmon(*t.options(b, runtime=t.runtime(RECORD)), sync=None)
	tap.same(r.front_status(), 0)
	tap.same(t.exit_file(b), '0')
	tap.same(r.end(), 0)


@test('C-25', 'descriptor variables that are no number or no open descriptor end in status 1, in words')
def _(t):
	for name in ('_OCI_SYNCPIPE', '_OCI_STARTPIPE'):
		for value, words in (('abc', 'unable to parse %s' % name), ('3x', 'unable to parse %s' % name),
				     ('77', 'unable to make %s CLOEXEC' % name)):
			b = t.plain()
			r = t.conmon(*t.options(b, runtime=t.runtime(RECORD)), sync=None, env={name: value})
			if name == '_OCI_STARTPIPE':
				tap.same(r.front_status(), 1, 'status with %s=%s' % (name, value))
			else:
				r.front_status()
				tap.until(lambda: not t.has_exit(b) and not conmonlab.processes.everyone(), 'the monitor ends')
			tap.has(r.err(), '[conmon:e]: ' + words)
			tap.true(not os.path.exists(t.path('seen')), 'the runtime was not run')


@test('C-25', 'descriptor 0 is never valid, an empty value is unset', ours='2.1.6 takes an empty value for a mistake')
def _(t):
	b = t.plain()
	r = t.conmon(*t.options(b, runtime=t.runtime(RECORD)), sync=None, env={'_OCI_SYNCPIPE': '', '_OCI_STARTPIPE': ''})
	tap.same(r.front_status(), 0)
	tap.same(r.end(), 0)


@test('C-24 C-89', 'TMPDIR is where the console socket is')
def _(t):
	b = t.plain()
	b.terminal = True
	os.mkdir(t.path('other'))
	rt = t.runtime("record(DIR + '/seen'); pid, _ = terminal('exit 0'); write_pid(pid)")
	r = t.create(b, runtime=rt, env={'TMPDIR': t.path('other')})
	tap.same(r.end(), 0)
	argv = runtime_saw(t)['argv']
	path = argv[argv.index('--console-socket') + 1]
	tap.true(path.startswith(t.path('other') + '/conmon-term.'), path)
	tap.same(os.listdir(t.path('other')), [])


@test('C-24 C-143', 'TZ is the zone of the time stamps, minutes and all')
def _(t):
	for zone, offset in (('NPT-5:45', '+05:45'), ('NST3:30', '-03:30'), ('UTC', '+00:00'), ('<+14>-14', '+14:00')):
		r, b = t.fake('echo x', env={'TZ': zone})
		r.end()
		tap.same(t.records()[-1].time[-6:], offset, 'offset in ' + zone)


@test('C-26 C-27', 'the runtime gets the whole environment unchanged, and nothing added')
def _(t):
	b = t.plain()
	extra = {'NOTIFY_SOCKET': '/run/x', 'LISTEN_FDS': '2', 'LISTEN_FDNAMES': 'a:b', 'CONTAINERS_CONF': '/etc/c',
		'DBUS_SESSION_BUS_ADDRESS': 'unix:path=/x', 'EMPTY': ''}
	r = t.create(b, runtime=t.runtime(RECORD), env=extra)
	r.end()
	wanted = t.environ(**extra)
	wanted.update(_OCI_SYNCPIPE='3', _OCI_STARTPIPE='4')
	seen = runtime_saw(t)['env']
	seen.pop('LC_CTYPE', None)		# Python's own doing
	tap.same(seen, wanted, 'environment of the runtime')


@test('C-27 C-202', 'the exit command gets the whole environment unchanged')
def _(t):
	script = t.path('exit')
	with open(script, 'w') as f:
		f.write('#!/bin/sh\nenv > %s.part; mv %s.part %s\n' % ((t.path('env'),) * 3))
	os.chmod(script, 0o755)
	r, b = t.fake('exit 0', '--exit-command', script, env={'XDG_RUNTIME_DIR': '/run/user/x', 'MARK': '1 2'})
	r.end()
	seen = dict(line.split('=', 1) for line in t.text(t.path('env')).splitlines())
	wanted = t.environ(XDG_RUNTIME_DIR='/run/user/x', MARK='1 2')
	wanted.update(_OCI_SYNCPIPE='3', _OCI_STARTPIPE='4')
	for own in ('PWD', '_', 'OLDPWD', 'SHLVL'):
		seen.pop(own, None)
	tap.same(seen, wanted)


@test('C-28', 'LISTEN_PID of somebody else stays, --replace-listen-pid makes it the runtime\'s pid')
def _(t):
	for extra, replaced in (((), False), (('--replace-listen-pid',), True)):
		b = t.plain()
		r = t.create(b, *extra, runtime=t.runtime(RECORD), env={'LISTEN_PID': '4242', 'LISTEN_FDS': '1'})
		r.end()
		seen = runtime_saw(t)
		tap.same(seen['env']['LISTEN_PID'], str(seen['pid']) if replaced else '4242')
		tap.same(seen['env']['LISTEN_FDS'], '1')


@test('C-28', 'LISTEN_PID equal to the monitor\'s pid becomes the runtime\'s (--sync)')
def _(t):
	b = t.plain()
	argv = t.options(b, '--sync', runtime=t.runtime(RECORD), pidfile=False)
	shell = '/bin/sh'
	r = t.conmon(*argv, sync='stream', setup=lambda: os.environ.update(LISTEN_PID=str(os.getpid())) or os.execve(
		conmonlab.PROGRAM, [conmonlab.PROGRAM] + argv, dict(t.environ(_OCI_SYNCPIPE='3'), LISTEN_PID=str(os.getpid()))))
	r.created()
	tap.true(shell, '')
	tap.same(r.end(), 0)
	seen = runtime_saw(t)
	tap.same(seen['env']['LISTEN_PID'], str(seen['pid']))


@test('C-28 C-84', 'a LISTEN_PID that is no pid is a failure of the runtime')
def _(t):
	for value in ('nonsense-and-more', '0', '-5'):
		b = t.plain()
		r = t.start_conmon(b, runtime=t.runtime(RECORD), env={'LISTEN_PID': value})
		m = r.message()
		tap.same(m['data'], -1)
		tap.has(m['message'], 'Invalid LISTEN_PID')
		tap.same(r.end(), 1)


conmonlab.main()

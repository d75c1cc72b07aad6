#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Validation: order, words, and nothing left behind (C-18 to C-23)."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import conmonlab	# noqa: E402
import tap		# noqa: E402
from tap import test	# noqa: E402

CID = 'c' * 64
TRUE = '/bin/true'


def refused(t, *argv, line, exact=True, **how):
	"""Status 1, @line on stderr, an empty sync pipe, and nothing made or run."""
	files = set(os.listdir(t.dir))
	r = t.conmon(*argv, '--conmon-pidfile', t.path('pid'), '--exit-dir', t.exits, '--exit-command', '/bin/touch',
		'--exit-command-arg', t.path('exit-command-ran'), start='seq', go=False, **how)
	tap.same(r.front_status(), 1, 'status')
	if exact:
		tap.same(r.err(), line + '\n', 'stderr')
	else:
		tap.has(r.err(), line, 'stderr')
	r.sync_ended()
	tap.same(set(os.listdir(t.dir)) - files, set(), 'files made')
	tap.same(os.listdir(t.exits) + os.listdir(t.cwd) + os.listdir(t.sockets), [], 'files made')


def _goes_ahead(r):
	try:
		r.go()
	except BrokenPipeError:
		return False
	return True


@test('C-19.17 C-29', 'an engine that gives its go-ahead after the refusal does not meet a broken pipe',
	ours='the reference is slow to go, but does not wait')
def _(t):
	for kind in ('pipe', 'seq', 'stream'):
		for _ in range(5):	# the patience is short, and this machine may be busy
			r = t.conmon('-c', CID, '-u', CID, '-r', TRUE, '-l', 'nonsense:/x', start=kind, go=False)
			tap.until(lambda: r.err().endswith('\n'), 'a line on stderr', 10)
			heard = _goes_ahead(r)
			tap.same(r.front_status(), 1, 'status')
			tap.same(r.err(), '[conmon:e]: No such log driver nonsense\n', 'stderr')
			if heard:
				break
		tap.same(heard, True, 'the go-ahead by ' + kind)


@test('C-19.1 C-19.2', 'the number of log files must fit', ours='newer than 2.1.6')
def _(t):
	refused(t, '--log-max-files', '-1', line='conmon: log-max-files must be non-negative, got -1')
	refused(t, '--log-rotate', '--log-max-files', '0',
		line='conmon: log-max-files must be at least 1 when log-rotate is enabled, got 0')


@test('C-19.3 C-23', 'no container id')
def _(t):
	refused(t, line='conmon: Container ID not provided. Use --cid')
	refused(t, '--log-level', 'nonsense', line='conmon: Container ID not provided. Use --cid')


@test('C-19.4', 'unknown log level')
def _(t):
	refused(t, '-c', CID, '--log-level', 'loud', '-e', '--restore', '/x', line='[conmon:e]: No such log level loud')


@test('C-19.5 C-19.6 C-19.7', 'modes that exclude each other')
def _(t):
	refused(t, '-c', CID, '-e', '--restore', '/x', line="[conmon:e]: Cannot use 'exec' and 'restore' at the same time")
	refused(t, '-c', CID, '--exec-attach', line='[conmon:e]: Attach can only be specified with exec')
	refused(t, '-c', CID, '-e', '--exec-attach', line='[conmon:e]: Attach can only be specified for a non-legacy exec session')


@test('C-19.8', 'no container UUID, which only exec by version 0 may leave out')
def _(t):
	line = '[conmon:e]: Container UUID not provided. Use --cuuid'
	refused(t, '-c', CID, line=line)
	refused(t, '--api-version', '1', '-c', CID, '-e', line=line)
	refused(t, '-c', CID, '-e', line='[conmon:e]: Runtime path not provided. Use --runtime')


@test('C-19.9 C-19.10', 'no runtime, or one that cannot be executed')
def _(t):
	refused(t, '-c', CID, '-u', CID, line='[conmon:e]: Runtime path not provided. Use --runtime')
	refused(t, '-c', CID, '-u', CID, '-r', '/nonexistent',
		line='[conmon:e]: Runtime path /nonexistent is not valid No such file or directory', exact=False)
	t.text('/etc/passwd')
	refused(t, '-c', CID, '-u', CID, '-r', '/etc/passwd',
		line='[conmon:e]: Runtime path /etc/passwd is not valid Permission denied', exact=False)


@test('C-19.11', 'exec without a process specification')
def _(t):
	refused(t, '-c', CID, '-e', '-r', TRUE, line='[conmon:e]: Exec process spec path not provided. Use --exec-process-spec')


@test('C-19.12', 'the working directory is gone')
def _(t):
	gone = t.path('gone')
	os.mkdir(gone)
	r = t.conmon('-c', CID, '-u', CID, '-r', TRUE, '-l', 'none', cwd=gone, setup=lambda: os.rmdir(gone), start='seq', go=False)
	tap.same(r.front_status(), 1)
	tap.has(r.err(), '[conmon:e]: Failed to get working directory')
	r.sync_ended()


@test('C-19.13', 'a negative exit delay')
def _(t):
	refused(t, '-c', CID, '-u', CID, '-r', TRUE, '--exit-delay', '-1',
		line='[conmon:e]: Delay before invoking exit command must be greater than or equal to 0')


@test('C-19.14 C-19.15 C-19.16 C-19.17', 'log paths that name nothing')
def _(t):
	base = ('-c', CID, '-u', CID, '-r', TRUE)
	refused(t, *base, line='[conmon:e]: Log driver not provided. Use --log-path')
	for value in ('', ':', '::'):
		refused(t, *base, '-l', value, line='[conmon:e]: log-path must not be empty')
	for value in ('k8s-file', 'k8s-file:'):
		refused(t, *base, '-l', value, line='[conmon:e]: k8s-file requires a filename')
	refused(t, *base, '-l', 'syslogd:/x', line='[conmon:e]: No such log driver syslogd')


@test('C-19.18', 'a log file that cannot be opened')
def _(t):
	refused(t, '-c', CID, '-u', CID, '-r', TRUE, '-l', t.path('no/such/dir/log'),
		line='[conmon:e]: Failed to open log file No such file or directory', exact=False)
	refused(t, '-c', CID, '-u', CID, '-r', TRUE, '-l', t.exits, line='[conmon:e]: Failed to open log file', exact=False)


@test('C-19.19', 'a tag needs journald')
def _(t):
	r = t.conmon('-c', CID, '-u', CID, '-r', TRUE, '-l', t.log, '--log-tag', 'tag')
	tap.same(r.front_status(), 1)
	tap.has(r.err(), "[conmon:e]: k8s-file doesn't support --log-tag")
	r = t.conmon('-c', CID, '-u', CID, '-r', '/etc', '-l', t.log, '-l', 'journald:', '--log-tag', 'tag', '-b', t.cwd,
		'--full-attach', '--version')
	tap.same(r.front_status(), 0)


@test('C-19.20 C-19.22 C-19.23 C-19.24', 'labels: with journald only, and of the right form', ours='newer than 2.1.6')
def _(t):
	base = ('-c', CID, '-u', CID, '-r', TRUE)
	r = t.conmon(*base, '-l', t.log, '--log-label', 'A=b')
	tap.same(r.front_status(), 1)
	tap.has(r.err(), "[conmon:e]: k8s-file doesn't support --log-label")
	for label, words in (('=x', "be in format LABEL=VALUE (no LABEL present in '=x')"),
			     ('AB', "be in format LABEL=VALUE (none or more than one '=' present in 'AB')"),
			     ('A=b=c', "be in format LABEL=VALUE (none or more than one '=' present in 'A=b=c')")):
		refused(t, *base, '-l', 'journald', '--log-label', label, line='[conmon:e]: Container labels must ' + words)
	refused(t, *base, '-l', 'journald', '--log-label', 'a-b=c', line='[conmon:e]: Container label names must contain only '
		"uppercase letters, numbers and underscore (in 'a-b=c')")


@test('C-19.21', 'journald needs an id of more than 12 characters')
def _(t):
	refused(t, '-c', 'c' * 12, '-u', CID, '-r', TRUE, '-l', 'journald',
		line='[conmon:e]: Container ID must be longer than 12 characters')


@test('C-20 C-22', 'a directory passes as runtime, and the log file is there when the front process returns')
def _(t):
	b = t.plain()
	r = t.start_conmon(b, runtime='/etc')
	tap.same(r.front_status(), 0)
	tap.true(os.path.exists(t.log), 'log file')
	r.end()


@test('C-22', 'a log path such as /dev/stderr means the invoker\'s own')
def _(t):
	b = t.plain()
	rt = t.runtime("write_pid(payload('echo to the log'))")
	with open(t.path('stderr'), 'wb') as f:
		r = t.create(b, runtime=rt, log='/dev/stderr', fds={2: f.fileno()})
	tap.same(r.end(), 0)
	tap.same(t.logged(path=t.path('stderr')), b'to the log\n')


@test('C-21', 'a partial-message option without journald is only a warning', ours='newer than 2.1.6')
def _(t):
	b = t.plain()
	r = t.create(b, '--no-container-partial-message', runtime=t.runtime("write_pid(payload('exit 0'))"))
	tap.has(r.err(), 'no effect without journald log driver')
	tap.same(r.end(), 0)


conmonlab.main()

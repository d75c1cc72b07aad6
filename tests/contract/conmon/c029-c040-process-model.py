#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Start-up sequence, pid files, sessions, oom_score_adj (C-29 to C-40)."""
import json
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import conmonlab	# noqa: E402
import processes	# noqa: E402
import tap		# noqa: E402
from conmonlab import BOTH	# noqa: E402
from tap import test	# noqa: E402

RECORD = "record(DIR + '/seen'); write_pid(payload('exit 0'))"
HANGS = "record(DIR + '/seen'); wait_for(DIR + '/go'); write_pid(payload('exit 0'))"


def runtime_saw(t):
	tap.until(lambda: os.path.exists(t.path('seen')), 'the runtime runs')
	return json.loads(t.text(t.path('seen')))


@test('C-29 C-30', 'nothing is forked or made before the start pipe speaks, only the log file is there', modes=BOTH)
def _(t):
	b = t.bundle('exit 0')
	r = t.start_conmon(b, go=False)
	r.is_waiting_for_go()
	tap.same(processes.children(r.pid), [], 'children')
	tap.true(os.path.exists(t.log), 'log file')
	tap.same(sorted(os.listdir(b.path)), ['config.json'])
	tap.true(not os.path.exists(r.conmon_pidfile), 'no pid file yet')
	r.go()
	r.created()
	b.start()
	tap.same(r.end(), 0)


@test('C-29', 'SIGTERM before the fork ends the front process with status 1')
def _(t):
	b = t.plain()
	r = t.start_conmon(b, runtime=t.runtime(RECORD), go=False)
	r.is_waiting_for_go()
	os.kill(r.pid, signal.SIGTERM)
	tap.same(r.front_status(), 1)
	r.sync_ended()
	tap.same(os.listdir(b.path), [])


@test('C-31', 'the front process returns 0 at once, with the pid file complete, and waits for no runtime')
def _(t):
	b = t.plain()
	r = t.start_conmon(b, runtime=t.runtime(HANGS))
	tap.same(r.front_status(), 0)
	text = t.text(r.conmon_pidfile)
	tap.same(text, str(int(text)), 'pid file: digits only')
	tap.true(processes.is_alive(int(text)), 'monitor lives')
	runtime_saw(t)
	open(t.path('go'), 'w').close()
	r.created()
	tap.same(r.end(), 0)


@test('C-32', 'with --sync the front process is the monitor, writes no pid file and returns the status')
def _(t):
	b = t.bundle('exit 42')
	r = t.start_conmon(b, '--sync')
	r.created()
	b.start()
	tap.same(r.front_status(), 42)
	tap.true(not os.path.exists(r.conmon_pidfile), 'no conmon pid file')


@test('C-33 C-34 C-44', 'the monitor lets go of the invoker\'s stdio and keeps /dev/null there')
def _(t):
	b = t.bundle('read x < /shared/go')
	b.fifo()
	r = t.create(b)
	r.output_ended(1)
	r.output_ended(2)
	for pid in processes.family(r.monitor):
		if processes.comm(pid) == 'conmon':
			f = processes.fds(pid)
			tap.same([f[0], f[1], f[2]], ['/dev/null'] * 3, 'stdio of %d' % pid)
	b.delete()


@test('C-34', 'with --sync, too, the invoker sees the end of its stdout and stderr while the container runs')
def _(t):
	b = t.bundle('read x < /shared/go')
	b.fifo()
	r = t.start_conmon(b, '--sync')
	r.created()
	r.output_ended(1)
	r.output_ended(2)
	b.delete()


@test('C-33', 'order: attach socket and FIFOs are there before the runtime runs, the message comes after it')
def _(t):
	b = t.plain()
	rt = t.runtime("import stat\nrecord(DIR + '/seen')\nfor n in ('attach', 'ctl', 'winsz'): os.stat(opt('--bundle') + '/' + n)\n"
		"say('all there')\nsys.exit(3)")
	r = t.start_conmon(b, runtime=rt)
	tap.same(r.message(), {'data': -1, 'message': 'all there'})
	tap.same(r.end(), 1)


@test('C-29 C-39', 'umask is 0022 whatever it was', ours='2.1.6 keeps the umask; set since 2.1.8')
def _(t):
	for mask in (0o77, 0):
		b = t.plain()
		r = t.create(b, runtime=t.runtime(RECORD), setup=lambda: os.umask(mask))
		tap.same(runtime_saw(t)['umask'], 0o22, 'umask')
		r.end()
		os.unlink(t.path('seen'))


@test('C-33 C-39', 'the runtime is in the monitor\'s own session and group, default signals and mask restored')
def _(t):
	b = t.plain()
	r = t.create(b, runtime=t.runtime(RECORD))
	seen = runtime_saw(t)
	tap.same((seen['pgid'], seen['sid']), (r.monitor, r.monitor), 'group and session of the runtime')
	for s in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
		tap.same(seen['ignored'] >> (s - 1) & 1, 0, 'ignored signal %d' % s)
	tap.same(seen['blocked'], 0, 'blocked signals')
	tap.same(r.end(), 0)


@test('C-39', 'the runtime starts with the signal mask that conmon was started with')
def _(t):
	b = t.plain()
	r = t.create(b, runtime=t.runtime(RECORD), mask={signal.SIGUSR2, signal.SIGALRM})
	tap.same(runtime_saw(t)['blocked'], 1 << (signal.SIGUSR2 - 1) | 1 << (signal.SIGALRM - 1))
	r.end()


@test('C-39', 'the runtime is killed if the monitor dies meanwhile')
def _(t):
	b = t.plain()
	r = t.start_conmon(b, runtime=t.runtime(HANGS))
	pid = runtime_saw(t)['pid']
	r.front_status()
	for p in [r.monitor] + [p for p in processes.family(r.monitor) if processes.comm(p) == 'conmon']:
		processes.kill(p, signal.SIGSTOP if p == 0 else signal.SIGKILL)
	tap.until(lambda: not processes.is_alive(pid), 'the runtime dies with the monitor')
	t.leftovers_allowed = ()


@test('C-36', 'the directory never changes: relative paths and the runtime are in the inherited one')
def _(t):
	os.mkdir(t.cwd + '/bundle')
	b = t.plain()
	rt = t.runtime(RECORD)
	r = t.conmon('--api-version', '1', '-c', b.id, '-u', b.id, '-r', rt, '-b', 'bundle', '-p', 'payload.pid', '-l', 'rel.log',
		'--full-attach', '--conmon-pidfile', 'conmon.pid', '--exit-dir', '.')
	r.created()
	seen = runtime_saw(t)
	tap.same(seen['cwd'], t.cwd)
	tap.same(seen['argv'][seen['argv'].index('--bundle') + 1], 'bundle', '--bundle as given')
	r.conmon_pidfile = t.cwd + '/conmon.pid'
	tap.same(r.end(), 0)
	tap.same(sorted(os.listdir(t.cwd)), sorted(['bundle', 'payload.pid', 'rel.log', 'conmon.pid', b.id]))
	t.leftovers_allowed = os.listdir(t.cwd)


@test('C-36', 'bundle and container pid file default to the working directory and pidfile-CID')
def _(t):
	b = t.plain()
	r = t.conmon('--api-version', '1', '-c', b.id, '-u', b.id, '-r', t.runtime(RECORD), '-l', 'none', '--full-attach', '-P',
		t.path('cpid'))
	r.created()
	argv = runtime_saw(t)['argv']
	tap.same(argv[argv.index('--bundle') + 1], t.cwd)
	tap.same(argv[argv.index('--pid-file') + 1], '%s/pidfile-%s' % (t.cwd, b.id))
	tap.same(r.end(), 0)
	t.leftovers_allowed = ('ctl', 'winsz', 'pidfile-' + b.id)


@test('C-37', 'the pid file has no newline, mode 0644, replaces an old one, and stays')
def _(t):
	b = t.plain()
	path = t.path('pid-' + b.id[:6])
	with open(path, 'w') as f:
		f.write('99999999 old\n')
	inode = os.stat(path).st_ino
	r = t.create(b, runtime=t.runtime(RECORD), setup=lambda: os.umask(0o22))
	tap.same(t.text(path), str(r.monitor))
	tap.same(t.mode(path), 0o644)
	tap.true(os.stat(path).st_ino != inode, 'renamed over, not rewritten')
	r.end()
	tap.true(os.path.exists(path), 'still there')


@test('C-37 W-28', 'a pid file that cannot be written: status 1 in words, and no monitor stays',
	ours='W-28: the daemonised monitor of 2.1.6 goes on')
def _(t):
	b = t.plain()
	r = t.conmon(*t.options(b, runtime=t.runtime(HANGS), pidfile=False), '-P', t.path('no/dir/pid'))
	tap.same(r.front_status(), 1)
	tap.has(r.err(), '[conmon:e]: Failed to write conmon pidfile')
	tap.until(lambda: not processes.everyone(), 'nothing of it runs any more', 5)


@test('C-38', 'the container pid file is only read: leading integer, newline tolerated')
def _(t):
	b = t.plain()
	r = t.create(b, runtime=t.runtime("pid = payload('exit 5'); write_pid(0, '%d\\n' % pid)"))
	tap.same(r.end(), 5)
	tap.true(t.text(b.pidfile).endswith('\n'), 'untouched')


@test('C-40', 'oom_score_adj: -1000 or as it was for the monitor, the previous value for the runtime and the exit command')
def _(t):
	script = t.path('exit')
	with open(script, 'w') as f:
		f.write('#!/bin/sh\ncat /proc/self/oom_score_adj > %s\n' % t.path('oom'))
	os.chmod(script, 0o755)

	def raised():
		with open('/proc/self/oom_score_adj', 'w') as f:
			f.write('77')
	b = t.plain()
	rt = t.runtime("record(DIR + '/seen'); wait_for(DIR + '/go'); write_pid(payload('exit 0'))")
	r = t.start_conmon(b, '--exit-command', script, runtime=rt, setup=raised)
	seen = runtime_saw(t)
	r.front_status()
	with open('/proc/%d/oom_score_adj' % r.monitor) as f:
		tap.true(f.read().strip() in ('-1000', '77'), 'monitor')
	open(t.path('go'), 'w').close()
	r.created()
	r.end()
	if conmonlab.REFERENCE:		# before 2.1.8 it was reset to 0 instead
		tap.true(seen['oom'] in ('77', '0'), seen['oom'])
		return
	tap.same(seen['oom'], '77', 'runtime')
	tap.same(t.text(t.path('oom')).strip(), '77', 'exit command')


conmonlab.main()

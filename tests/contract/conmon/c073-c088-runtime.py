#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How the OCI runtime is run, and how its failure is told (C-73 to C-88)."""
import json
import os
import signal
import stat
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import conmonlab	# noqa: E402
import processes	# noqa: E402
import tap		# noqa: E402
from tap import test	# noqa: E402

RECORD = "record(DIR + '/seen'); write_pid(payload('exit 0'))"


def seen(t):
	return json.loads(t.text(t.path('seen')))


def argv_of(t, b, *extra, body=RECORD, key='data', **how):
	r = t.create(b, *extra, runtime=t.runtime(body), **how) if key else None
	r.end()
	return r, seen(t)['argv']


def exec_run(t, *extra, body, v1=True, pidfile=None, exits=False, **how):
	"""exec with a scripted runtime."""
	b = t.plain()
	argv = (['--api-version', '1', '-u', 's' * 64, '-b', b.path] if v1 else []) + ['-c', b.id, '-r', t.runtime(body), '-p',
		pidfile or b.pidfile, '-l', t.log, '-e', '--exec-process-spec', t.exec_spec('true'), '--full-attach', '-P', t.path('cp')]
	argv += ['--exit-dir', t.exits] if exits else []
	r = t.conmon(*argv, *extra, start='seq', **how)
	r.bundle = b
	return r


@test('C-73 C-74', 'create: every option at its place, literal path, argv[0] the path')
def _(t):
	b = t.plain()
	r, argv = argv_of(t, b, '-s', '--runtime-arg', '--root=/x y', '--runtime-arg', '--debug', '--no-pivot', '--no-new-keyring',
		'--runtime-opt', '--preserve-fds', '--runtime-opt', '0')
	tap.same(argv, [t.path('rt'), '--systemd-cgroup', '--root=/x y', '--debug', 'create', '--bundle', b.path, '--pid-file',
		b.pidfile, '--no-pivot', '--no-new-keyring', '--preserve-fds', '0', b.id])


@test('C-73 C-89', 'create -t: the console socket comes last before the id; a socket of mode 0700')
def _(t):
	b = t.plain()
	b.terminal = True
	body = ("record(DIR + '/seen')\ns = os.stat(opt('--console-socket'))\nopen(DIR + '/mode', 'w').write('%o' % s.st_mode)\n"
		"pid, _ = terminal('exit 0'); write_pid(pid)")
	r, argv = argv_of(t, b, '--runtime-opt', 'last', body=body)
	tap.same(argv[1:-2], ['create', '--bundle', b.path, '--pid-file', b.pidfile, 'last', '--console-socket'])
	tap.same(argv[-1], b.id)
	mode = int(t.text(t.path('mode')), 8)
	tap.true(stat.S_ISSOCK(mode), 'a socket')
	tap.same(mode & 0o777, 0o700, 'mode')


@test('C-73', 'restore: --detach, image path and work path')
def _(t):
	b = t.plain()
	r, argv = argv_of(t, b, '--restore', '/images/x', '--runtime-opt', '--tcp-established', '--no-pivot')
	tap.same(argv[1:], ['restore', '--bundle', b.path, '--pid-file', b.pidfile, '--no-pivot', '--detach', '--image-path',
		'/images/x', '--work-path', b.path, '--tcp-established', b.id])


@test('C-73 C-221', 'exec: -s is accepted and ignored, --detach in the long form')
def _(t):
	r = exec_run(t, '-s', '--runtime-opt', '--cwd', '--runtime-opt', '/x', body=RECORD)
	tap.true(r.message()['data'] > 0, 'pid')
	r.end()
	argv = seen(t)['argv'][1:]
	tap.same([argv[0], argv[-4:]], ['exec', ['--detach', '--cwd', '/x', r.bundle.id]])
	tap.same(argv[1:3], ['--pid-file', r.bundle.pidfile])
	tap.same(argv[3], '--process')


@test('C-73 C-75', 'exec -t passes no --tty', ours='dropped upstream in 2.1.11')
def _(t):
	r = exec_run(t, '-t', body="record(DIR + '/seen'); pid, _ = terminal('exit 0'); write_pid(pid)")
	tap.true(r.message()['data'] > 0, 'pid')
	r.end()
	argv = seen(t)['argv'][1:]
	tap.same(argv[:1] + argv[1:6:2] + argv[5:7], ['exec', '--pid-file', '--process', '--detach', '--detach', '--console-socket'])


@test('C-76 C-78 C-97', 'stdio of the runtime: pipes, /dev/null without -i, a blocking stdin pipe with it')
def _(t):
	for stdin in (False, True):
		b = t.plain()
		r, _argv = argv_of(t, b, *(['-i'] if stdin else []))
		s = seen(t)
		tap.true(s['fds']['1'].startswith('pipe:') and s['fds']['2'].startswith('pipe:'), 'stdout and stderr are pipes')
		tap.true(s['fds']['1'] != s['fds']['2'], 'of their own')
		if stdin:
			tap.true(s['fds']['0'].startswith('pipe:'), 'stdin')
			tap.same(s['nonblock'], {'0': False, '1': False, '2': False}, 'all blocking')
		else:
			tap.same(s['fds']['0'], '/dev/null')


@test('C-77', 'the pipe ends that the runtime gets have mode 0777', ours='2.1.6 leaves 0600')
def _(t):
	b = t.plain()
	argv_of(t, b, '-i')
	s = seen(t)
	tap.same([s['modes'][n] & 0o777 for n in ('0', '1', '2')], [0o777] * 3, 'modes')


@test('C-76', 'terminal: stdin and stdout are /dev/null, stderr is a pipe')
def _(t):
	b = t.plain()
	b.terminal = True
	argv_of(t, b, body="record(DIR + '/seen'); pid, _ = terminal('exit 0'); write_pid(pid)")
	s = seen(t)
	tap.same([s['fds']['0'], s['fds']['1']], ['/dev/null'] * 2)
	tap.true(s['fds']['2'].startswith('pipe:'), 'stderr')


@test('C-77', 'an unprivileged container can open /dev/stdout again')
def _(t):
	r, b, c = t.run('echo again > /dev/stdout; echo err > /dev/stderr; exit 0', user=1000)
	tap.same(r.end(), 0)
	tap.same([t.logged(), t.logged('stderr')], [b'again\n', b'err\n'])


@test('C-79', 'exec: a runtime with non-zero status but a payload pid has not failed',
	ours='2.1.6 takes it for a failure')
def _(t):
	r = exec_run(t, body="write_pid(payload('exit 12')); sys.exit(3)")
	tap.true(r.message()['data'] > 0, 'pid')
	tap.same(r.message(), {'data': 12})
	tap.same(r.end(), 12)


@test('C-80 W-7', 'exec: a runtime that returns 0 and leaves no number in the pid file has failed', ours='W-7: told as pid 0')
def _(t):
	for old in ('', 'nonsense', '0'):
		for v1, key in ((True, 'data'), (False, 'exit_code')):
			path = t.path('pidfile')
			with open(path, 'w') as f:
				f.write(old)
			r = exec_run(t, body="say('my words')", v1=v1, pidfile=path)
			m = r.message()
			tap.same(m[key], -1, 'pid file %r' % old)
			tap.has(m['message'], 'my words')
			tap.true(r.end() != 0, 'status')


@test('C-80 C-81', 'exec: a failed runtime and an empty, non-numeric or stale pid file: its own words')
def _(t):
	for old in ('', 'nonsense', '0', '1'):
		for v1, key in ((True, 'data'), (False, 'exit_code')):
			path = t.path('pidfile')
			with open(path, 'w') as f:
				f.write(old)
			r = exec_run(t, body="say('exec failed: no such file'); sys.exit(255)", v1=v1, pidfile=path)
			tap.same(r.message(), {key: -1, 'message': 'exec failed: no such file'}, 'pid file %r' % old)
			tap.true(r.end() != 0, 'status')


@test('C-82', 'exec: a missing pid file is told with the runtime\'s words', ours='W-7/C-56: before 2.2 by another text')
def _(t):
	r = exec_run(t, body="say('exec failed: x'); sys.exit(1)", v1=True)
	m = r.message()
	tap.same(m, {'data': -1, 'message': 'exec failed: x'})
	r.end()
	r = exec_run(t, body='sys.exit(0)', v1=True)
	m = r.message()
	tap.same(m['data'], -1)
	tap.has(m['message'], 'pidfile')
	tap.has(m['message'], 'No such file or directory')
	r.end()


@test('C-82', 'exec with the real runtime of a command that is not there')
def _(t):
	b = t.bundle('read x < /shared/go')
	b.fifo()
	main = t.create(b, exits=False)
	b.start()
	argv = ['-c', b.id, '-r', conmonlab.oci.RUNC, '--runtime-arg', '--root=' + t.runc_root, '-p', t.path('xp'), '-l', t.path('xl'),
		'-e', '--exec-process-spec', t.exec_spec(['/no/such/command']), '--sync']
	r = t.conmon(*argv, start='stream', sync='pipe')
	m = r.message()
	tap.same(m['exit_code'], -1)
	tap.has(m['message'], 'exec failed')
	tap.true(r.end() != 0, 'status')
	b.delete()
	main.end()


@test('C-83', 'up to 8191 bytes of the runtime\'s stderr, cut at a NUL')
def _(t):
	b = t.plain()
	r = t.start_conmon(b, runtime=t.runtime("say('e' * 3000 + '\\n'); sys.exit(1)"))
	tap.same(r.message(), {'data': -1, 'message': 'e' * 3000 + '\n'})
	r.end()


@test('C-84 C-194', 'failed creation: status 1, exit command run, no exit files, attach and FIFOs stay')
def _(t):
	b = t.plain()
	r = t.start_conmon(b, '--exit-command', '/bin/touch', '--exit-command-arg', t.path('ran'),
		runtime=t.runtime("say('no'); sys.exit(9)"))
	tap.same(r.message(), {'data': -1, 'message': 'no'})
	r.sync_ended()
	tap.same(r.end(), 1)
	tap.true(os.path.exists(t.path('ran')), 'exit command')
	tap.same(os.listdir(t.exits) + os.listdir(t.persist), [], 'exit files')
	tap.same(sorted(os.listdir(b.path)), ['attach', 'ctl', 'winsz'])


@test('C-84 C-108', 'failed creation: the symlink is removed', ours='2.1.6 leaves it')
def _(t):
	b = t.plain()
	r = t.start_conmon(b, full=False, runtime=t.runtime("say('no'); sys.exit(9)"))
	tap.same(r.message(), {'data': -1, 'message': 'no'})
	tap.same(r.end(), 1)
	tap.same(os.listdir(t.sockets), [], 'symlink')


@test('C-84', 'a runtime killed by a signal has failed')
def _(t):
	b = t.plain()
	r = t.start_conmon(b, runtime=t.runtime("say('dying'); os.kill(os.getpid(), 9)"))
	tap.same(r.message(), {'data': -1, 'message': 'dying'})
	tap.same(r.end(), 1)


@test('C-84', 'failed creation with the real runtime')
def _(t):
	b = t.bundle(['/no/such/program'])
	r = t.start_conmon(b)
	m = r.message()
	tap.same(m['data'], -1)
	tap.has(m['message'], 'no such file or directory')
	tap.same(r.end(), 1)


@test('C-85', 'a terminal that never arrived is told in words', ours='2.1.6 sends nothing')
def _(t):
	b = t.plain()
	b.terminal = True
	r = t.start_conmon(b, runtime=t.runtime("write_pid(payload('exit 0'))"))
	m = r.message()
	tap.same(m['data'], -1)
	tap.has(m['message'], 'Runtime did not set up terminal')
	tap.same(r.end(), 1)


@test('C-85 W-8', 'exec -t: the runtime\'s own words win', ours='W-8: they are lost')
def _(t):
	r = exec_run(t, '-t', body="say('exec failed: my words'); sys.exit(1)")
	tap.same(r.message(), {'data': -1, 'message': 'exec failed: my words'})
	tap.true(r.end() != 0, 'status')


@test('C-86 W-3', 'a runtime that writes more than a pipe holds to stderr does not dead-lock', ours='W-3: for ever')
def _(t):
	b = t.plain()
	r = t.start_conmon(b, runtime=t.runtime("say('warn\\n' * 60000)\nwrite_pid(payload('exit 0'))"))
	tap.true(r.message(8)['data'] > 0, 'created')
	tap.same(r.end(), 0)
	b = t.plain()
	r = t.start_conmon(b, runtime=t.runtime("say('fail\\n' * 60000)\nsys.exit(1)"))
	m = r.message(8)
	tap.same(m['data'], -1)
	tap.true(m['message'].startswith('fail\nfail\n'), 'its words')
	r.end()


@test('C-86 W-4', 'a surviving grandchild that holds the pipes does not delay the report', ours='W-4: it hangs')
def _(t):
	b = t.plain()
	os.mkfifo(t.path('gate'))
	keep = t.own_fd(os.open(t.path('gate'), os.O_RDWR))
	rt = t.runtime("payload('read x < %s/gate' % DIR)\nsys.exit(1)")
	r = t.start_conmon(b, runtime=rt)
	tap.same(r.message(8)['data'], -1)
	os.write(keep, b'go\n')
	tap.same(r.end(), 1)


@test('C-86 W-4', 'a message that comes in pieces is whole', ours='W-4: a single read')
def _(t):
	b = t.plain()
	rt = t.runtime("for i in range(40): say('piece %d\\n' % i); time.sleep(0.002)\nsys.exit(1)")
	r = t.start_conmon(b, runtime=rt)
	wanted = ''.join('piece %d\n' % i for i in range(40))
	tap.same(r.message(), {'data': -1, 'message': wanted})
	r.end()
	b = t.plain()
	b.terminal = True
	r = t.start_conmon(b, runtime=rt)
	tap.same(r.message(), {'data': -1, 'message': wanted})
	r.end()


@test('C-87', 'a runtime that cannot be executed is told on the sync pipe', ours='2.1.6 sends nothing')
def _(t):
	bad = t.path('bad')
	with open(bad, 'w') as f:
		f.write('\0\1no program')
	os.chmod(bad, 0o755)
	for runtime in ('/etc', bad):
		b = t.plain()
		r = t.start_conmon(b, runtime=runtime)
		tap.same(r.front_status(), 0)
		tap.same(r.message()['data'], -1)
		tap.same(r.end(), 1)
		tap.true(not t.has_exit(b), 'no exit file')


@test('C-88', 'what a good runtime itself prints is container output, on its streams')
def _(t):
	b = t.plain()
	r = t.create(b, runtime=t.runtime("os.write(1, b'runtime out\\n'); say('runtime err\\n')\nwrite_pid(payload('exit 0'))"))
	r.end()
	tap.same([t.logged(), t.logged('stderr')], [b'runtime out\n', b'runtime err\n'])


@test('C-88 C-92', 'with a terminal the runtime\'s stderr is the stderr stream')
def _(t):
	b = t.plain()
	b.terminal = True
	r = t.create(b, runtime=t.runtime("say('runtime err\\n')\npid, _ = terminal('echo tty'); write_pid(pid)"))
	r.end()
	tap.same([t.logged(), t.logged('stderr')], [b'tty\r\n', b'runtime err\n'])


conmonlab.main()

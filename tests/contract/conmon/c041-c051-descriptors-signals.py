#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Inherited descriptors, signals to the monitor, reaping (C-41 to C-51)."""
import json
import os
import select
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


@test('C-41 C-43', 'inherited descriptors reach the runtime at their numbers; nothing of conmon\'s own does')
def _(t):
	b = t.plain()
	r, w = os.pipe()
	t.own_fd(r), t.own_fd(w)
	run = t.create(b, '-i', runtime=t.runtime(RECORD), keep={9: r, 33: w})
	seen = {int(k): v for k, v in runtime_saw(t)['fds'].items()}
	tap.true(seen.pop(9).startswith('pipe:') and seen.pop(33).startswith('pipe:'), 'inherited')
	extra = {fd: what for fd, what in seen.items() if fd > 2 and 'seen' not in what and '/proc/' not in what
		 and '/rt' not in what}
	tap.same(extra, {}, 'descriptors that the runtime should not have')
	run.end()


@test('C-41', 'a container gets sockets by --preserve-fds')
def _(t):
	b = t.bundle('echo here >&4; exit 0')
	r, w = os.pipe()
	t.own_fd(r), t.own_fd(w)
	null = t.own_fd(os.open('/dev/null', os.O_RDWR))
	env = {'_OCI_SYNCPIPE': '5', '_OCI_STARTPIPE': '6'}
	run = t.create(b, '--runtime-opt', '--preserve-fds', '--runtime-opt', '2', keep={3: null, 4: w}, env=env)
	b.start()
	tap.same(run.end(), 0)
	tap.same(os.read(r, 100), b'here\n')


@test('C-42', 'inherited descriptors are closed before the exit file appears', modes=BOTH)
def _(t):
	b = t.bundle('exit 0')
	r, w = os.pipe()
	t.own_fd(r)
	script = t.path('exit')
	with open(script, 'w') as f:
		f.write('#!/bin/sh\nread x < %s\n' % t.path('gate'))
	os.chmod(script, 0o755)
	os.mkfifo(t.path('gate'))
	gate = t.own_fd(os.open(t.path('gate'), os.O_RDWR))
	run = t.create(b, '--exit-command', script, keep={7: w})
	os.close(w)
	b.start()
	t.exit_file(b)
	tap.true(select.select([r], [], [], 2)[0], 'end of file on the pipe that conmon inherited')
	tap.same(os.read(r, 1), b'')
	os.write(gate, b'go\n')
	run.end()


@test('C-42', 'whoever sees the exit file can bind the port that conmon held')
def _(t):
	import socket
	b = t.bundle('exit 0')
	s = socket.socket()
	s.bind(('127.0.0.1', 0))
	s.listen()
	port = s.getsockname()[1]
	run = t.create(b, keep={8: s.fileno()})
	s.close()
	b.start()
	t.exit_file(b)
	with socket.socket() as again:
		again.bind(('127.0.0.1', port))
	run.end()


@test('C-45', 'SIGTERM, SIGINT and SIGQUIT are forwarded to the payload, and the monitor goes on until it ends', modes=BOTH)
def _(t):
	for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
		b = t.bundle('trap "echo got; read x < /shared/go; exit 9" %s; touch /shared/ready; while :; do sleep 0.01; done'
			% signal.Signals(number).name[3:])
		gate = b.fifo()
		r = t.create(b)
		b.start()
		b.wait_file('ready')
		os.kill(r.monitor, number)
		t.wait_logged('got')
		tap.true(r.is_alive(), 'the monitor goes on')
		os.write(gate, b'go\n')
		tap.same(r.end(), 9, 'status after signal %d' % number)
		os.unlink(t.log)


@test('C-46', 'SIGTERM while the runtime creates: the runtime gets it, creation has failed')
def _(t):
	b = t.plain()
	r = t.start_conmon(b, runtime=t.runtime('''
def ended(*_):
	say('terminated')
	sys.exit(1)
signal.signal(signal.SIGTERM, ended)
''' + HANGS))
	runtime_saw(t)
	r.front_status()
	os.kill(r.monitor, signal.SIGTERM)
	tap.same(r.message(), {'data': -1, 'message': 'terminated'})
	tap.same(r.end(), 1)
	tap.true(not t.has_exit(b), 'no exit file')


@test('C-45', 'SIGUSR1 and SIGPIPE are harmless')
def _(t):
	r, b = t.fake('while [ ! -e %s ]; do sleep 0.01; done; exit 4' % t.path('go'))
	for number in (signal.SIGUSR1, signal.SIGPIPE, signal.SIGUSR1):
		os.kill(r.monitor, number)
	open(t.path('go'), 'w').close()
	tap.same(r.end(), 4)
	tap.same(t.exit_file(b), '4')


@test('C-49 C-47', 'orphans of the container are adopted and reaped without a word')
def _(t):
	b = t.plain()
	rt = t.runtime("p = payload('(sh -c \"exit 3\" & ) ; (sh -c \"exit 4\" & ); read x < %s; exit 6' % (DIR + '/gate'))\nwrite_pid(p)")
	os.mkfifo(t.path('gate'))
	gate = t.own_fd(os.open(t.path('gate'), os.O_RDWR))
	r = t.create(b, runtime=rt)
	os.write(gate, b'go\n')
	tap.same(r.end(), 6)
	tap.same(t.exit_file(b), '6')


@test('C-50', 'a payload that ended before the runtime did keeps its status')
def _(t):
	b = t.plain()
	rt = t.runtime("p = payload('exit 23')\nos.waitid(os.P_PID, p, os.WEXITED | os.WNOWAIT)\nwrite_pid(p)\n")
	r = t.start_conmon(b, runtime=rt)
	tap.true(r.message()['data'] > 0, 'created')
	tap.same(r.end(), 23)
	tap.same(t.exit_file(b), '23')


@test('C-50', 'a payload that is reaped as an orphan before the runtime wrote the pid file keeps its status')
def _(t):
	b = t.plain()
	rt = t.runtime("""r, w = os.pipe()
if os.fork() == 0:		# an intermediate process, as runc has: the payload is an orphan at once
	p = payload("exit 24")
	os.write(w, str(p).encode())
	os._exit(0)
os.wait()
p = int(os.read(r, 20))
end = time.monotonic() + 10
while os.path.exists('/proc/%d' % p) and time.monotonic() < end: time.sleep(0.005)
write_pid(p)
""")
	r = t.start_conmon(b, runtime=rt)
	tap.true(r.message()['data'] > 0, 'created')
	tap.same(r.end(), 24)
	tap.same(t.exit_file(b), '24')


@test('C-51 W-23', 'a payload that is not a descendant is waited for all the same',
	race='W-23: 2.1.6 notices its end only by chance')
def _(t):
	gate = t.path('gate')
	os.mkfifo(gate)
	keep = t.own_fd(os.open(gate, os.O_RDWR))
	foreign = processes.spawn(['/bin/busybox', 'sh', '-c', 'read x < %s; exit 3' % gate])
	b = t.plain()
	r = t.start_conmon(b, runtime=t.runtime('write_pid(%d)' % foreign))
	tap.same(r.message(), {'data': foreign})
	tap.true(not t.has_exit(b), 'no exit file while it lives')
	os.write(keep, b'go\n')
	processes.wait(foreign)
	status = t.exit_file(b)
	tap.true(status in ('3', '-1', '0'), 'exit file %r' % status)
	r.end()


@test('C-48', 'a hang-up of the invoker\'s terminal does not reach the monitor')
def _(t):
	b = t.bundle('read x < /shared/go; exit 5')
	gate = b.fifo()
	master, slave = os.openpty()

	def under_a_session_leader():
		import fcntl
		import termios
		os.setsid()
		fcntl.ioctl(0, termios.TIOCSCTTY, 0)
		if os.fork():
			signal.signal(signal.SIGHUP, signal.SIG_DFL)
			while True:
				signal.pause()
	r = t.start_conmon(b, fds={0: slave, 1: slave, 2: slave}, setup=under_a_session_leader)
	os.close(slave)
	tap.true(r.message()['data'] > 0, 'created')
	tap.until(lambda: os.path.exists(r.conmon_pidfile), 'pid file')
	os.close(master)
	tap.same(processes.wait(r.pid), -signal.SIGHUP, 'the session leader')
	b.start()
	os.write(gate, b'go\n')
	tap.same(r.end(), 5)


conmonlab.main()

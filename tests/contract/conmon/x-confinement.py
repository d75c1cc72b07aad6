#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Who may be killed, and who parses: ours and not of the contract. The reference is one process with all privileges."""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import conmonlab	# noqa: E402
import processes	# noqa: E402
import tap		# noqa: E402
from conmonlab import BOTH	# noqa: E402
from tap import test	# noqa: E402

OURS = 'the reference is one process'


def worker(r, name):
	"""Pid of our worker of that name."""
	for p in r.processes():
		if b''.join(processes.cmdline(p)[:1]).startswith(b'conmon: ' + name.encode()):
			return p
	return None


@test('X-6', 'who reads the bytes of container and clients has no capabilities, and no_new_privs',
	ours=OURS, modes=BOTH)
def _(t):
	b = t.bundle('echo ready; read x < /shared/go')
	b.fifo()
	r = t.create(b, '-i')
	c = t.attach(b)
	b.start()
	c.read_until(b'ready\n')
	pid = worker(r, 'monitor')
	tap.true(pid, 'a monitor process')
	for field in ('CapEff', 'CapPrm', 'CapInh', 'CapAmb'):
		tap.same(int(processes.status_field(pid, field), 16), 0, field)
	tap.same(processes.status_field(pid, 'NoNewPrivs'), '1')
	b.delete()
	r.end()


def under_kills(t, name, terminal, times=5):
	n = 60000
	b = t.bundle('read x < /shared/go; seq %d; exit 7' % n, terminal=terminal)
	gate = b.fifo()
	r = t.create(b)
	c = t.attach(b)
	b.start()
	os.write(gate, b'go\n')
	for k in range(times):
		c.read_until(b'%d' % (n * (k + 1) // (times + 3)))
		pid = worker(r, name)
		processes.kill(pid)
		tap.until(lambda: worker(r, name) not in (None, pid) or not r.is_alive(), 'a new %s' % name)
	eol = b'\r\n' if terminal else b'\n'
	wanted = b''.join(b'%d%s' % (i, eol) for i in range(1, n + 1))
	tap.true(c.read_end(30) == wanted, 'the client got %d of %d bytes' % (len(c.out[2]), len(wanted)))
	tap.same(t.exit_file(b), '7')
	tap.true(t.logged() == wanted, 'the log')
	tap.same(r.end(), 7)


@test('X-7', 'SIGKILL to the monitor while output flows: client and log have every byte once, pipes', ours=OURS, modes=BOTH)
def _(t):
	under_kills(t, 'monitor', False)


@test('X-7', 'SIGKILL to the monitor while output flows: client and log have every byte once, terminal', ours=OURS)
def _(t):
	under_kills(t, 'monitor', True)


@test('X-8', 'SIGKILL to the reaper: the container\'s status is still told', ours=OURS, modes=BOTH)
def _(t):
	under_kills(t, 'reaper', False, times=2)


ROLES = ('keeper', 'reaper', 'heir', 'monitor')


def roles():
	"""Who is who, by pid: the one that is none of the workers is the keeper."""
	found = {}
	for p in processes.everyone():
		if processes.comm(p).startswith('conmon'):
			title = b''.join(processes.cmdline(p)[:1]).decode().rstrip()
			found[title[len('conmon: '):] if title.startswith('conmon: ') else 'keeper'] = p
	return found if len(found) == len(ROLES) else None


def after_kill_of(t, names, patient):
	"""Kill those processes at once; the container's end must be told as ever, and with the rights of who called conmon."""
	b = t.bundle('echo one; read x < /shared/go; echo two; exit 7')
	gate = b.fifo()
	proof = t.path('status-of-exit-command')
	r = t.create(b, '--exit-command', '/bin/cp', '--exit-command-arg', '/proc/self/status', '--exit-command-arg', proof)
	b.start()
	t.wait_logged('one')
	first = tap.until(roles, 'all four of them', 10)
	wanted = processes.status_field(first['reaper'], 'CapEff')
	if names[0] == 'keeper':		# who is stopped can't replace the other between the two kills
		for name in names:
			processes.kill(first[name], signal.SIGSTOP)
			tap.until(lambda: processes.state(first[name]) == 'T', 'a stopped %s' % name)
	for name in names:
		processes.kill(first[name])

	def replaced():
		found = roles()
		return found and all(found[name] != first[name] for name in names)
	if patient:
		tap.until(replaced, 'all four again', 10)
	os.write(gate, b'go\n')
	tap.same(t.exit_file(b, 20), '7')
	tap.same(t.logged(), b'one\ntwo\n')
	tap.until(lambda: os.path.exists(proof) and 'Seccomp' in t.text(proof), 'the exit command', 20)
	fields = dict(line.split(':\t', 1) for line in t.text(proof).splitlines())
	tap.same(fields['CapEff'], wanted, 'capabilities of the exit command')
	tap.same(fields['NoNewPrivs'], '0')
	tap.until(lambda: not [p for p in processes.everyone() if processes.comm(p).startswith('conmon')], 'the end of all of them', 10)
	t.runs.remove(r)


for first in ROLES:
	for second in ROLES[:ROLES.index(first)]:
		@test('X-9', 'SIGKILL to %s and %s at once: status, log, and an exit command with the caller\'s rights' % (second, first),
			ours=OURS, modes=BOTH)
		def _(t, names=(second, first)):
			after_kill_of(t, names, patient=t.is_rootless)


@test('X-9', 'a monitor that hangs when the container ends, and is no child of its keeper, is replaced before it is given up', ours=OURS)
def _(t):
	b = t.bundle('echo one; read x < /shared/go; echo two; exit 7')
	gate = b.fifo()
	r = t.create(b)
	b.start()
	t.wait_logged('one')
	first = tap.until(roles, 'all four of them', 10)
	processes.kill(first['keeper'])
	tap.until(lambda: (roles() or first)['keeper'] != first['keeper'], 'a new keeper', 10)	# asked once: it may go meanwhile
	processes.kill(first['monitor'], signal.SIGSTOP)	# told to its parent, who is not the keeper
	os.write(gate, b'go\n')
	tap.same(t.exit_file(b, 40), '7')
	tap.same(t.logged(), b'one\ntwo\n')
	tap.until(lambda: not [p for p in processes.everyone() if processes.comm(p).startswith('conmon')], 'the end of all of them', 10)
	t.runs.remove(r)


@test('X-10', 'SIGKILL to the process of the pid file at once, or soon after: the caller is told in words that nothing was created', ours=OURS)
def _(t):
	b = t.plain()
	rt = t.runtime('import time\nif SUB: time.sleep(0.5); write_pid(payload("sleep 3600"))')
	path = t.path('pid-' + b.id[:6])
	for n in range(24):
		r = t.start_conmon(b, runtime=rt)
		tap.until(lambda: os.path.exists(path), 'the pid file', pause=0)
		end = time.monotonic() + n % 6 * 0.0004		# somewhere in the start
		while time.monotonic() < end:
			pass
		processes.kill(r.monitor)
		m = r.message()
		tap.true(m and m['data'] == -1 and m['message'].startswith('conmon '), 'kill %d: %r' % (n, m))
		tap.until(lambda: not [p for p in processes.everyone() if processes.comm(p).startswith('conmon')], 'the end of all of them', 10)
		for fd in (r.sync, r.start, r.fd1, r.fd2):
			t.close_fd(fd)
		t.runs.remove(r)
		os.unlink(path)

conmonlab.main()

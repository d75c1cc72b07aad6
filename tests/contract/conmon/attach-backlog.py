#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A client that does not read for a while: it gets everything later, from a file, also after the container's end (C-121, C-122)."""
import os
import random
import re
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import conmonlab	# noqa: E402
import processes	# noqa: E402
import tap		# noqa: E402
from conmonlab import BOTH	# noqa: E402
from tap import test	# noqa: E402

OURS = 'the reference lets the container wait'
NOTE = re.compile(rb'\r\n\[conmon: (\d+) bytes of output dropped, this client did not read\]\r\n')
LAST = 900000		# of seq: 6 MiB
ALL = b''.join(b'%d\n' % i for i in range(1, LAST + 1))
WAIT = 'echo > /shared/written; read x < /shared/go; '


def stalled(t, script, *extra, **how):
	"""A container that has written everything while its client read nothing: run, bundle, client, gate."""
	b = t.bundle(script)
	gate = b.fifo()
	r = t.create(b, '--attach-stall', '0', *extra, **how)
	c = t.attach(b)
	b.start()
	b.wait_file('written', seconds=20)
	return r, b, c, gate


def backlogs(r):
	"""The unlinked files that conmon holds, in bytes."""
	held = {}
	for p in r.processes():
		for fd, what in processes.fds(p).items():
			if what.endswith(' (deleted)') and '/#' in what:
				held[what] = os.stat('/proc/%d/fd/%d' % (p, fd)).st_size
	return held


def worker(r, name, but=None):
	found = [p for p in r.processes() if p != but and b''.join(processes.cmdline(p)).startswith(b'conmon: ' + name)]
	return found[0] if found else None


def of_conmon():
	return [p for p in processes.everyone() if processes.comm(p).startswith('conmon')]


def same(got, wanted, what='bytes'):
	tap.true(got == wanted, '%s: got %d, wanted %d; first difference at %d' % (what, len(got), len(wanted),
		next((i for i, (x, y) in enumerate(zip(got, wanted)) if x != y), min(len(got), len(wanted)))))


@test('C-121', 'who reads late, while the container runs, gets every byte; the file goes when it is read', ours=OURS, modes=BOTH)
def _(t):
	r, b, c, gate = stalled(t, 'seq %d; %s echo end' % (LAST, WAIT))
	tap.same(len(backlogs(r)), 1, 'files')
	same(c.read_size(len(ALL)), ALL)
	tap.until(lambda: not backlogs(r), 'the file is closed')
	os.write(gate, b'go\n')
	same(c.read_end(), ALL + b'end\n')
	tap.same(c.out[3], b'')
	tap.same(r.end(), 0)


@test('C-121 C-122', 'who reads after the container\'s end gets every byte of both streams; the exit does not wait', ours=OURS, modes=BOTH)
def _(t):
	r, b, c, gate = stalled(t, 'seq %d; seq %d >&2; %s exit 3' % (LAST, LAST, WAIT), log='none')
	os.write(gate, b'go\n')
	tap.same(t.exit_file(b, 15), '3')
	tap.same(r.end(), 3)
	tap.true(of_conmon(), 'others than the process that is waited for stay for the client')
	b.delete()
	c.read_end()
	same(c.out[2], ALL, 'stdout')
	same(c.out[3], ALL, 'stderr')
	tap.until(lambda: not of_conmon(), 'all of conmon has ended')


@test('C-121', 'beyond --attach-backlog bytes are lost, and their number is told exactly where they are missing', ours=OURS)
def _(t):
	r, b, c, gate = stalled(t, 'seq %d; %s' % (LAST, WAIT), '--attach-backlog', '2000000', log='none')
	tap.same(list(backlogs(r).values()), [2000000])
	os.write(gate, b'go\n')
	c.read_end()
	lost = [int(m[1]) for m in NOTE.finditer(c.out[3])]
	tap.same(len(lost), 1, 'notes')
	same(len(c.out[2]) * b'x' + lost[0] * b'x', len(ALL) * b'x', 'read and told together')
	same(c.out[2][:2000000], ALL[:2000000], 'the beginning')
	same(c.out[2][2000000:][-500000:], ALL[-500000:], 'the end')
	tap.same(r.end(), 0)


@test('C-121', 'without a file (--attach-backlog 0, no directory, a full one) what the ring can\'t keep is told', ours=OURS)
def _(t):
	full = t.tmpfs('full', '300k')
	for extra, env in ((('--attach-backlog', '0'), {}), ((), {'TMPDIR': t.path('nowhere')}), ((), {'TMPDIR': full})):
		r, b, c, gate = stalled(t, 'seq %d; %s echo end' % (LAST, WAIT), *extra, env=env, log='none')
		c.read_until(b'this client did not read', stream=3)
		os.write(gate, b'go\n')
		c.read_until(b'\nend\n')
		lost = sum(int(m[1]) for m in NOTE.finditer(c.out[3]))
		tap.same(len(c.out[2]) + lost, len(ALL) + 4, 'read and told')
		same(c.out[2][-500000:], (ALL + b'end\n')[-500000:], 'the end')
		tap.same(r.end(), 0)
		os.unlink(t.path('cp')) if os.path.exists(t.path('cp')) else None


@test('C-121', 'one client stalls, another reads: it gets everything at once, the first one later; a third only what is new', ours=OURS)
def _(t):
	b = t.bundle('read x < /shared/go; seq %d; %s echo end' % (LAST, WAIT))
	gate = b.fifo()
	r = t.create(b, '--attach-stall', '0')
	b.start()
	r.settle()
	first, second = t.attach(b), t.attach(b)
	r.serving(2)
	os.write(gate, b'go\n')
	same(second.read_size(len(ALL)), ALL)
	b.wait_file('written')
	third = t.attach(b)
	r.serving(3)
	os.write(gate, b'go\n')
	same(second.read_end(), ALL + b'end\n')
	same(third.read_end(), b'end\n')
	same(first.read_end(), ALL + b'end\n')
	tap.same(r.end(), 0)


@test('C-121', 'a client that stalls twice, each time with more to come', ours=OURS)
def _(t):
	script = 'seq %d; echo > /shared/written; read x < /shared/go; seq %d; echo > /shared/second; read x < /shared/go; echo end'
	r, b, c, gate = stalled(t, script % (LAST, LAST))
	c.read_size(2500000)
	os.write(gate, b'go\n')
	b.wait_file('second', seconds=20)
	os.write(gate, b'go\n')
	same(c.read_end(), ALL + ALL + b'end\n')
	tap.same(r.end(), 0)


@test('C-121', 'the client goes while it is behind: file and process go, too', ours=OURS)
def _(t):
	r, b, c, gate = stalled(t, 'seq %d; %s' % (LAST, WAIT))
	c.close()
	tap.until(lambda: not backlogs(r), 'the file is closed')
	os.write(gate, b'go\n')
	tap.same(r.end(), 0)
	r, b, c, gate = stalled(t, 'seq %d; %s' % (LAST, WAIT), '-P', t.path('cp2'), pidfile=False)
	os.write(gate, b'go\n')
	t.exit_file(b, 15)
	tap.same(r.end(), 0)
	tap.true(of_conmon(), 'others than the process that is waited for stay for the client')
	c.close()
	tap.until(lambda: not of_conmon(), 'all of conmon has ended')


@test('C-121', 'who stays for a client ends at a SIGTERM to all of them, as systemd sends it', ours=OURS)
def _(t):
	r, b, c, gate = stalled(t, 'seq %d; %s exit 6' % (LAST, WAIT))
	os.write(gate, b'go\n')
	tap.same(r.end(), 6)

	def signalled():
		for p in of_conmon():
			processes.kill(p, signal.SIGTERM)
		return not of_conmon()
	tap.until(signalled, 'all of conmon has ended')
	tap.true(len(c.read_end()) < len(ALL), 'the client has lost its end')


@test('C-121', 'the monitor is killed again and again, while the file grows and while it is read: every byte once', ours=OURS, deadline=60)
def _(t):
	rng = random.Random(1)
	b = t.bundle('read x < /shared/go; seq %d; %s echo end' % (2 * LAST, WAIT))
	gate = b.fifo()
	r = t.create(b, '--attach-stall', '0')
	c = t.attach(b)
	b.start()
	os.write(gate, b'go\n')
	wanted = b''.join(b'%d\n' % i for i in range(1, 2 * LAST + 1))
	killed = None
	for _n in range(12):
		killed = tap.until(lambda: worker(r, b'monitor', killed), 'the next monitor')
		size = rng.randrange(50000, 400000)
		begun = os.path.getsize(t.log)
		tap.until(lambda: os.path.getsize(t.log) - begun > size or os.path.exists(b.file('written')), 'more output')
		processes.kill(killed)
	b.wait_file('written', seconds=20)
	read = 0
	while read < len(wanted):
		read = min(len(wanted), read + rng.randrange(100000, 1500000))
		c.read_size(read)
		killed = tap.until(lambda: worker(r, b'monitor', killed), 'the next monitor')
		processes.kill(killed)
	os.write(gate, b'go\n')
	same(c.read_end(), wanted + b'end\n')
	tap.same(c.out[3], b'')
	tap.same(r.end(), 0)


@test('C-121', 'after the container\'s end reaper and keeper are killed again and again: every byte once', ours=OURS, deadline=60)
def _(t):
	rng = random.Random(2)
	r, b, c, gate = stalled(t, 'seq %d; %s exit 5' % (2 * LAST, WAIT))
	os.write(gate, b'go\n')
	tap.same(t.exit_file(b, 15), '5')
	wanted = b''.join(b'%d\n' % i for i in range(1, 2 * LAST + 1))
	tap.same(r.end(), 5)
	tap.lacks(r.err(), 'killed', 'messages')
	killed, read = [], 0

	def next_one(name):
		found = [p for p in of_conmon() if b''.join(processes.cmdline(p)).startswith(b'conmon: ' + name) and p not in killed]
		return found[0] if found else None
	while read < len(wanted) - 400000:
		read = min(len(wanted) - 400000, read + rng.randrange(100000, 1500000))
		c.read_size(read)
		for name in (b'keeper', b'reaper'):
			killed.append(tap.until(lambda: next_one(name), 'the next one'))
			processes.kill(killed[-1])
	same(c.read_end(), wanted)
	tap.same(c.out[3], b'')
	tap.until(lambda: not of_conmon(), 'all of conmon has ended')


@test('--attach-backlog', 'a wrong value is refused in one line', ours=OURS)
def _(t):
	b = t.plain()
	r = t.conmon('-c', b.id, '-u', b.id, '-r', '/bin/true', '-l', 'none', '--attach-backlog', '-1', sync=None)
	tap.same(r.front_status(), 1)
	tap.has(r.err(), '--attach-backlog must be 0 to')


conmonlab.main()

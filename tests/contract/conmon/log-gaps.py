#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What stands in a log where something is missing: the exact number, in time, and no line that nobody wrote."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import conmonlab	# noqa: E402
import k8slog		# noqa: E402
import processes	# noqa: E402
import tap		# noqa: E402
from journal import Journal, private_run	# noqa: E402
from tap import test	# noqa: E402

private_run()
OURS = 'nothing is counted by the reference'
NOTE = re.compile(rb'conmon: (\d+) bytes \((\d+) lines\) of output are missing here\n?\Z')
COUNT = 'i=%d; while [ $i -lt %d ]; do echo "line $i"; i=$((i+1)); done; '


def told(records):
	"""(bytes, lines) that the log says are missing."""
	found = [m for m in (NOTE.match(x.content) for x in records) if m]
	return sum(int(m[1]) for m in found), sum(int(m[2]) for m in found)


def lines(data):
	tap.true(data == b'' or data.endswith(b'\n'), 'the last line has its end')
	return data.splitlines()


def is_part(got, wanted):
	"""@got are lines of @wanted, in order."""
	rest = iter(wanted)
	for line in got:
		tap.true(line in rest, 'nobody wrote this line, or not here: %r' % line)


@test('--log-rate-policy drop', 'what is left out last is told, too: bytes and lines are exact, every line is one that was written', ours=OURS)
def _(t):
	for option in (('--log-rate-lines', '50'), ('--log-rate', '2000'), ('--log-rate-lines', '70', '--log-rate', '3000', '--log-rate-burst', '2')):
		b = t.bundle(COUNT % (0, 5000))
		r = t.create(b, *option, '--log-rate-policy', 'drop')
		b.start()
		tap.same(r.end(), 0)
		wanted = [b'line %d' % i for i in range(5000)]
		got = lines(t.logged())
		is_part(got, wanted)
		size, count = told(t.records())
		tap.true(0 < len(got) < 5000, 'some are left out: %d' % len(got))
		tap.same(count + len(got), 5000, 'lines')
		tap.same(size + len(t.logged()), len(b'\n'.join(wanted)) + 1, 'bytes')
		os.unlink(t.log)
		r.close_sync()


@test('--log-rate-policy drop', 'a container that falls silent after its flood: the loss is told all the same', ours=OURS)
def _(t):
	b = t.bundle(COUNT % (0, 3000) + 'seq 3000 >&2; echo > /shared/silent; read x < /shared/go')
	gate = b.fifo()
	r = t.create(b, '--log-rate-lines', '20', '--log-rate-policy', 'drop')
	b.start()
	b.wait_file('silent')
	wanted = sum(len(b'line %d\n' % i) for i in range(3000)) + sum(len(b'%d\n' % i) for i in range(1, 3001))

	def all_told():
		with open(t.log, 'rb') as f:
			data = f.read()
		records = k8slog.parse(data[:data.rfind(b'\n') + 1])
		own = [x for x in records if not NOTE.match(x.content)]
		return told(records)[0] + len(k8slog.content(own, 'stderr')) + len(k8slog.content(own)) == wanted
	tap.until(all_told, 'what is logged and what is told are everything')
	os.write(gate, b'go\n')
	tap.same(r.end(), 0)


class Disk:
	"""A small disk with the log on it, that can be filled up."""

	def __init__(self, t, size='256k'):
		self.dir = t.tmpfs('disk', size)
		self.log = self.dir + '/log'

	def fill(self):
		"""Not one byte more has room: the log ends in a page that is full."""
		fd = os.open(self.dir + '/ballast', os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC)
		try:
			while os.write(fd, bytes(4096)):
				pass
		except OSError:
			pass
		finally:
			os.close(fd)

	def free(self):
		os.unlink(self.dir + '/ballast')


def steps(t, script, *extra, **how):
	"""A container that goes on by one step of @script whenever it is told to."""
	b = t.bundle('; '.join('%s; read x < /shared/go' % s for s in script))
	gate = b.fifo()
	r = t.create(b, *extra, **how)
	c = t.attach(b)
	b.start()
	return r, b, c, lambda: os.write(gate, b'go\n')


PAGE = "printf '%4050s\\n' x"		# with its header a page of the file


@test('C-149', 'a line whose end was refused is ended before the next one begins; the rest of one whose beginning was '
	'refused goes, too', ours=OURS)
def _(t):
	disk = Disk(t)
	r, b, c, go = steps(t, ["printf 'open '", PAGE.replace('4050', '4045') + "; printf 'again '", "echo rest of it; printf '%4050s' lost", 'echo " tail"; echo next'],
		log=disk.log)
	c.read_until(b'open ')
	t.wait_logged(b'open ', path=disk.log)
	disk.fill()
	go()
	c.read_until(b'again ')
	go()
	c.read_until(b'lost')
	tap.until(lambda: all(processes.is_blocked(p) for p in r.processes()), 'the monitor has tried to write it')
	tap.same(t.logged(path=disk.log)[:5], b'open ')
	written = t.logged(path=disk.log)
	disk.free()
	go()
	t.wait_logged(b'next', path=disk.log)
	go()
	c.read_end()
	tap.same(r.end(), 0)
	got = t.logged(path=disk.log)
	tap.true(got.endswith(b'\nnext\n'), 'the last line is alone: %r' % got[-80:])
	tap.true(got.startswith(written), 'nothing before is changed')
	tap.true(b'tail' not in got, 'no tail without its beginning')
	size, count = told(t.records(disk.log))
	tap.same(size + len(got), len(c.out[2]), 'logged and told are everything')
	tap.same(count + got.count(b'\n'), c.out[2].count(b'\n'), 'lines')


@test('--log-rate-policy drop', 'what is within the rate and waits for a disk is not left out because of what comes later', ours=OURS)
def _(t):
	disk = Disk(t)
	r, b, c, go = steps(t, ['echo one', COUNT % (0, 150) + 'echo waits', COUNT % (150, 3000) + 'echo over', 'exit 0'], '--log-on-error', 'block',
		'--log-rate-lines', '200', '--log-rate-policy', 'drop', log=disk.log)
	c.read_until(b'one')
	t.wait_logged(b'one', path=disk.log)
	disk.fill()
	go()
	c.read_until(b'waits')
	go()
	c.read_until(b'over')
	disk.free()
	t.wait_logged(b'line 149\n', path=disk.log)
	go()
	c.read_end()
	go()
	tap.same(r.end(), 0)
	got = t.logged(path=disk.log)
	is_part(lines(got), c.out[2].splitlines())
	tap.same(lines(got)[:151], [b'one'] + [b'line %d' % i for i in range(150)])
	tap.same(told(t.records(disk.log))[0] + len(got), len(c.out[2]), 'bytes')


@test('--log-on-error drop', 'that a log fails and works again is said once each, though the container is silent', ours=OURS)
def _(t):
	os.mkdir(t.path('xdg'))
	disk = Disk(t)
	r, b, c, go = steps(t, ['echo one', COUNT % (0, 200) + 'echo over', 'exit 0'], log=disk.log)
	c.read_until(b'one')
	t.wait_logged(b'one', path=disk.log)
	disk.fill()
	go()
	c.read_until(b'over')

	def events(word):
		return re.findall(r'EVENT\.\d+=\S+ log k8s-file %s' % word, t.text(t.path('xdg/tandem/conmon-%s.state' % b.id)))
	tap.until(lambda: events('failing'), 'the event')
	disk.free()
	tap.until(lambda: events('resumed'), 'the other event')
	tap.until(lambda: told(t.records(disk.log))[0] > 0, 'the note')
	tap.same([len(events('failing')), len(events('resumed'))], [1, 1])
	size, count = told(t.records(disk.log))
	tap.same(size + len(t.logged(path=disk.log)), len(c.out[2]))
	go()
	go()
	tap.same(r.end(), 0)


@test('C-162', 'a log that can\'t be rotated any more goes on beyond its limit, which is told once; later it is rotated again',
	ours='rotation is newer')
def _(t):
	os.mkdir(t.path('logs'))
	log = t.path('logs/log')
	r, b, c, go = steps(t, ['echo begin', COUNT % (0, 300) + 'echo half', COUNT % (300, 600) + 'echo over'], '--log-rotate', '--log-max-files', '99',
		'--log-size-max', '1000', log=log)
	c.read_until(b'begin')
	t.wait_logged(b'begin', path=log)
	os.rename(t.path('logs'), t.path('moved'))
	open(t.path('logs'), 'w').close()
	go()
	t.wait_logged(b'half', path=t.path('moved/log'))
	tap.same(lines(t.logged(path=t.path('moved/log'))), [b'begin'] + [b'line %d' % i for i in range(300)] + [b'half'])
	os.unlink(t.path('logs'))
	os.rename(t.path('moved'), t.path('logs'))
	c.read_until(b'half')

	def goes_on():		# once a second it is tried again
		go()
		return os.path.exists(log + '.1')
	go()
	c.read_until(b'over')
	go()
	tap.same(r.end(), 0)
	names = sorted((n for n in os.listdir(t.path('logs'))), key=lambda n: -int('0' + n[4:]))
	data = b''.join(t.logged(path=t.path('logs/' + n)) for n in names)
	tap.same(lines(data), [b'begin'] + [b'line %d' % i for i in range(300)] + [b'half'] + [b'line %d' % i for i in range(300, 600)] + [b'over'])


@test('C-168', 'a log that is a FIFO whose reader stalls: records are whole, in order and once, what is missing is told', ours=OURS)
def _(t):
	fifo = t.path('fifo')
	os.mkfifo(fifo)
	end = t.own_fd(os.open(fifo, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
	b = t.bundle('x=$(printf %700s x); i=0; while [ $i -lt 6000 ]; do echo "line $i$x"; i=$((i+1)); done; echo > /shared/written; '
		'read x < /shared/go; echo over')
	gate = b.fifo()
	r = t.create(b, log=fifo)
	b.start()
	b.wait_file('written', seconds=25)
	os.write(gate, b'go\n')
	data = b''

	def over():
		nonlocal data
		try:
			while True:
				data += os.read(end, 1 << 16)
		except BlockingIOError:
			pass
		return data.endswith(b' over\n')
	tap.until(over, 'the end', 15, pause=0.001)
	records = k8slog.parse(data)
	wanted = [b'line %d' % i + b' ' * 699 + b'x' for i in range(6000)] + [b'over']
	got = lines(k8slog.content(records))
	is_part(got, wanted)
	tap.same(told(records)[1] + len(got), 6001, 'lines')
	tap.true(told(records)[1] > 0, 'something is missing')
	tap.same(r.end(), 0)


@test('C-177', 'a journal that stalls and comes back: whole lines, in order and once, what is missing is told', ours=OURS)
def _(t):
	j = Journal(t)
	b = t.bundle('x=$(printf %700s x); i=0; while [ $i -lt 16000 ]; do echo "line $i$x"; i=$((i+1)); done; echo > /shared/written; '
		'read x < /shared/go; echo over')
	gate = b.fifo()
	r = t.create(b, log='journald')
	b.start()
	b.wait_file('written', seconds=25)
	os.write(gate, b'go\n')
	tap.until(lambda: b'over\n' in (j.drain() and j.field('MESSAGE')), 'the end', 15)
	tap.same(r.end(), 0)
	messages = [m for m in j.field('MESSAGE') if m.endswith(b'\n')]		# others are conmon's own events
	notes = [m for m in map(NOTE.match, messages) if m]
	got = [m for m in messages if not NOTE.match(m)]
	is_part(got, [b'line %d' % i + b' ' * 699 + b'x\n' for i in range(16000)] + [b'over\n'])
	tap.same(sum(int(m[2]) for m in notes) + len(got), 16001, 'lines')
	tap.true(notes, 'something is missing')


conmonlab.main()

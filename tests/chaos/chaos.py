#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""chaos: containers under load while processes of ours are killed at random instants; prints what that has cost.

  chaos.py [--kills N] [--seconds S] [--seed N] [--levels conmon,network,podman-root,podman-rootless] [--tap]
           [--no-kills] [--reference] [--keep] [--report FILE]

Ends after N kills or S seconds, whichever is first. --reference drives Debian's conmon and slirp4netns without killing
them: what the driver counts must be zero there too. The same seed gives the same choices, not the same instants.
"""
import argparse
import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import world			# noqa: E402
from ledger import Ledger	# noqa: E402

PAIRS = 0.2			# of the kills hit two processes of one container
HANGS = 0.03			# SIGSTOP: the worker hangs, the keeper has to see it
CRASHES = 0.02			# SIGSEGV; three of one worker within seconds are a crash loop, and it is started with less
RUN_ENDS = 300			# s after the last kill, for everything to come to its end and be counted
GAP_WAIT = 0.06			# s, mean time between two kills over all containers


def arguments():
	p = argparse.ArgumentParser(add_help=True)
	p.add_argument('--kills', type=int, default=1000)
	p.add_argument('--seconds', type=float, default=900)
	p.add_argument('--seed', type=int, default=random.SystemRandom().randrange(1 << 30))
	p.add_argument('--levels', default='conmon,network')
	p.add_argument('--tap', action='store_true')
	p.add_argument('--no-kills', action='store_true')
	p.add_argument('--reference', action='store_true')
	p.add_argument('--keep', action='store_true')
	p.add_argument('--report', help='also write the report to this file')
	p.add_argument('--history', help='write every kill and every event to this file')
	args = p.parse_args()
	if args.reference:
		args.no_kills = True
		os.environ['TANDEM_CONMON'] = '/usr/bin/conmon'
		os.environ['TANDEM_NETNS_HELPER'] = '/usr/bin/slirp4netns'
	return args


def make_rigs(args, programs, book, threads, journal, rng):
	rigs = []
	for level in args.levels.split(','):
		if level == 'conmon':
			import conmon_rig
			rigs.append(conmon_rig.Rig(programs, book, threads, journal, rng, not args.no_kills, args.keep))
		elif level == 'network':
			import network_rig
			rigs.append(network_rig.Rig(programs, book, threads, journal, rng, not args.no_kills))
		elif level.startswith('podman-'):
			import podman_rig
			rigs.append(podman_rig.Rig(programs, book, threads, journal, rng, not args.no_kills, level[7:]))
		else:
			sys.exit('chaos: no such level: %s' % level)
	return rigs


class Killer:
	"""Chooses a container, one or two of its processes and an instant. At least one process that holds the descriptors stays."""

	def __init__(self, rigs, book, rng):
		self.rigs, self.book, self.rng = rigs, book, rng
		self.doomed = set()	# killed, though /proc may still show them alive for some milliseconds

	def turn(self):
		"""One kill, or none if nothing may be killed just now."""
		rng = self.rng
		rig = rng.choice(self.rigs)
		groups = [(level, target, [p for p in pids if p not in self.doomed]) for level, target, pids in rig.groups()]
		groups = [g for g in groups if len(g[2]) >= 2]
		if not groups:
			return 0
		level, target, pids = rng.choice(groups)
		n = 2 if len(pids) >= 3 and rng.random() < PAIRS else 1
		victims = rng.sample(sorted(pids), n)
		rest = [p for p in pids if p not in victims]
		dice = rng.random()
		number = signal.SIGSTOP if n == 1 and dice < HANGS else \
			signal.SIGSEGV if n == 1 and dice < HANGS + CRASHES else signal.SIGKILL
		roles = '+'.join(sorted(rig.role(target, p) for p in victims))
		if 'conmon' in roles:
			return 0	# a child that is about to become the runtime or the exit command: not ours
		if not rig.allows(roles, len(pids)):
			return 0
		if number == signal.SIGSTOP and ('keeper' in roles or 'janitor' in roles):
			number = signal.SIGKILL		# nobody watches whether these hang
		# The last look: whoever is to survive must still be there. The janitor holds nothing.
		if not any(world.works(p) and 'janitor' not in rig.role(target, p) for p in rest):
			return 0
		done = sum(world.kill(p, number) for p in victims)
		self.doomed.update(victims)
		if done:
			self.book.killed(level, '%s %s' % (roles, signal.Signals(number).name), target.name,
				'%s of %s' % (victims, sorted(pids)))
		return done

	def run(self, kills, seconds):
		end = time.monotonic() + seconds
		while self.book.n_kills < kills and time.monotonic() < end:
			self.turn()
			time.sleep(min(1.0, self.rng.expovariate(1 / GAP_WAIT)))


def count_events(journal, book):
	"""Every event of ours in the journal, by kind; and the gaps that they tell."""
	for entry in journal.entries('SYSLOG_IDENTIFIER=conmon', 'SYSLOG_IDENTIFIER=netns-helper'):
		if 'MESSAGE_ID' not in entry:
			continue
		who = entry['SYSLOG_IDENTIFIER']
		book.events['%s: %s' % (who, EVENT_NAMES.get(entry['MESSAGE_ID'], entry['MESSAGE_ID']))] += 1
		if EVENT_NAMES.get(entry['MESSAGE_ID']) in ('restarted', 'recovered') and entry.get('TANDEM_GAP_MS', '').isdigit():
			book.gap('%s %s' % (who, entry.get('TANDEM_WORKER', '?')), int(entry['TANDEM_GAP_MS']))


def event_names():
	"""MESSAGE_ID → kind, from the header that defines them."""
	names = {}
	with open(os.path.join(world.TOP, 'common', 'event-log.h')) as f:
		for line in f:
			words = line.split()
			if len(words) == 3 and words[0] == '#define' and words[1].startswith('EVENT_ID_'):
				names[words[2].strip('"')] = words[1][9:].lower().replace('_', ' ').replace('worker ', '')
	return names


EVENT_NAMES = {}


def main():
	args = arguments()
	world.enter(args.seconds + RUN_ENDS)
	programs = world.Programs()
	EVENT_NAMES.update(event_names())
	rng = random.Random(args.seed)
	book = Ledger()
	threads = world.Threads(book)
	journal = world.Journal()
	begin = time.monotonic()
	rigs = make_rigs(args, programs, book, threads, journal, rng)
	for rig in rigs:
		rig.start()
	if args.no_kills:
		time.sleep(args.seconds)
	else:
		Killer(rigs, book, random.Random(args.seed + 1)).run(args.kills, args.seconds)
	for rig in rigs:
		rig.stop()
	threads.join(90)
	for rig in rigs:
		rig.finish()
	count_events(journal, book)
	if args.history:
		write_history(args.history, journal, book)
	journal.stop()
	return conclude(args, book, time.monotonic() - begin)


def write_history(path, journal, book):
	"""Kills, and what the daemons said about them, to find out about a failure."""
	with open(path, 'w') as f:
		f.write('begin %.3f\n' % book.begin)
		f.writelines(line + '\n' for line in book.history + book.failures)
		for e in journal.entries('SYSLOG_IDENTIFIER=conmon', 'SYSLOG_IDENTIFIER=netns-helper'):
			if 'MESSAGE_ID' in e:
				f.write('%8.3f %s %s[%s]: %s\n' % (int(e['__MONOTONIC_TIMESTAMP']) / 1e6 - book.begin,
					e.get('CONTAINER_NAME', '-'), e['SYSLOG_IDENTIFIER'], e['_PID'], e['MESSAGE']))


def conclude(args, book, seconds):
	title = 'chaos: seed %d, levels %s, %.0f s%s' % (args.seed, args.levels, seconds,
		', the reference programs' if args.reference else '')
	if args.report:
		with open(args.report, 'w') as f:
			book.report(f, title)
	if not args.tap:
		book.report(sys.stdout, title)
		return 0 if book.ok() else 1
	tests = [(p, book.broken[p] == 0) for p in Ledger.PROMISES] + [('the run itself', not book.failures or
		any(book.broken.values()))]
	print('1..%d' % len(tests))
	for i, (name, ok) in enumerate(tests, 1):
		print('%sok %d %s' % ('' if ok else 'not ', i, name if name == 'the run itself' else 'no ' + name))
	for line in report_lines(book, title):
		print('# ' + line)
	return 0 if all(ok for _, ok in tests) else 1


def report_lines(book, title):
	import io
	out = io.StringIO()
	book.report(out, title)
	return out.getvalue().splitlines()


if __name__ == '__main__':
	status = main()
	sys.stdout.flush()
	os._exit(status)	# threads of a load that hangs must not keep us

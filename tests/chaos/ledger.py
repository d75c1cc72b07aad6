# SPDX-License-Identifier: Apache-2.0
"""What the run counts, and the report."""
import collections
import statistics
import threading
import time

SAID_MAX = 12	# failures of one kind that are told in words


class Ledger:
	# What has to be zero, in the words of the report.
	PROMISES = ('log lines lost', 'log lines doubled or torn', 'client bytes lost, doubled or changed',
		'wrong exit codes', 'refused connections', 'connections left hanging', 'spliced connections cut', 'containers disturbed',
		'exit commands missing or doubled', 'left over')

	def __init__(self):
		self.lock = threading.Lock()
		self.counts = collections.Counter()
		self.kills = collections.Counter()
		self.broken = collections.Counter()
		self.gaps = collections.defaultdict(list)
		self.events = collections.Counter()
		self.said = collections.Counter()
		self.failures = []
		self.begin = time.monotonic()
		self.history = []	# every kill: when, whom, which processes

	def count(self, what, n=1):
		with self.lock:
			self.counts[what] += n

	def killed(self, level, how, name, pids):
		with self.lock:
			self.kills[(level, how)] += 1
			self.history.append('%8.3f %s %s: %s %s' % (time.monotonic() - self.begin, level, name, how, pids))

	def gap(self, who, ms):
		with self.lock:
			self.gaps[who].append(ms)

	def breach(self, promise, text, n=1):
		"""Something that must be zero is not."""
		if promise not in self.PROMISES:
			raise ValueError(promise)
		with self.lock:
			self.broken[promise] += n
			self.said[promise] += 1
			if self.said[promise] <= SAID_MAX:
				self.failures.append('%8.3f %s: %s' % (time.monotonic() - self.begin, promise, text))

	def fail(self, text):
		"""The run itself went wrong."""
		with self.lock:
			self.failures.append(text)

	@property
	def n_kills(self):
		with self.lock:
			return sum(self.kills.values())

	def report(self, out, title):
		def line(text=''):
			print(text, file=out)
		line(title)
		line()
		line('kills: %d' % self.n_kills)
		for (level, how), n in sorted(self.kills.items()):
			line('  %6d  %-16s %s' % (n, level, how))
		line('load')
		for what, n in sorted(self.counts.items()):
			line('  %9d  %s' % (n, what))
		line('must be zero')
		for promise in self.PROMISES:
			line('  %9d  %s' % (self.broken[promise], promise))
		line('gap from death to working again, ms')
		for who, values in sorted(self.gaps.items()):
			values.sort()
			line('  %-28s median %5.1f   90 %% %5.1f   max %6.1f   of %d' % (who, statistics.median(values),
				values[int(len(values) * 0.9)], values[-1], len(values)))
		if not self.gaps:
			line('  none reported')
		line('events in the journal')
		for what, n in sorted(self.events.items()):
			line('  %9d  %s' % (n, what))
		for text in self.failures[:100]:
			line('FAILURE  ' + text)

	def ok(self):
		return not self.failures and not any(self.broken.values())

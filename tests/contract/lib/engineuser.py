# SPDX-License-Identifier: Apache-2.0
"""The ordinary user of the sandbox as engines want him: with a name, a home, a runtime directory and subordinate ids."""
import os

from netlab import USER, WORK

RANGE = 'netlab:600000:65536\n'


def account(t):
	"""Make the account, once for the sandbox, and its directories for this test; the environment to start an engine in."""
	for path, line in (('/etc/passwd', 'netlab:x:%d:%d::%s:/bin/sh\n' % (USER, USER, WORK)),
			   ('/etc/group', 'netlab:x:%d:\n' % USER), ('/etc/subuid', RANGE), ('/etc/subgid', RANGE)):
		text = ''
		if os.path.exists(path):
			with open(path) as f:
				text = f.read()
		if line not in text:
			with open(path, 'a') as f:
				f.write(line)
	for name in ('xdg', 'home'):
		if not os.path.isdir(t.path(name)):
			os.mkdir(t.path(name), 0o700)
			os.chown(t.path(name), USER, USER)
	return {'PATH': os.environ['PATH'], 'XDG_RUNTIME_DIR': t.path('xdg'), 'HOME': t.path('home'), 'USER': 'netlab'}


def as_user():
	"""Arguments for subprocess."""
	return {'user': USER, 'group': USER, 'extra_groups': []}

#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""N-186 to N-199: --enable-sandbox and --enable-seccomp, measured on the started pid and on all that belongs to it."""
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import helperlab
import netlab
import tap
from helperlab import ALL, ROOTLESS, api, forward, free_port, status_field
from netlab import HOST, run
from tap import test

BIND_ONLY = '0000000000000400'
NONE = '0000000000000000'


def kind(t):
	return 'path' if t.mode == ROOTLESS else 'pid'


def sandboxed(t, *options, **how):
	g = t.guest()
	return g, t.start(g, '--enable-sandbox', *options, kind=kind(t), **how)


@test('N-20 N-189 N-241', 'the root of the started pid holds etc and run, and nothing else', modes=ALL)
def _(t):
	g, h = sandboxed(t)
	tap.same(sorted(os.listdir('/proc/%d/root' % h.pid)), ['etc', 'run'], 'root directory')
	tap.same(os.readlink('/proc/%d/cwd' % h.pid), '/', 'working directory')
	for pid in h.all_pids():
		tap.true(set(os.listdir('/proc/%d/root' % pid)) <= {'etc', 'run'}, 'root directory of process %d' % pid)


def mounts(pid):
	"""Mount point → (options, super options, propagation fields, type) of @pid."""
	found = {}
	with open('/proc/%d/mountinfo' % pid) as f:
		for line in f:
			left, right = line.rstrip().split(' - ')
			fields = left.split()
			found[fields[4]] = (set(fields[5].split(',')), set(right.split()[2].split(',')), fields[6:], right.split()[0])
	return found


@test('N-189', 'root is a read-only tmpfs, etc and run are read-only, nosuid, nodev, noexec; the old root is gone', modes=ALL)
def _(t):
	g, h = sandboxed(t)
	seen = mounts(h.pid)
	tap.same(seen['/'][3], 'tmpfs', 'type of /')
	tap.true('ro' in seen['/'][0] | seen['/'][1], '/ is writable')
	for path in ('/etc', '/run'):
		tap.true({'ro', 'nosuid', 'nodev', 'noexec'} <= seen[path][0], '%s has %r' % (path, seen[path][0]))
	other = [p for p in seen if p != '/' and not p.startswith(('/etc', '/run'))]
	tap.same(other, [], 'other mounts')


@test('N-189', 'what is mounted on the host below /run appears inside, and nothing flows out')
def _(t):
	run('mount', '--make-rshared', '/run')
	g, h = sandboxed(t)
	path = t.path('later')
	os.mkdir(path)
	run('mount', '-t', 'tmpfs', 'later', path)
	try:
		tap.true(path in mounts(h.pid), 'the new mount is not seen inside')
		shared = [p for p, m in mounts(h.pid).items() if any(f.startswith('shared:') for f in m[2])]
		tap.same(shared, [], 'mounts that are shared')
	finally:
		run('umount', path)
		run('mount', '--make-rprivate', '/run')


@test('N-190', 'the caller\'s mounts stay: a shared /run with a mount below it is complete afterwards', modes=ALL)
def _(t):
	path = t.path('foo')
	os.mkdir(path)
	run('mount', '--make-rshared', '/run')
	run('mount', '-t', 'tmpfs', 'foo', path)
	try:
		before = run('findmnt', '-n', '-o', 'TARGET,FSTYPE,SOURCE')
		g, h = sandboxed(t)
		tap.has(run('findmnt', path), path, 'findmnt')
		tap.same(run('findmnt', '-n', '-o', 'TARGET,FSTYPE,SOURCE'), before, 'mounts')
		h.kill()
		tap.same(run('findmnt', '-n', '-o', 'TARGET,FSTYPE,SOURCE'), before, 'mounts afterwards')
	finally:
		run('umount', path)
		run('mount', '--make-rprivate', '/run')


@test('N-190 N-219', 'it works in a fresh, recursively private mount namespace as Podman makes it', modes=['root'])
def _(t):
	g = t.guest()
	h = t.start(g, '--enable-sandbox', '--enable-seccomp', kind='path',
		prefix=['unshare', '--mount', '--propagation', 'private'])
	tap.same(sorted(os.listdir('/proc/%d/root' % h.pid)), ['etc', 'run'], 'root directory')
	t.through(g, t.listen())


@test('N-192 N-241', 'capabilities are CAP_NET_BIND_SERVICE alone, and no_new_privs is set', modes=ALL)
def _(t):
	g, h = sandboxed(t)
	for name, value in (('CapPrm', BIND_ONLY), ('CapEff', BIND_ONLY), ('CapInh', BIND_ONLY), ('CapBnd', BIND_ONLY),
			    ('CapAmb', NONE), ('NoNewPrivs', '1')):
		tap.same(status_field(h.pid, name), value, name)
	for pid in h.all_pids():
		for name in ('CapPrm', 'CapEff', 'CapInh', 'CapBnd'):
			tap.true(int(status_field(pid, name), 16) & ~0x400 == 0, '%s of process %d' % (name, pid))
		tap.same(status_field(pid, 'NoNewPrivs'), '1', 'NoNewPrivs of process %d' % pid)


@test('N-192', 'getpcaps on the started pid shows cap_net_bind_service and not cap_sys_admin')
def _(t):
	g, h = sandboxed(t)
	text = run('getpcaps', str(h.pid))
	tap.has(text, 'cap_net_bind_service', 'getpcaps')
	tap.lacks(text, 'cap_sys_admin', 'getpcaps')


@test('N-187', 'an ordinary user\'s helper is uid 0 of the target\'s user namespace; others stay where they are', modes=ALL)
def _(t):
	g, h = sandboxed(t)
	own = os.readlink('/proc/%d/ns/user' % h.pid)
	wanted = g.pid if t.mode != 'root' else 1
	tap.same(own, os.readlink('/proc/%d/ns/user' % wanted), 'user namespace')
	tap.same(status_field(h.pid, 'Uid').split(), [str(t.uid)] * 4, 'uids as the host sees them')
	tap.same(status_field(h.pid, 'Gid').split(), [str(t.uid)] * 4, 'gids as the host sees them')


@test('N-188', 'with a path, an ordinary user\'s sandbox is that of --userns-path', modes=['user'],
	ours='the reference ignores --userns-path here')
def _(t):
	g = t.guest()
	h = t.start(g, '--enable-sandbox', kind='path')
	tap.same(os.readlink('/proc/%d/ns/user' % h.pid), os.readlink(g.userns_path), 'user namespace')
	tap.same(status_field(h.pid, 'CapPrm'), BIND_ONLY, 'CapPrm')


@test('N-188', 'with a path but no --userns-path, an ordinary user is told why it fails', modes=['user'])
def _(t):
	g = t.guest()
	h = t.raw('-c', '--enable-sandbox', '--netns-type=path', g.path, 'tap0', ready=True)
	tap.same((h.reap(), h.read_ready(0)), (1, b''), 'status and ready descriptor')
	tap.true(h.err().strip(), 'no word on stderr')


@test('N-193', 'where mounts are forbidden it ends with status 1 and never goes on unsandboxed')
def _(t):
	g = t.guest()
	if t.mode == 'user':
		raise tap.Skip('an ordinary user has the right in the user namespace of the target')
	h = t.raw('-c', '--enable-sandbox', *t.target(g), 'tap0', ready=True,
		prefix=['setpriv', '--bounding-set', '-all,+net_admin,+setuid,+setgid,+net_bind_service', '--inh-caps', '-all'])
	tap.same((h.reap(), h.read_ready(0)), (1, b''), 'status and ready descriptor')
	tap.true(h.err().strip(), 'no word on stderr')
	tap.same(g.link('tap0'), None, 'link')


@test('N-194', 'traffic, API, forwards and exit descriptor work inside', modes=ALL)
def _(t):
	path = t.path('api.sock')
	g, h = sandboxed(t, '--enable-seccomp', '--enable-ipv6', '--api-socket=' + path, exit_fd=True)
	t.through(g, t.listen())
	port = free_port()
	forward(path, port, 8080)
	s = t.listen(g, '0.0.0.0', 8080)
	t.connect(HOST, '127.0.0.1', port)
	t.accept(s)
	tap.same(api(path, 'remove_hostfwd', id=1), {'return': {}}, 'answer')
	h.close_exit()
	tap.same(h.reap(), 0, 'status')


@test('N-191', 'a resolv.conf that is a link to a file elsewhere works inside', modes=ALL,
	ours='1.2.0 only warns; later versions bind it')
def _(t):
	path = '/tmp/netlab-resolv.%d.conf' % os.getppid()
	with open(path, 'w') as f:
		f.write('nameserver 127.0.0.1\n')
	try:
		os.unlink('/etc/resolv.conf')
		os.symlink(path, '/etc/resolv.conf')
		u = t.udp(HOST, '127.0.0.1', 53)
		g, h = sandboxed(t)
		t.udp(g).sendto(b'query', ('10.0.2.3', 53))
		tap.same(u.recv(100), b'query', 'query')
	finally:
		os.unlink(path)
		os.unlink('/etc/resolv.conf')


@test('N-21 N-195 N-196', 'with the filter every process of the helper is in seccomp mode 2 with no_new_privs', modes=ALL)
def _(t):
	for options in (['--enable-seccomp'], ['--enable-seccomp', '--enable-sandbox']):
		g = t.guest()
		h = t.start(g, *options, kind=kind(t))
		for pid in h.all_pids():
			tap.same((status_field(pid, 'Seccomp'), status_field(pid, 'NoNewPrivs')), ('2', '1'),
				'seccomp and no_new_privs of process %d with %r' % (pid, options))
		t.through(g, t.listen())
		h.close()


@test('N-195', 'without the two options nothing is confined')
def _(t):
	g, h = t.pair()
	tap.same(status_field(h.pid, 'Seccomp'), '0', 'seccomp mode')
	tap.true('home' in os.listdir('/proc/%d/root' % h.pid), 'root directory')


# what the filter must block, by the numbers of x86-64 (N-196)
X86_64 = {'execve': 59, 'execveat': 322, 'ptrace': 101, 'process_vm_readv': 310, 'process_vm_writev': 311, 'pidfd_getfd': 438,
	'pidfd_open': 434, 'pidfd_send_signal': 424, 'lookup_dcookie': 212, 'setns': 308, 'unshare': 272, 'prctl': 157,
	'mount': 165, 'umount2': 166, 'pivot_root': 155, 'chroot': 161, 'fsopen': 430, 'fsconfig': 431, 'fsmount': 432,
	'fspick': 433, 'move_mount': 429, 'open_tree': 428, 'name_to_handle_at': 303, 'open_by_handle_at': 304,
	'init_module': 175, 'finit_module': 313, 'delete_module': 176, 'kexec_load': 246, 'kexec_file_load': 320, 'reboot': 169}
ALLOWED = {'read': 0, 'write': 1, 'close': 3, 'openat': 257, 'socket': 41, 'connect': 42, 'fstat': 5, 'ppoll': 271,
	'sendto': 44, 'recvfrom': 45, 'exit_group': 231}
AUDIT_X86_64, AUDIT_I386 = 0xc000003e, 0x40000003
KILL_PROCESS, KILL_THREAD, ERRNO, ALLOW = 0x80000000, 0, 0x00050000, 0x7fff0000


def filters(pid):
	"""The programs of all filters of @pid, by PTRACE_SECCOMP_GET_FILTER of a tracer with all rights."""
	ptrace = netlab.LIBC.ptrace
	ptrace.restype = netlab.ctypes.c_long
	ptrace.argtypes = [netlab.ctypes.c_long] * 2 + [netlab.ctypes.c_void_p] * 2
	if ptrace(0x4206, pid, None, None) != 0:	# PTRACE_SEIZE
		raise tap.Skip('the process is traced by another, so its filter cannot be read')
	try:
		ptrace(0x4207, pid, None, None)		# PTRACE_INTERRUPT
		os.waitpid(pid, 0x40000000)		# __WALL
		found = []
		while True:
			n = ptrace(0x420c, pid, len(found), None)
			if n <= 0:
				return found
			buffer = netlab.ctypes.create_string_buffer(n * 8)
			ptrace(0x420c, pid, len(found), netlab.ctypes.cast(buffer, netlab.ctypes.c_void_p))
			found.append([struct.unpack_from('<HBBI', buffer.raw, i * 8) for i in range(n)])
	finally:
		ptrace(17, pid, None, None)		# PTRACE_DETACH


def verdict(program, arch, number):
	"""Run a classic BPF program on a system call with arguments of zero."""
	data = struct.pack('<IIQ', number, arch, 0) + bytes(48)
	a = x = at = 0
	memory = [0] * 16
	while True:
		code, jt, jf, k = program[at]
		at += 1
		if code == 0x20:
			a = struct.unpack_from('<I', data, k)[0]
		elif code in (0x06, 0x16):
			return k if code == 0x06 else a
		elif code == 0x05:
			at += k
		elif code & 7 == 5:
			right = k if not code & 8 else x
			test_ = {0x10: a == right, 0x20: a > right, 0x30: a >= right, 0x40: bool(a & right)}[code & 0xf0]
			at += jt if test_ else jf
		elif code & 7 == 4:
			a = {0x50: a & k, 0x40: a | k, 0x00: a + k, 0x10: a - k}[code & 0xf0] & 0xffffffff
		elif code == 0x02:
			memory[k] = a
		elif code == 0x60:
			a = memory[k]
		elif code == 0x00:
			a = k
		elif code == 0x07:
			x = a
		elif code == 0x87:
			a = x
		else:
			raise tap.Failure('unknown instruction %#x' % code)


def outcome(programs, arch, number):
	"""The strictest verdict, which is the one that counts."""
	return min((verdict(p, arch, number) for p in programs), key=lambda v: {KILL_PROCESS: 0, KILL_THREAD: 1}.get(
		v & 0xffff0000, 2 if v & 0xffff0000 != ALLOW else 3))


@test('N-196 N-197 N-198', 'the filter kills for every listed call, on native and compatible ABIs, and lets the needed ones pass')
def _(t):
	if os.uname().machine != 'x86_64':
		raise tap.Skip('the numbers here are those of x86-64')
	g = t.guest()
	h = t.start(g, '--enable-sandbox', '--enable-seccomp', kind=kind(t))
	read = 0
	for pid in h.all_pids():
		try:
			programs = filters(pid)
		except tap.Skip:
			continue
		read += 1
		tap.true(programs, 'no filter on process %d' % pid)
		for name, number in X86_64.items():
			for arch, n in ((AUDIT_X86_64, number), (AUDIT_X86_64, number | 0x40000000)):
				if arch == AUDIT_X86_64 and n & 0x40000000 and name in ('execve', 'ptrace', 'process_vm_readv',
						'process_vm_writev', 'execveat', 'kexec_load'):
					continue	# x32 has other numbers for these
				v = outcome(programs, arch, n)
				tap.true(v in (KILL_PROCESS, KILL_THREAD), '%s (%#x) gives %#x in process %d' % (name, n, v, pid))
		for name, n in (('execve', 11), ('ptrace', 26), ('mount', 21), ('unshare', 310), ('setns', 346), ('umount', 22)):
			v = outcome(programs, AUDIT_I386, n)
			tap.true(v in (KILL_PROCESS, KILL_THREAD), 'i386 %s gives %#x in process %d' % (name, v, pid))
		for name, n in ALLOWED.items():
			tap.same(outcome(programs, AUDIT_X86_64, n), ALLOW, name)
	tap.true(read > 0, 'no filter could be read')
	t.through(g, t.listen())


helperlab.main()

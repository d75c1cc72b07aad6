#include "config.h"

#include "netns-helper/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/landlock.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/confine.h"
#include "common/fd-util.h"

#define LINKS_MAX 10 /* hops from /etc/resolv.conf */

/* --- the user namespace --- */

int sandbox_enter_userns(const Options *options)
{
	cleanup_close int fd = -1;
	char buf[64];
	const char *path = options->userns_path;

	if (geteuid() == 0)
		return 0;
	if (options->target_kind == TARGET_PID) {
		snprintf(buf, sizeof(buf), "/proc/%d/ns/user", options->target_pid);
		path = buf;
	}
	if (!path) {
		fprintf(stderr, "--enable-sandbox: an ordinary user needs a user namespace to build it in: "
				"name it with --userns-path\n");
		return -EINVAL;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWUSER) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0) {
		int r = -errno;

		fprintf(stderr, "--enable-sandbox: cannot become root of user namespace %s: %s\n", path,
			strerror(-r));
		return r;
	}
	return 0;
}

/* --- mounts --- */

/* Add flags to one mount, keeping those it has: in a user namespace some are locked. */
static int mount_restrict(const char *path)
{
	struct mount_attr attr = {
		.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
	};
	unsigned long flags = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
	struct statvfs st;

	if (syscall(SYS_mount_setattr, AT_FDCWD, path, 0, &attr, sizeof(attr)) == 0)
		return 0;
	/* Before Linux 5.12: all flags at once, so the present ones must be known. */
	if (statvfs(path, &st) < 0)
		return -errno;
	flags |= (st.f_flag & ST_NOATIME ? MS_NOATIME : 0) | (st.f_flag & ST_RELATIME ? MS_RELATIME : 0) |
		 (st.f_flag & ST_NODIRATIME ? MS_NODIRATIME : 0);
	return mount(NULL, path, NULL, flags, NULL) < 0 ? -errno : 0;
}

static int bind_directory(const char *root, const char *dir)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s%s", root, dir);
	if (mkdir(path, 0755) < 0 || mount(dir, path, NULL, MS_BIND | MS_REC, NULL) < 0)
		return -errno;
	return mount_restrict(path);
}

static bool is_visible(const char *path)
{
	return strncmp(path, "/etc/", 5) == 0 || strncmp(path, "/run/", 5) == 0;
}

static int make_parents(char *path, size_t root_len)
{
	for (char *p = path + root_len + 1; (p = strchr(p, '/')); p++) {
		*p = '\0';
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return 0;
}

/* Where the chain of links from /etc/resolv.conf leaves what is visible, and where it ends. Found before anything is covered. */
typedef struct {
	char wanted[PATH_MAX]; /* empty: it does not leave */
	char real[PATH_MAX];
	int fd; /* of the file, O_PATH */
} Resolv;

/* @p path becomes what the symbolic link @p path points to, lexically absolute. @return 1, or 0 if it is no link */
static int follow_link(char *path)
{
	char target[PATH_MAX];
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	char *slash = strrchr(path, '/');

	if (n < 0)
		return 0;
	target[n] = '\0';
	if (target[0] == '/') {
		strcpy(path, target);
		return 1;
	}
	*slash = '\0';
	for (char *p = target; strncmp(p, "../", 3) == 0;
		memmove(target, target + 3, strlen(target + 3) + 1)) {
		char *up = strrchr(path, '/');

		if (up)
			*up = '\0';
	}
	if (strlen(path) + 1 + strlen(target) >= PATH_MAX)
		return 0;
	strcat(path, "/");
	strcat(path, target);
	return 1;
}

static int find_resolv_conf(Resolv *resolv)
{
	char path[PATH_MAX] = "/etc/resolv.conf";

	for (int i = 0; i < LINKS_MAX && follow_link(path); i++) {
		if (is_visible(path))
			continue;
		if (!realpath(path, resolv->real))
			return errno == ENOENT ? 0 : -errno;
		resolv->fd = open(resolv->real, O_PATH | O_CLOEXEC);
		if (resolv->fd < 0)
			return -errno;
		strcpy(resolv->wanted, path);
		return 0;
	}
	return 0;
}

/* N-191: the place that is not visible is provided. */
static int provide_resolv_conf(const char *root, const Resolv *resolv)
{
	char path[2 * PATH_MAX], source[64];
	cleanup_close int fd = -1;
	int r;

	if (!resolv->wanted[0])
		return 0;
	snprintf(path, sizeof(path), "%s%s", root, resolv->wanted);
	r = make_parents(path, strlen(root));
	if (r < 0)
		return r;
	if (is_visible(resolv->real)) /* by a link, so that a file replaced by rename is followed */
		return symlink(resolv->real, path) < 0 ? -errno : 0;
	snprintf(source, sizeof(source), "/proc/self/fd/%d", resolv->fd);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0444);
	if (fd < 0 || mount(source, path, NULL, MS_BIND, NULL) < 0)
		return -errno;
	return mount_restrict(path);
}

static int build_root(const char *root)
{
	Resolv resolv = {.fd = -1};
	int r, found = find_resolv_conf(&resolv);

	if (mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=0,mode=0755") < 0)
		return -errno;
	r = bind_directory(root, "/etc");
	if (r == 0)
		r = bind_directory(root, "/run");
	if (r == 0 && found == 0)
		found = provide_resolv_conf(root, &resolv);
	(void)fd_close(resolv.fd);
	if (r == 0 && found < 0)
		fprintf(stderr, "sandbox: /etc/resolv.conf leads to a file that cannot be shown inside; DNS "
				"may fail\n");
	return r;
}

static int change_root(const char *root)
{
	char old[PATH_MAX];

	snprintf(old, sizeof(old), "%s/old", root);
	if (mkdir(old, 0700) < 0 || syscall(SYS_pivot_root, root, old) < 0)
		return -errno;
	if (chdir("/") < 0 || umount2("/old", MNT_DETACH) < 0 || rmdir("/old") < 0)
		return -errno;
	(void)mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=0");
	(void)mount_restrict("/"); /* old kernels, nested: the content is nothing but mount points */
	return 0;
}

/* Where pivot_root is not possible (the root is an initramfs, or a chroot). */
static int change_root_by_chroot(const char *root)
{
	if (chdir(root) < 0 || mount(root, "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
		return -errno;
	(void)mount_restrict("/");
	return 0;
}

static int mount_sandbox(const Options *options, const char **why)
{
	static const char root[] = "/tmp";
	int r;

	*why = "new mount namespace";
	if (unshare(CLONE_NEWNS) < 0)
		return -errno;
	*why = "mount propagation";
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return -errno;
	*why = "a root with /etc and /run on /tmp";
	r = build_root(root);
	if (r < 0)
		return r;
	*why = "pivot_root";
	r = change_root(root);
	if (r == 0 || options->sandbox_strict)
		return r;
	fprintf(stderr, "sandbox: pivot_root: %s; using chroot instead\n", strerror(-r));
	*why = "chroot";
	return change_root_by_chroot(root);
}

/* --- where mounts are forbidden: landlock(7) --- */

static int landlock_allow(int ruleset, const char *path)
{
	cleanup_close int fd = open(path, O_PATH | O_CLOEXEC);
	struct landlock_path_beneath_attr rule = {
		.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR,
		.parent_fd = fd,
	};

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
		return -errno;
	return 0;
}

static int landlock_sandbox(void)
{
	/* Every right of the first version of the interface (Linux 5.13). */
	struct landlock_ruleset_attr attr = {.handled_access_fs = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1};
	cleanup_close int ruleset =
		(int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr.handled_access_fs), 0);
	int r;

	if (ruleset < 0)
		return -errno;
	r = landlock_allow(ruleset, "/etc");
	if (r == 0)
		r = landlock_allow(ruleset, "/run");
	if (r == 0)
		r = confine_no_new_privs();
	if (r == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		r = -errno;
	return r;
}

/* --- capabilities --- */

int sandbox_drop_capabilities(bool raw)
{
	/* Published ports below 1024, where the caller may have them (N-185); ping by raw socket (N-90). */
	static const cap_value_t keep[] = {CAP_NET_BIND_SERVICE, CAP_NET_RAW};
	int r = confine_capabilities(keep, raw ? 2 : 1);

	return r < 0 ? r : confine_no_new_privs();
}

int sandbox_enter(const Options *options)
{
	const char *why = "";
	int r = mount_sandbox(options, &why), fallback;

	if (r < 0 && !options->sandbox_strict) {
		fallback = landlock_sandbox();
		if (fallback == 0) {
			fprintf(stderr,
				"sandbox: %s: %s; files but those in /etc and /run are locked by Landlock "
				"instead\n",
				why, strerror(-r));
			r = 0;
		}
	}
	if (r < 0) {
		fprintf(stderr,
			"cannot build the sandbox: %s: %s (leave out --enable-sandbox to run without)\n", why,
			strerror(-r));
		return r;
	}
	r = sandbox_drop_capabilities(false);
	if (r < 0)
		fprintf(stderr, "cannot build the sandbox: dropping capabilities: %s\n", strerror(-r));
	return r;
}

#include "config.h"

#include "common/confine.h"

#include <errno.h>
#include <sys/prctl.h>

static int apply_sets(const cap_value_t *keep, size_t n_keep)
{
	cap_t now = cap_get_proc(), want = cap_init();
	int r = now && want ? 0 : -errno;

	for (size_t i = 0; r == 0 && i < n_keep; i++) {
		cap_flag_value_t held = CAP_CLEAR;

		if (cap_get_flag(now, keep[i], CAP_PERMITTED, &held) < 0 || held != CAP_SET)
			continue;
		if (cap_set_flag(want, CAP_PERMITTED, 1, &keep[i], CAP_SET) < 0 ||
			cap_set_flag(want, CAP_EFFECTIVE, 1, &keep[i], CAP_SET) < 0 ||
			cap_set_flag(want, CAP_INHERITABLE, 1, &keep[i], CAP_SET) < 0)
			r = -errno;
	}
	if (r == 0 && cap_set_proc(want) < 0)
		r = -errno;
	(void)cap_free(now);
	(void)cap_free(want);
	return r;
}

static int is_kept(cap_value_t cap, const cap_value_t *keep, size_t n_keep)
{
	for (size_t i = 0; i < n_keep; i++)
		if (keep[i] == cap)
			return 1;
	return 0;
}

int confine_capabilities(const cap_value_t *keep, size_t n_keep)
{
	/* The bounding set first: dropping from it needs CAP_SETPCAP, which is about to go. */
	for (cap_value_t cap = 0; cap_get_bound(cap) >= 0; cap++) {
		if (is_kept(cap, keep, n_keep) || cap_get_bound(cap) == 0)
			continue;
		if (cap_drop_bound(cap) < 0 && errno != EPERM)
			return -errno;
	}
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
		return -errno;
	return apply_sets(keep, n_keep);
}

int confine_no_new_privs(void)
{
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

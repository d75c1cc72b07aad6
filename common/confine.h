#pragma once
/*
 * Giving up rights: capabilities(7) by libcap, PR_SET_NO_NEW_PRIVS, seccomp(2) by libseccomp.
 */
#include <stddef.h>
#include <sys/capability.h>

/**
 * Keep only @p keep in the permitted, effective, inheritable and bounding sets (bounding as far as CAP_SETPCAP allows), clear the ambient set.
 *
 * @param keep    capabilities to keep as far as they are held; may be NULL
 * @param n_keep  how many
 * @return 0 or -errno
 */
int confine_capabilities(const cap_value_t *keep, size_t n_keep);

/** PR_SET_NO_NEW_PRIVS. @return 0 or -errno */
int confine_no_new_privs(void);

/** For confine_filter_new(): ptrace(2) except resuming a process that is traced already (common/supervise needs that). */
#define CONFINE_NEW_TRACING "ptrace:new"

/* A compiled filter. */
typedef struct ConfineFilter ConfineFilter;

/**
 * Compile a filter that kills the process on any of @p deny, for the native and the compatible architectures, and allows all else. This is
 * done in a child, because libseccomp takes more memory for it than a small daemon takes in all, and once, so that a worker that
 * starts again only loads it.
 *
 * @param deny         NULL-terminated names; a name that libseccomp does not know is skipped
 * @param ret_filter   never freed: for the life of the process and its children
 * @param ret_skipped  number of names skipped; may be NULL
 * @return 0 or -errno
 */
int confine_filter_new(const char *const *deny, ConfineFilter **ret_filter, unsigned *ret_skipped);

/** Load it, with PR_SET_NO_NEW_PRIVS. @return 0 or -errno */
int confine_filter_load(const ConfineFilter *filter);

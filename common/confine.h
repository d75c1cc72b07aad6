#pragma once
/*
 * Giving up rights: capabilities(7) by libcap, PR_SET_NO_NEW_PRIVS.
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

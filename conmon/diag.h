#pragma once
/*
 * conmon's own diagnostics: contract section 15 (C-216 to C-220). One state per process, inherited by forks.
 */
#include "common/fd-store.h"

typedef enum { DIAG_ERROR, DIAG_WARN, DIAG_INFO, DIAG_DEBUG, DIAG_TRACE } DiagLevel;

/** @return 0, or -EINVAL if @p name is no level of C-216 (upper and lower case are the same) */
int diag_level_parse(const char *name, DiagLevel *ret_level);

/** Whether messages of @p level are printed. */
bool diag_has_level(DiagLevel level);

/** Print what is at least as important as @p level; errors always. The default is DIAG_WARN. */
void diag_set_level(DiagLevel level);

/**
 * Send every diagnostic to syslog, too. Opens the socket at once, so that it works in the sandbox later.
 *
 * @param cid  container id, borrowed for ever
 * @param tag  log tag or NULL, borrowed for ever
 */
void diag_use_syslog(const char *cid, const char *tag);

/** Register the syslog socket, once the registry exists. */
void diag_register(FdStore *store);

/**
 * One line. Keeps errno.
 *
 * @param level   how important
 * @param error   errno value whose text is appended after a blank; 0: none
 * @param format  the text without line end
 */
void diag_log(DiagLevel level, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));

#define diag_error(...) diag_log(DIAG_ERROR, 0, __VA_ARGS__)
#define diag_error_errno(error, ...) diag_log(DIAG_ERROR, (error) < 0 ? -(error) : (error), __VA_ARGS__)
#define diag_warn(...) diag_log(DIAG_WARN, 0, __VA_ARGS__)
#define diag_warn_errno(error, ...) diag_log(DIAG_WARN, (error) < 0 ? -(error) : (error), __VA_ARGS__)
#define diag_info(...) diag_log(DIAG_INFO, 0, __VA_ARGS__)
#define diag_debug(...) diag_log(DIAG_DEBUG, 0, __VA_ARGS__)
#define diag_trace(...) diag_log(DIAG_TRACE, 0, __VA_ARGS__)

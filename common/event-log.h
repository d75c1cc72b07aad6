#pragma once
/*
 * Structured events: one journal entry each (systemd's native journal protocol), syslog where there is no journal.
 * For deaths, restarts and the like, not for container output.
 */
#include <stdarg.h>

/* Message ids; the catalog in systemd/ explains them to people (journalctl -x). */
#define EVENT_ID_WORKER_DIED "6cb0d8a1f7d64c1c9d7c8b6f5a0e2d11"
#define EVENT_ID_WORKER_RESTARTED "b1f5b7c0a3b94e0f8d0e6c1d2f3a4b52"
#define EVENT_ID_WORKER_HUNG "0f2a4c6e8b1d4f3a9c5e7d9b1a3c5e73"
#define EVENT_ID_DEGRADED "94d7e1c35b2a4f68a1c9e3d5f7b90284"
#define EVENT_ID_RECOVERED "7d14c8e05a3b4b9fb2e6d9c3f1a70852"
#define EVENT_ID_HOPELESS "d5b92e7c61f0438aa4c7e8d2b6f31094"
#define EVENT_ID_NEW_KEEPER "3a8e5d2c7f914b06b4d2c8e6a0f1d395"
#define EVENT_ID_SINK_FAILED "c7a1e9d4520b4e3f86d5b3a7f1c20ea6"
#define EVENT_ID_SINK_RESUMED "58f3c2b7e6a94d10935a7e1d8c4b06f7"
#define EVENT_ID_KEEP_FULL "01ec004cb7794980b7bba1225dd2249f"
#define EVENT_ID_EXIT_UNKNOWN "e20b6f94d83c4a57a6e1f5c3b7d90418"

typedef struct EventLog EventLog;

/**
 * @param identifier  SYSLOG_IDENTIFIER, "conmon" or "netns-helper"
 * @param cid         CONTAINER_ID_FULL (and CONTAINER_ID, its first 12 bytes) or NULL
 * @param name        CONTAINER_NAME or NULL
 * @return never NULL; it opens its socket at once, so it works in a sandbox later, and falls back silently to syslog, then to nothing
 */
EventLog *event_log_new(const char *identifier, const char *cid, const char *name);

/**
 * Emit one entry. Never blocks; what can't be delivered is dropped.
 *
 * @param id        message id (32 hex digits) or NULL
 * @param priority  0..7 as in syslog(3)
 * @param message   the MESSAGE in words
 * @param ...       "NAME=value" strings, NULL at the end
 */
void event_log_emit(EventLog *log, const char *id, int priority, const char *message, ...)
	__attribute__((sentinel));

/** The socket, to be registered in the FdStore ("events"); -1 if there is none. */
int event_log_fd(const EventLog *log);

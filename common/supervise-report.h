#pragma once
/*
 * One wording, one set of journal fields and one line of the state file for what happens to the workers of either daemon:
 *
 *   MESSAGE_ID, TANDEM_WORKER, TANDEM_WORKER_PID, TANDEM_CAUSE (words), TANDEM_GAP_MS (death to working again), TANDEM_RESTORED,
 *   TANDEM_LOST, TANDEM_RESTARTS, TANDEM_STEP
 *
 * beside what the EventLog adds (CONTAINER_ID_FULL, CONTAINER_NAME). systemd/tandem.catalog explains the ids.
 */
#include "event-log.h"
#include "state-file.h"
#include "supervise.h"

#define SUPERVISE_REPORT_TEXT 400 /* bytes of the text for people */

typedef struct {
	EventLog *events;
	StateFile *state;
	/* Words for a worker's name, e.g. "network worker"; NULL: the name itself. */
	const char *(*worker_words)(const char *worker);
	/* Words for a degrade step, e.g. "without the fast path"; NULL: its number. */
	const char *(*step_words)(const char *worker, unsigned step);
} SuperviseReporter;

/**
 * Write @p event to journal and state file (which is not flushed).
 *
 * @param reporter  where to and in which words
 * @param event     what happened
 * @param ret_text  at least SUPERVISE_REPORT_TEXT bytes: the same in one line, for a daemon's own stderr or syslog
 * @return its priority as in syslog(3); 7 for what is no news (a first start)
 */
int supervise_report(const SuperviseReporter *reporter, const SuperviseEvent *event, char *ret_text);

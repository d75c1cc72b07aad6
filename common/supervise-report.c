#include "config.h"

#include "common/supervise-report.h"

#include <stdio.h>
#include <string.h>
#include <syslog.h>

#include "common/process.h"

typedef struct {
	const char *id;
	int priority;
} Kind;

static const Kind kinds[] = {
	[SUPERVISE_DIED] = {EVENT_ID_WORKER_DIED, LOG_WARNING},
	[SUPERVISE_STARTED] = {NULL, LOG_DEBUG},
	[SUPERVISE_RESTARTED] = {EVENT_ID_WORKER_RESTARTED, LOG_NOTICE},
	[SUPERVISE_HUNG] = {EVENT_ID_WORKER_HUNG, LOG_WARNING},
	[SUPERVISE_STEP] = {EVENT_ID_DEGRADED, LOG_ERR},
	[SUPERVISE_RECOVERED] = {EVENT_ID_RECOVERED, LOG_NOTICE},
	[SUPERVISE_HOPELESS] = {EVENT_ID_HOPELESS, LOG_CRIT},
	[SUPERVISE_NEW_KEEPER] = {EVENT_ID_NEW_KEEPER, LOG_WARNING},
};

static const char *words_for(const SuperviseReporter *reporter, const char *worker)
{
	if (!worker)
		return "keeper";
	return reporter->worker_words ? reporter->worker_words(worker) : worker;
}

static void step_into(const SuperviseReporter *reporter, const SuperviseEvent *e, char *out, size_t size)
{
	if (reporter->step_words)
		(void)snprintf(out, size, "%s", reporter->step_words(e->worker, e->step));
	else
		(void)snprintf(out, size, "with less (step %u)", e->step);
}

static void describe(const SuperviseReporter *reporter, const SuperviseEvent *e, char *out, size_t size)
{
	const char *who = words_for(reporter, e->worker), *cause = process_cause(e->code, e->status);
	bool lost = e->lost && e->lost[0];
	char step[96];

	switch (e->kind) {
	case SUPERVISE_DIED:
		(void)snprintf(out, size, "%s (pid %d) died: %s; starting another one", who, (int)e->pid, cause);
		break;
	case SUPERVISE_STARTED:
		(void)snprintf(out, size, "%s (pid %d) started", who, (int)e->pid);
		break;
	case SUPERVISE_RESTARTED:
	case SUPERVISE_RECOVERED:
		(void)snprintf(out, size, "%s works again (pid %d)%s after %llu ms; restored: %s; lost: %s", who, (int)e->pid,
			e->kind == SUPERVISE_RECOVERED ? ", with everything," : "", (unsigned long long)e->gap_ms,
			e->restored && e->restored[0] ? e->restored : "all", lost ? e->lost : "nothing");
		break;
	case SUPERVISE_HUNG:
		(void)snprintf(out, size, "%s (pid %d) does not respond, replacing it", who, (int)e->pid);
		break;
	case SUPERVISE_STEP:
		step_into(reporter, e, step, sizeof(step));
		(void)snprintf(out, size, "%s keeps dying (%s); the next one starts %s", who, cause, step);
		break;
	case SUPERVISE_HOPELESS:
		(void)snprintf(out, size, "%s cannot be started: %d deaths in a row, the last: %s", who,
			SUPERVISE_HOPELESS_DEATHS, cause);
		break;
	case SUPERVISE_NEW_KEEPER:
		(void)snprintf(out, size, "the keeper was killed; pid %d has taken over", (int)e->pid);
		break;
	}
}

/* "NAME=value" for the journal. */
static const char *field(char *out, size_t size, const char *name, const char *value)
{
	(void)snprintf(out, size, "%s=%s", name, value ? value : "");
	return out;
}

static const char *number(char *out, size_t size, const char *name, unsigned long long value)
{
	(void)snprintf(out, size, "%s=%llu", name, value);
	return out;
}

int supervise_report(const SuperviseReporter *reporter, const SuperviseEvent *e, char *ret_text)
{
	char worker[64], pid[48], cause[96], gap[48], restored[192], lost[192], restarts[48], step[32];
	const Kind *kind = &kinds[e->kind];

	describe(reporter, e, ret_text, SUPERVISE_REPORT_TEXT);
	if (!kind->id)
		return kind->priority;
	event_log_emit(reporter->events, kind->id, kind->priority, ret_text,
		field(worker, sizeof(worker), "TANDEM_WORKER", e->worker ? e->worker : "keeper"),
		number(pid, sizeof(pid), "TANDEM_WORKER_PID", (unsigned long long)e->pid),
		field(cause, sizeof(cause), "TANDEM_CAUSE", process_cause(e->code, e->status)),
		number(gap, sizeof(gap), "TANDEM_GAP_MS", e->gap_ms),
		field(restored, sizeof(restored), "TANDEM_RESTORED", e->restored),
		field(lost, sizeof(lost), "TANDEM_LOST", e->lost),
		number(restarts, sizeof(restarts), "TANDEM_RESTARTS", e->restarts),
		number(step, sizeof(step), "TANDEM_STEP", e->step), NULL);
	state_file_event(reporter->state, "%s", ret_text);
	if (e->kind == SUPERVISE_RESTARTED || e->kind == SUPERVISE_RECOVERED) {
		state_file_set(reporter->state, "LAST_GAP_MS", "%llu", (unsigned long long)e->gap_ms);
		state_file_set(reporter->state, "LAST_GAP_WORKER", "%s", e->worker);
	}
	return kind->priority;
}

#pragma once
/*
 * Shared between the three parts of the reaper: its loop (reaper.c), the phases of a creation (reaper-create.c), and those from the running
 * container to the end (reaper-exit.c).
 */
#include <stdbool.h>
#include <stdint.h>

#include "common/event-loop.h"
#include "conmon/linger.h"
#include "conmon/network.h"
#include "conmon/reaper.h"

/* Bounds of what more than one phase waits for, milliseconds. */
#define STATUS_LIMIT_MS 2000 /* for the status of a child that somebody else reaps */
#define SYNC_LIMIT_MS 10000 /* for a full sync pipe */
#define LOOK_MS 20 /* between two looks at what gives no event */

typedef struct {
	const Conmon *conmon;
	ReaperState *state;
	EventLoop *loop;
	EventTimer *timer;
	Network *network;
	Linger *linger;		/* NULL: nobody, or not looked yet */
	bool linger_looked;
	EventSource *runtime_source, *payload_source, *command_source, *monitor_source;
	bool oom_watched;
} Reaper;

/** Publish the next phase, and with it that all of this one is done. @return true, for the phase to return */
bool reaper_go_to(Reaper *r, ReaperPhase phase);
/** Call the phase again in @p delay_ms. @return false, for the phase to return */
bool reaper_look_again(Reaper *r, uint64_t delay_ms);
/** Whether this phase, through whatever reapers, has waited for @p limit_ms; if not, there will be another look in at most @p look_ms. */
bool reaper_waited(Reaper *r, uint64_t limit_ms, uint64_t look_ms);
/** Call the phase when the registered pidfd of that name becomes readable. */
void reaper_watch_pidfd(Reaper *r, const char *name, EventSource **source);
/** No longer, and close it. */
void reaper_unwatch_pidfd(Reaper *r, const char *name, EventSource **source);
/** Have the monitor finish. @return whether it has ended, or was given up (C-189.2, .3, .5) */
bool reaper_stop_monitor(Reaper *r);

/* The phases, by the names of ReaperPhase. @return whether the next one may begin at once */
bool reaper_phase_launch(Reaper *r);
bool reaper_phase_creating(Reaper *r);
bool reaper_phase_payload(Reaper *r);
bool reaper_phase_console(Reaper *r);
bool reaper_phase_network(Reaper *r);
bool reaper_phase_announce(Reaper *r);
bool reaper_phase_running(Reaper *r);
bool reaper_phase_timed_out(Reaper *r);
bool reaper_phase_check_oom(Reaper *r);
bool reaper_phase_drain(Reaper *r);
bool reaper_phase_network_down(Reaper *r);
bool reaper_phase_release_inherited(Reaper *r);
bool reaper_phase_write_persist_file(Reaper *r);
bool reaper_phase_write_exit_file(Reaper *r);
bool reaper_phase_send_exit_message(Reaper *r);
bool reaper_phase_close_and_let_go(Reaper *r);
bool reaper_phase_run_exit_command(Reaper *r);
bool reaper_phase_end(Reaper *r);
bool reaper_phase_done(Reaper *r);
bool reaper_phase_failure_text(Reaper *r);
bool reaper_phase_failure_message(Reaper *r);
bool reaper_phase_failure_stop(Reaper *r);

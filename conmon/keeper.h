#pragma once
/*
 * The keeper's callbacks (common/supervise.h): signals for the container, children that nobody else reaps, events.
 */
#include "conmon/reaper-state.h"
#include "conmon/shared.h"

/** Signals that the keeper takes, zero-terminated; SIGHUP among them, so that it kills nobody silently (W-33). */
const int *keeper_signals(void);

int keeper_on_start(Supervisor *sv, void *data, EventLoop *loop);
void keeper_on_event(Supervisor *sv, void *data, const SuperviseEvent *event);
void keeper_on_signal(Supervisor *sv, void *data, int signal);
void keeper_on_stray_child(Supervisor *sv, void *data, const siginfo_t *info);

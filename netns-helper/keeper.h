#pragma once
/*
 * The keeper's part: exit descriptor, signals, and telling about the worker. It parses nothing that comes from the guest or
 * from clients.
 */
#include "netns-helper/worker.h"

/** @return supervisor for the one worker, or NULL with errno */
Supervisor *keeper_supervisor_new(Helper *helper);

/** Around guest_link_open(): who looks after the worker's end when this process is killed and nothing shall outlive it. */
void keeper_before_link(const Helper *helper);
void keeper_after_link(const Helper *helper);

/** The state file of this helper; NULL if there is no runtime directory. */
StateFile *keeper_state_open(const Helper *helper);

/** Serve until an exit event or a signal. @return exit status; does not return if the process is to die of a signal */
int keeper_run(Helper *helper);

/** Have a link deleted that does not go with its last descriptor (N-6): a veth. Nothing for a tap. */
void keeper_remove_link(const Helper *helper);

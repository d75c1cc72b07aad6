#pragma once
/*
 * The network worker: what one process of it has in hands. Everything in here is made anew by each worker; what outlives it
 * is in the SharedState and in the descriptor store.
 */
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

#include "common/event-log.h"
#include "common/event-loop.h"
#include "common/fd-store.h"
#include "common/state-file.h"
#include "common/supervise.h"
#include "netns-helper/address-plan.h"
#include "netns-helper/guest-link.h"
#include "netns-helper/options.h"
#include "netns-helper/shared-state.h"
#include "netns-helper/splice-table.h"

typedef struct SlirpEngine SlirpEngine;
typedef struct SpliceEngine SpliceEngine;
typedef struct Ports Ports;
typedef struct ApiSocket ApiSocket;

#define HELPER_READY_EVENT "helper.ready" /* registry name of an eventfd: the ready byte was written */

/* The file of the API socket: what tells it from one of the same name that another helper made. */
typedef struct {
	dev_t dev;
	ino_t ino;
	struct timespec mtime; /* of its making: nothing changes it later */
} ApiPath;

/* What the whole daemon shares; made by main() before the first fork. */
typedef struct {
	const Options *options;
	const AddressPlan *plan;
	int ready_fd; /* -1: none, or it was not open when we started */
	struct stat ready_file; /* what it is: its number is free for others once the byte is written */
	int exit_fd;  /* likewise */
	bool exit_fd_was_closed; /* N-134 */
	bool is_restored; /* systemd has given back what an earlier life left (kept.h) */
	GuestLink link;
	ApiPath api_path;
	SharedState *shared;
	SpliceTable *splice; /* NULL: plain tap */
	Supervisor *sv;
	FdStore *store;
	EventLog *events;
	StateFile *state;
} Helper;

typedef struct {
	const Helper *helper;
	EventLoop *loop;
	SlirpEngine *slirp;
	SpliceEngine *splice; /* NULL: plain tap */
	Ports *ports;
	ApiSocket *api;	      /* NULL: no --api-socket */
} Worker;

/** Degrade steps of a worker in a crash loop (SuperviseWorker.max_step). */
enum {
	WORKER_STEP_ALL,
	WORKER_STEP_NO_CONNECTIONS, /* spliced connections of the predecessor are closed */
	WORKER_STEP_NO_SPLICE,	    /* the gateway serves no TCP; libslirp does */
	WORKER_STEP_MAX = WORKER_STEP_NO_SPLICE,
};

/** SuperviseWorker.run: the worker's whole life. @p data is the Helper. */
int worker_run(Supervisor *sv, void *data, unsigned restarts, unsigned step);

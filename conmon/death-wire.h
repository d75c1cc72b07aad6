#pragma once
/*
 * A parent-death signal that means all of us together (C-39): SIGKILL for a child when the last process that shares our descriptor
 * table is gone. PR_SET_PDEATHSIG would already fire when the one that forked it is killed and replaced.
 *
 * Theory of operation. The read end of a pipe sends SIGKILL to the child when it becomes readable (O_ASYNC, F_SETOWN, F_SETSIG in
 * fcntl(2)), which it does when its last writer is closed: that is when the table goes. The kernel closes a table's
 * descriptors in an order of its own, so there are two pipes, one with the reader before the writer and one after it.
 */
#include "common/fd-store.h"

typedef struct {
	int readers[2], writers[2];
} DeathWire;

/** Make and register the pipes; what an earlier call made is used again. @return 0 or -errno */
int death_wire_open(DeathWire *wire, FdStore *store);

/** In the child, which has its own copy of the table: tie its life to those who hold the writers. @return 0 or -errno */
int death_wire_arm(const DeathWire *wire);

/** The child has ended: remove the pipes. */
void death_wire_close(FdStore *store);

#pragma once
/*
 * The janitor: a process that stays in the gateway namespace with CAP_NET_ADMIN over it and does one thing. Nobody else of
 * us keeps the right to delete the link once the sandbox is closed (N-192), and with the namespace's last reference the link goes only
 * at some time later. It reads one byte from its socket, or the end of file that comes when all of us have gone, whatever the
 * cause; deletes the link; answers; ends. It parses nothing and can be killed without harm.
 *
 * Where nothing outlives the keeper (N-242) it also looks after a worker that can't do its last act: a keeper that was killed is not
 * shown to its parent before its worker has ended (supervise-worker.c), and a worker that is stopped does not end.
 */
#include <stdatomic.h>
#include <sys/types.h>

/**
 * What the janitor that is started later, by a child of this process, shall look after: this process' death, and then, when
 * nobody has asked for the link's removal half a second later, the end of the process whose pid is at @p worker.
 *
 * @param worker  in shared memory; NULL: nothing, which is how it begins
 */
void gateway_janitor_look_after(const _Atomic pid_t *worker);

/**
 * Fork it, in the gateway namespace.
 *
 * @param ifindex  what it will delete
 * @param ret_fd   our end of its socket
 * @return 0 or -errno
 */
int gateway_janitor_start(unsigned ifindex, int *ret_fd);

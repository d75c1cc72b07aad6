#pragma once
/*
 * The janitor: a process that stays in the gateway namespace with CAP_NET_ADMIN over it and does one thing. Nobody else of
 * us keeps the right to delete the link once the sandbox is closed (N-192), and with the namespace's last reference the link goes only
 * at some time later. It reads one byte from its socket, or the end of file that comes when all of us have gone, whatever the
 * cause; deletes the link; answers; ends. It parses nothing and can be killed without harm.
 */

/**
 * Fork it, in the gateway namespace.
 *
 * @param ifindex  what it will delete
 * @param ret_fd   our end of its socket
 * @return 0 or -errno
 */
int gateway_janitor_start(unsigned ifindex, int *ret_fd);

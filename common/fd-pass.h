#pragma once
/*
 * Descriptors over unix sockets: the only place with sendmsg/recvmsg and control data (unix(7), cmsg(3)).
 */
#include <stddef.h>
#include <sys/types.h>

/** Most descriptors in one message; the kernel's SCM_MAX_FD. */
#define FD_PASS_MAX 253

/**
 * Send one message with exactly @p n_fds descriptors.
 *
 * @param sock    connected unix socket, borrowed
 * @param buf     payload; may be empty if there are descriptors and the socket is one of datagrams (elsewhere it reads as the end)
 * @param size    bytes of it
 * @param fds     descriptors, borrowed; NULL if none
 * @param n_fds   how many, at most FD_PASS_MAX
 * @return 0 or -errno (-EAGAIN when the socket is full, -EPIPE when the peer has gone; never SIGPIPE)
 */
int fd_pass_send(int sock, const void *buf, size_t size, const int *fds, size_t n_fds);

/**
 * Like fd_pass_send(), to the unix datagram address @p addr (an AF_UNIX path, '@' first for the abstract name space).
 */
int fd_pass_send_to(int sock, const char *addr, const void *buf, size_t size, const int *fds, size_t n_fds);

/**
 * Receive one message together with exactly @p n_fds descriptors.
 *
 * @param sock     connected unix socket, borrowed
 * @param buf      where the payload goes
 * @param size     room in @p buf, bytes
 * @param ret_fds  @p n_fds descriptors, close-on-exec, the caller's from now on
 * @param n_fds    how many the message must carry, at most FD_PASS_MAX
 * @return payload bytes, 0 when the peer is gone, or -EAGAIN;
 *         -EPROTO: other number or kind of control data; -EMSGSIZE: payload or control data cut short.
 *         On failure every descriptor the kernel had handed over is closed again.
 */
ssize_t fd_pass_recv(int sock, void *buf, size_t size, int *ret_fds, size_t n_fds);

/**
 * Receive one message with any number of descriptors up to @p *n_fds; on return @p *n_fds says how many came.
 * Errors as for fd_pass_recv().
 */
ssize_t fd_pass_recv_any(int sock, void *buf, size_t size, int *ret_fds, size_t *n_fds);

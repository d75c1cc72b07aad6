#pragma once
/*
 * The control socket (N-146 to N-156): one request per connection, many connections at once, none of which can hold up another.
 *
 * Theory of operation. A request is looked at with MSG_PEEK and stays in the socket until its answer has been sent: if the worker is killed on the
 * way, the next one finds connection and request in the descriptor store and answers. So that an unread request does not
 * wake the loop again and again, clients are watched edge-triggered. Judged is
 *
 *   - as soon as one complete JSON value is there, or API_REQUEST_MAX bytes;
 *   - what there is, at end-of-file, API_GRACE_MS after the last byte of something that cannot become JSON, or after
 *     API_TIMEOUT_MS.
 */
#include "netns-helper/worker.h"

#define API_REQUEST_MAX 4096 /* bytes; a request must be shorter (N-151) */
#define API_BACKLOG 512 /* connections (N-154) */
#define API_CLIENTS_MAX 128 /* at once; more wait in the backlog */
#define API_GRACE_MS 100
#define API_TIMEOUT_MS 10000 /* a client that says nothing is dropped (N-155) */
#define API_ANSWER_TIMEOUT_MS 10000 /* for a client that does not read */
#define API_LISTENER "api.listener" /* registry name */

/**
 * In the keeper, before the sandbox: bind and listen (N-147, N-148).
 *
 * @param path          where
 * @param store         gets the listener
 * @param ret_identity  which file was made
 * @return 0, or -errno with the reason on stderr
 */
int api_socket_bind(const char *path, FdStore *store, ApiPath *ret_identity);

/** Delete @p path if it is still the file @p identity that api_socket_bind() made. */
void api_socket_unlink(const char *path, const ApiPath *identity);

/** @return the server, clients of a predecessor included; NULL with errno */
ApiSocket *api_socket_new(Worker *worker);
void api_socket_free(ApiSocket *api);

#pragma once
/*
 * Messages to the invoker: contract section 5.
 */
#include "conmon/reaper-state.h"
#include "conmon/shared.h"

/** Make the stage pipe; before the first fork. @return 0 or -errno */
int sync_pipe_init(FdStore *store);

/**
 * Send a message on the sync pipe exactly once, however often it is called for the same @p message and by whichever process.
 *
 * @param conmon   the container
 * @param message  its record; the text is taken from the first call
 * @param value    the integer
 * @param escaped  text, escaped by json_text_escape(); NULL or "": none
 * @return 0 (also when nobody listens, C-59), or -EAGAIN: the pipe is full, call again later
 */
int sync_pipe_send(const Conmon *conmon, SyncMessage *message, int value, const char *escaped);

/** {"data": 0} on the attach pipe (C-69). @return 0 or -errno */
int sync_pipe_attach_ready(int attach_fd);

/** For a failure before there is anything to lose: -1 with @p text, not escaped yet (C-65). */
void sync_pipe_fail_early(const ConmonOptions *options, int sync_fd, const char *text);

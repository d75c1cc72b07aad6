#pragma once
/*
 * A small file per container with the state of its processes, for people:
 * $XDG_RUNTIME_DIR/tandem/<daemon>-<id>.state, or /run/tandem/… for root. KEY=value lines. The directory and file are opened early, so that it
 * can be written from inside the sandbox.
 */
typedef struct StateFile StateFile;

/** @return NULL if there is no runtime directory to write in (not an error: state is then not published) */
StateFile *state_file_open(const char *daemon, const char *id);
#define STATE_FILE_LINE_MAX 1200 /* bytes of KEY=value; what is longer is cut */

/** Set or replace one key. Written by state_file_flush(). NULL @p file is fine everywhere. */
void state_file_set(StateFile *file, const char *key, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/** Append to the list of recent events (EVENT.n=…, the latest 8 are kept) with the wall-clock time. */
void state_file_event(StateFile *file, const char *format, ...) __attribute__((format(printf, 2, 3)));
void state_file_flush(StateFile *file);
/** Delete the file. */
void state_file_remove(StateFile *file);
/** The two descriptors it holds, to be registered in the FdStore; -1 if there are none. */
void state_file_fds(const StateFile *file, int *ret_dir_fd, int *ret_fd);

#pragma once
/*
 * The kernel objects of one container, made before its first worker: notify socket, stdio pipes or console socket, attach socket and
 * symlink, control FIFOs (C-33, C-76 to C-78, C-89, C-102 to C-106, C-124, C-125, C-207). All are registered under the names of shared.h.
 */
#include "conmon/reaper-state.h"
#include "conmon/shared.h"

#define OBJECTS_ERROR_MAX 512

/** Bind <bundle>/notify/notify.sock if it was asked for. @return 0, or -errno with words in @p ret_error */
int objects_create_notify(const Conmon *conmon, char ret_error[OBJECTS_ERROR_MAX]);

/** Make all the others. @return 0, or -errno with words in @p ret_error */
int objects_create(const Conmon *conmon, char ret_error[OBJECTS_ERROR_MAX]);

/** Close the runtime's ends, once it has them (C-78). */
void objects_close_child_ends(const Conmon *conmon);

/** Remove the attach socket file if it is still ours (C-191). */
void objects_remove_attach(const Conmon *conmon);

/** Remove the attach symlink (C-108), if it is still ours. */
void objects_remove_symlink(const Conmon *conmon);

/** Remove the control FIFOs: for a start that was given up. */
void objects_remove_fifos(const Conmon *conmon);

/** Remove the console socket, if nobody has. */
void objects_remove_console(const Conmon *conmon);

/** Whether this container has an attach socket and FIFOs (C-102). */
bool objects_has_attach(const ConmonOptions *options);

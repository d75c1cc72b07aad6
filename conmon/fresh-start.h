#pragma once
/*
 * The second life of the front process. Parsing and checking the command line leaves GLib's remains strewn over the heap, and each of
 * the container's processes, which are forks, would copy those pages as soon as it allocates something: about a hundred kilobytes for each
 * container. So once the command line is known to be good the front process executes itself again, same pid, same arguments, same
 * environment, and finds the options ready in a sealed memfd.
 */
#include "conmon/environment.h"
#include "conmon/options.h"

/**
 * Execute this program again with @p options handed over. Returns only if that is not possible, which is no error.
 *
 * @param options  checked; their log file descriptor goes along
 * @param argv     the arguments as given
 */
void fresh_start_exec(const ConmonOptions *options, char **argv);

/**
 * In the second life: take the options over.
 *
 * @param env  the descriptors found; those handed over are taken off the inherited ones
 * @return the options, for the life of the process, or NULL: this is the first life
 */
ConmonOptions *fresh_start_take(ConmonEnvironment *env);

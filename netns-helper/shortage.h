#pragma once
/*
 * Connections that cannot be had because something has run out: said once, on stderr and in the journal, and again only after a minute
 * in which there was enough. A guest can cause it at will.
 */
#include "netns-helper/worker.h"

#define SHORTAGE_CALM_MS 60000

/**
 * @param helper  whose events
 * @param error   negative errno with which the attempt failed: -EMFILE, -ENFILE: descriptors; -ENOBUFS: no more than @p limit connections
 *                are possible; anything else has other causes, and nothing is said
 * @param limit   see above
 */
void shortage_note(const Helper *helper, int error, unsigned limit);

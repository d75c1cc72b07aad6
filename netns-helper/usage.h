#pragma once
/* Texts for people: --help, --version, the banner (N-50 to N-58, N-203). */
#include <stdio.h>

#include "netns-helper/address-plan.h"
#include "netns-helper/options.h"

/** Full help on @p out. @return 0, or -errno if it could not be written */
int usage_print_help(FILE *out);
/** N-53: parsed by engines line by line. */
int usage_print_version(FILE *out);
/** What is set up, on standard output. */
void usage_print_banner(const Options *options, const AddressPlan *plan);

#pragma once
/*
 * The grammar of conmon's command line: C-9 to C-17. Words of a table, values into a struct.
 */
#include <stdbool.h>
#include <stddef.h>

typedef enum {
	OPTION_FLAG, /* bool */
	OPTION_STRING, /* char * */
	OPTION_LIST, /* char **, NULL-terminated; NULL as long as there is none */
	OPTION_INT, /* int */
	OPTION_INT64, /* int64_t */
} OptionKind;

typedef struct {
	char name[32]; /* "" ends the table; texts are no pointers, so that the table needs no relocation */
	char short_name; /* 0: none */
	OptionKind kind;
	size_t offset; /* of the value in the struct that is filled */
	char help[112]; /* "": hidden */
	char argument[16]; /* what --help calls the value */
} OptionEntry;

#define OPTION_REASON_MAX 512 /* bytes */

/**
 * Go through the words in order; the first that is wrong ends it. Words that are no options are passed over.
 *
 * @param entries    table of the options
 * @param argc       number of words, the program's name included
 * @param argv       the words; strings and lists point into them
 * @param target     struct that is filled
 * @param ret_reason on failure: text after "option parsing failed: " (C-17)
 * @return 0; 1: help is wanted (and nothing before it was wrong); -EINVAL
 */
int option_parser_run(const OptionEntry *entries, int argc, char **argv, void *target,
	char ret_reason[OPTION_REASON_MAX]);

/**
 * Print what --help prints to stdout.
 *
 * @param entries    table of the options
 * @param program    name of the program
 * @param summary    one line about it
 * @param epilogue   text after the options, with its line ends
 */
void option_parser_help(const OptionEntry *entries, const char *program, const char *summary, const char *epilogue);

#pragma once
/*
 * Strings and lists of words on the heap. Out of memory ends the process: nothing here is large, and nobody could go on without it.
 */
#include <stddef.h>
#include <stdlib.h>

/** Free @p *text; for text_auto. */
void text_free_p(char **text);

/** A local that owns a string. */
#define text_auto __attribute__((cleanup(text_free_p)))

/** As asprintf(3). @return to be freed with free() */
char *text_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** Copy the first @p size bytes of @p text. @return NUL-terminated, to be freed with free() */
char *text_copy(const char *text, size_t size);

/** The directory part of @p path, as dirname(3) has it: "." if there is none. @return to be freed with free() */
char *text_dirname(const char *path);

/** calloc(3) that does not fail. */
void *text_new(size_t n, size_t size);

/** Number of words of a NULL-terminated list. */
size_t words_count(char *const *words);

/** Append @p word to @p *words, a NULL-terminated list on the heap or NULL for an empty one. The word is borrowed. */
void words_add(char ***words, const char *word);

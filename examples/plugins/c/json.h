// As much of JSON (RFC 8259) as a configuration section needs.
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>

// Where a value begins, and where the text ends.
typedef struct {
  const char *at;
  const char *end;
} json_t;

// True when the whole text is one value. What follows is for such text only.
bool json_valid(json_t text);

// Steps into an object (`{`) or a list (`[`); false when the value is of another kind.
bool json_open(json_t *value, char kind);

// The next value inside, and behind it; false at the end. Objects have a `name` for each value,
// for lists it is NULL.
bool json_next(json_t *inside, json_t *name, json_t *value);

// The string without quotes and escapes, to be freed by the caller; NULL when it is no string.
char *json_string(json_t value, size_t *len);

#endif

#include "json.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// Deeper than any configuration, and shallow for the stack.
enum { DEEPEST = 64 };

static bool skip_value(json_t *text, int depth);
static void skip_space(json_t *text);
static bool take(json_t *text, char wanted);

bool json_valid(json_t text) {
  if (!skip_value(&text, 0)) return false;
  skip_space(&text);
  return text.at == text.end;
}

bool json_open(json_t *value, char kind) {
  return take(value, kind);
}

bool json_next(json_t *inside, json_t *name, json_t *value) {
  take(inside, ',');
  skip_space(inside);
  if (*inside->at == ']' || *inside->at == '}') return false;
  if (name) {
    *name = *inside;
    if (!skip_value(inside, 0) || !take(inside, ':')) return false;
  }
  *value = *inside;
  return skip_value(inside, 0);
}

static int hex(json_t *text) {
  int value = 0;
  for (int i = 0; i < 4; i++, text->at++) {
    if (text->at == text->end) return -1;
    char c = *text->at;
    int digit = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

// Behind `\u`: a character, written as one escape or as two surrogates. -1 when it is none.
static int32_t escaped(json_t *text) {
  int high = hex(text);
  if (high < 0xD800 || high > 0xDFFF) return high;
  if (high > 0xDBFF || text->end - text->at < 6 || memcmp(text->at, "\\u", 2)) return -1;
  text->at += 2;
  int low = hex(text);
  if (low < 0xDC00 || low > 0xDFFF) return -1;
  return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
}

static char *utf8(char *out, int32_t c) {
  if (c < 0x80) {
    *out++ = (char)c;
    return out;
  }
  int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  *out++ = (char)((0xF00 >> more) | (c >> (6 * more)));
  while (more-- > 0) *out++ = (char)(0x80 | ((c >> (6 * more)) & 0x3F));
  return out;
}

// Reads a string behind its opening quote into `out`, which may be NULL. NULL when it has no end.
static char *read_string(json_t *text, char *out) {
  static const char names[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
  char unused[4];
  bool keep = out != NULL;
  if (!keep) out = unused;
  for (; text->at < text->end; out = keep ? out : unused) {
    char c = *text->at++;
    if (c == '"') return out;
    if ((unsigned char)c < 0x20) return NULL;
    if (c != '\\') {
      *out++ = c;
      continue;
    }
    if (text->at == text->end) return NULL;
    c = *text->at++;
    const char *name = memchr(names, c, sizeof names - 1);
    if (name) {
      *out++ = meant[name - names];
      continue;
    }
    int32_t character = c == 'u' ? escaped(text) : -1;
    if (character < 0) return NULL;
    out = utf8(out, character);
  }
  return NULL;
}

char *json_string(json_t value, size_t *len) {
  if (!take(&value, '"')) return NULL;
  // Escapes are never shorter than what they stand for.
  char *string = malloc((size_t)(value.end - value.at) + 1);
  if (!string) abort();
  char *end = read_string(&value, string);
  if (!end) {
    free(string);
    return NULL;
  }
  *len = (size_t)(end - string);
  return string;
}

static void skip_space(json_t *text) {
  while (text->at < text->end && memchr(" \t\r\n", *text->at, 4)) text->at++;
}

static bool take(json_t *text, char wanted) {
  skip_space(text);
  if (text->at == text->end || *text->at != wanted) return false;
  text->at++;
  return true;
}

static bool skip_digits(json_t *text) {
  const char *from = text->at;
  while (text->at < text->end && *text->at >= '0' && *text->at <= '9') text->at++;
  return text->at > from;
}

static bool skip_char(json_t *text, const char *set) {
  if (text->at == text->end || !memchr(set, *text->at, strlen(set))) return false;
  text->at++;
  return true;
}

static bool skip_number(json_t *text) {
  skip_char(text, "-");
  if (!skip_char(text, "0") && !skip_digits(text)) return false;
  if (skip_char(text, ".") && !skip_digits(text)) return false;
  if (!skip_char(text, "eE")) return true;
  skip_char(text, "+-");
  return skip_digits(text);
}

static bool skip_word(json_t *text) {
  static const char *const words[] = {"true", "false", "null"};
  for (int i = 0; i < 3; i++) {
    size_t len = strlen(words[i]);
    if ((size_t)(text->end - text->at) >= len && !memcmp(text->at, words[i], len)) {
      text->at += len;
      return true;
    }
  }
  return false;
}

static bool skip_container(json_t *text, char close, int depth) {
  if (take(text, close)) return true;
  do {
    if (close == '}' && !(take(text, '"') && read_string(text, NULL) && take(text, ':'))) return false;
    if (!skip_value(text, depth + 1)) return false;
  } while (take(text, ','));
  return take(text, close);
}

static bool skip_value(json_t *text, int depth) {
  if (depth > DEEPEST) return false;
  if (take(text, '"')) return read_string(text, NULL) != NULL;
  if (take(text, '{')) return skip_container(text, '}', depth);
  if (take(text, '[')) return skip_container(text, ']', depth);
  return skip_word(text) || skip_number(text);
}

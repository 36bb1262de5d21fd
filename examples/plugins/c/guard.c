// `guard`: refuses recipients of blocked domains, resolves aliases, marks what it has seen, and
// quarantines what calls itself internal.
//
// Whatever an exported function is given is its own to free; whatever it answers is freed by the
// bindings, so every string of an answer is a copy. An empty list is {NULL, 0}.

#include <stdlib.h>
#include <string.h>

#include "bindings/guard.h"
#include "json.h"

typedef guard_string_t text_t;

// An instance serves one configuration all its life.
static struct {
  text_t tag;
  text_t *blocked;
  size_t blocked_len;
} settings;

static const char *read_settings(text_t config);
static bool decide(const policy_recipient_t *recipient, policy_recipient_outcome_t *outcome);
static bool is_internal(const policy_message_info_t *info);
static policy_list_reason_t reason(const char *code, text_t text, const char *rule);
static void *allocate(size_t count, size_t size);
static text_t copy(const char *string);
static text_t join(const char *before, text_t text, const char *after);
static bool equals(text_t text, const char *string);

bool exports_lifecycle_init(guard_string_t *config, exports_lifecycle_plugin_info_t *ret,
                            guard_string_t *err) {
  const char *complaint = read_settings(*config);
  guard_string_free(config);
  if (complaint) {
    *err = copy(complaint);
    return false;
  }
  ret->name = copy("guard");
  ret->version = copy("0.1.0");
  text_t *headers = allocate(1, sizeof *headers);
  headers[0] = copy("subject");
  ret->interest.headers = (guard_list_string_t){headers, 1};
  return true;
}

bool exports_recipient_hook_on_recipients(exports_recipient_hook_call_info_t *call,
                                          exports_recipient_hook_session_t *session,
                                          exports_recipient_hook_envelope_t *envelope,
                                          exports_recipient_hook_list_recipient_t *recipients,
                                          exports_recipient_hook_list_recipient_outcome_t *ret,
                                          guard_string_t *err) {
  (void)call, (void)err;
  policy_recipient_outcome_t *outcomes = allocate(recipients->len, sizeof *outcomes);
  size_t len = 0;
  for (size_t i = 0; i < recipients->len; i++) {
    // Recipients that the answer does not mention proceed.
    if (decide(&recipients->ptr[i], &outcomes[len])) len++;
  }
  if (len == 0) {
    free(outcomes);
    outcomes = NULL;
  }
  ret->ptr = outcomes;
  ret->len = len;
  exports_recipient_hook_session_free(session);
  exports_recipient_hook_envelope_free(envelope);
  exports_recipient_hook_list_recipient_free(recipients);
  return true;
}

bool exports_message_hook_on_message(exports_message_hook_call_info_t *call,
                                     exports_message_hook_session_t *session,
                                     exports_message_hook_envelope_t *envelope,
                                     exports_message_hook_message_info_t *info,
                                     exports_message_hook_message_outcome_t *ret,
                                     guard_string_t *err) {
  (void)call, (void)err;
  memset(ret, 0, sizeof *ret);
  if (is_internal(info)) {
    ret->verdict.tag = POLICY_MESSAGE_VERDICT_QUARANTINE;
    ret->verdict.val.quarantine = copy("internal subject");
    ret->reasons = reason("internal-subject", copy("internal subject"), NULL);
  }
  policy_message_edit_t *edit = allocate(1, sizeof *edit);
  edit->tag = POLICY_MESSAGE_EDIT_ADD_HEADER;
  edit->val.add_header.name = join("", settings.tag, "");
  edit->val.add_header.value = copy("checked by guard in C");
  edit->val.add_header.place = POLICY_HEADER_PLACE_TOP;
  ret->edits = (policy_list_message_edit_t){edit, 1};
  exports_message_hook_session_free(session);
  exports_message_hook_envelope_free(envelope);
  exports_message_hook_message_info_free(info);
  return true;
}

static bool is_blocked(text_t domain) {
  for (size_t i = 0; i < settings.blocked_len; i++) {
    text_t blocked = settings.blocked[i];
    if (blocked.len == domain.len && !memcmp(blocked.ptr, domain.ptr, domain.len)) return true;
  }
  return false;
}

static bool decide(const policy_recipient_t *recipient, policy_recipient_outcome_t *outcome) {
  static const char alias[] = "alias-";
  const size_t prefix = sizeof alias - 1;
  text_t local = recipient->address.local, domain = recipient->address.domain;
  memset(outcome, 0, sizeof *outcome);
  outcome->id = recipient->id;
  if (is_blocked(domain)) {
    policy_refusal_t *refusal = &outcome->verdict.val.refuse;
    outcome->verdict.tag = POLICY_VERDICT_REFUSE;
    refusal->tag = POLICY_REFUSAL_REJECT;
    refusal->val.reject.code = POLICY_PERMANENT_CODE_R550;
    refusal->val.reject.enhanced = (guard_option_tuple2_u16_u16_t){true, {7, 1}};
    refusal->val.reject.text = join("", domain, " is not served here");
    outcome->reasons =
        reason("blocked-domain", join("", domain, " is not served here"), "blocked");
    return true;
  }
  if (equals(local, "later")) {
    policy_refusal_t *refusal = &outcome->verdict.val.refuse;
    outcome->verdict.tag = POLICY_VERDICT_REFUSE;
    refusal->tag = POLICY_REFUSAL_TEMPFAIL;
    refusal->val.tempfail.code = POLICY_TRANSIENT_CODE_R450;
    refusal->val.tempfail.text = copy("the mailbox is not ready");
    outcome->reasons = reason("try-later", copy("the mailbox is not ready"), NULL);
    return true;
  }
  if (local.len > prefix && !memcmp(local.ptr, alias, prefix)) {
    text_t user = {local.ptr + prefix, local.len - prefix};
    policy_mailbox_t *mailbox = allocate(1, sizeof *mailbox);
    mailbox->local = join("", user, "");
    mailbox->domain = join("", domain, "");
    outcome->replace_with = (policy_list_mailbox_t){mailbox, 1};
    outcome->reasons = reason("alias", join("alias of ", user, ""), NULL);
    return true;
  }
  return false;
}

static bool is_subject(text_t name) {
  static const char subject[] = "subject";
  if (name.len != sizeof subject - 1) return false;
  for (size_t i = 0; i < name.len; i++) {
    if ((name.ptr[i] | 0x20) != subject[i]) return false;
  }
  return true;
}

static bool contains(text_t text, const char *needle) {
  size_t len = strlen(needle);
  for (size_t i = 0; i + len <= text.len; i++) {
    if (!memcmp(text.ptr + i, needle, len)) return true;
  }
  return false;
}

static bool is_internal(const policy_message_info_t *info) {
  for (size_t i = 0; i < info->headers.len; i++) {
    const policy_header_t *header = &info->headers.ptr[i];
    if (is_subject(header->name) && contains(header->value, "[internal]")) return true;
  }
  return false;
}

static policy_list_reason_t reason(const char *code, text_t text, const char *rule) {
  policy_reason_t *reason = allocate(1, sizeof *reason);
  reason->code = copy(code);
  reason->text = text;
  reason->rule.is_some = rule != NULL;
  if (rule) reason->rule.val = copy(rule);
  return (policy_list_reason_t){reason, 1};
}

static text_t read_text(json_t value) {
  text_t text = {0};
  text.ptr = (uint8_t *)json_string(value, &text.len);
  return text;
}

// The last member of this name, as everywhere.
static bool member(json_t object, const char *wanted, json_t *found) {
  json_t name, value;
  bool any = false;
  json_open(&object, '{');
  while (json_next(&object, &name, &value)) {
    text_t text = read_text(name);
    if (equals(text, wanted)) {
      *found = value;
      any = true;
    }
    guard_string_free(&text);
  }
  return any;
}

static bool read_blocked(json_t list) {
  json_t element;
  if (!json_open(&list, '[')) return false;
  while (json_next(&list, NULL, &element)) {
    text_t domain = read_text(element);
    if (!domain.ptr) return false;
    // In lower case, as the relay writes them.
    for (size_t i = 0; i < domain.len; i++) {
      if (domain.ptr[i] >= 'A' && domain.ptr[i] <= 'Z') domain.ptr[i] |= 0x20;
    }
    settings.blocked_len++;
    settings.blocked = realloc(settings.blocked, settings.blocked_len * sizeof domain);
    if (!settings.blocked) abort();
    settings.blocked[settings.blocked_len - 1] = domain;
  }
  return true;
}

// The section [plugin.guard.config]. Returns a complaint, or NULL.
static const char *read_settings(text_t config) {
  json_t text = {(const char *)config.ptr, (const char *)config.ptr + config.len};
  json_t value, inside = text;
  if (!json_valid(text) || !json_open(&inside, '{')) {
    return "the configuration is no JSON object";
  }
  if (member(text, "blocked", &value) && !read_blocked(value)) {
    return "blocked must be a list of domains";
  }
  settings.tag = member(text, "tag", &value) ? read_text(value) : copy("X-Guard");
  return settings.tag.ptr ? NULL : "tag must be the name of a header field";
}

static void *allocate(size_t count, size_t size) {
  void *memory = calloc(count ? count : 1, size);
  // The relay sees a trap and goes on without this instance.
  if (!memory) abort();
  return memory;
}

static text_t join(const char *before, text_t text, const char *after) {
  size_t head = strlen(before), tail = strlen(after);
  text_t joined = {allocate(head + text.len + tail, 1), head + text.len + tail};
  memcpy(joined.ptr, before, head);
  if (text.len) memcpy(joined.ptr + head, text.ptr, text.len);
  memcpy(joined.ptr + head + text.len, after, tail);
  return joined;
}

static text_t copy(const char *string) {
  return join(string, (text_t){0}, "");
}

static bool equals(text_t text, const char *string) {
  return text.len == strlen(string) && !memcmp(text.ptr, string, text.len);
}

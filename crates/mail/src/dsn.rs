//! Notices about a message's fate (RFC 3461, RFC 3464).

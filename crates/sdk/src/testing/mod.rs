//! A stand-in for the host, for tests that run natively.
//!
//! ```
//! use waypost_sdk::{tables, testing::Host};
//!
//! let host = Host::new().table("aliases", [("info@a.example", "eve@a.example")]);
//! let found = host.run(|| tables::get("aliases", "info@a.example"));
//! assert_eq!(found, Ok(Some("eve@a.example".to_owned())));
//! ```
//!
//! What a [`Host`] was not given is denied, as it is where the configuration does not grant it. Plain
//! facts for the arguments of hooks come from [`call`], [`session`], [`envelope`], [`recipient`] and
//! [`queued`]; [`edited`] shows what a message looks like after the edits of an answer.

mod facts;
mod mime;
mod text;
pub(crate) mod wire;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

pub use facts::{call, envelope, queued, recipient, session};
pub use text::edited;

use crate::Interest;
use crate::bindings::imports::waypost::policy::{dns, http, limits, log, message};
use crate::types::{Header, MessageInfo};
use text::Text;

thread_local! {
    static CURRENT: RefCell<Option<Rc<State>>> = const { RefCell::new(None) };
}

/// A host with what it was given: tables, secrets, records, a message. Everything else is denied.
#[derive(Debug, Clone, Default)]
pub struct Host {
    state: Rc<State>,
}

#[derive(Debug, Clone, Default)]
struct State {
    tables: HashMap<String, BTreeMap<String, String>>,
    secrets: HashMap<String, Vec<u8>>,
    records: HashMap<(String, String), dns::Answer>,
    dns_granted: bool,
    exchangers: HashMap<String, Vec<dns::MxHost>>,
    responses: HashMap<String, http::Response>,
    allowances: HashMap<String, limits::Allowance>,
    now_ms: u64,
    message: Text,
    parts: Vec<message::Part>,
    kv: RefCell<HashMap<String, BTreeMap<String, Vec<u8>>>>,
    lines: RefCell<Vec<(log::Level, String)>>,
    counts: RefCell<BTreeMap<String, u64>>,
}

impl Host {
    /// A host that grants nothing.
    pub fn new() -> Host {
        Host::default()
    }

    fn with(mut self, change: impl FnOnce(&mut State)) -> Host {
        change(Rc::make_mut(&mut self.state));
        self
    }

    /// Grants a table and fills it.
    pub fn table<K: Into<String>, V: Into<String>>(
        self,
        name: &str,
        rows: impl IntoIterator<Item = (K, V)>,
    ) -> Host {
        let rows = rows.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        self.with(|state| drop(state.tables.insert(name.to_owned(), rows)))
    }

    /// Grants a secret for use.
    pub fn secret(self, name: &str, key: &[u8]) -> Host {
        self.with(|state| drop(state.secrets.insert(name.to_owned(), key.to_owned())))
    }

    /// Grants DNS, with these records of a name; names without records do not exist.
    pub fn dns<R: Into<String>>(
        self,
        name: &str,
        kind: &str,
        records: impl IntoIterator<Item = R>,
    ) -> Host {
        let records = records.into_iter().map(Into::into).collect();
        let answer = dns::Answer { records, nxdomain: false, secure: false, ttl_s: 300 };
        self.with(|state| {
            state.dns_granted = true;
            state.records.insert((name.to_owned(), kind.to_owned()), answer);
        })
    }

    /// Grants DNS, with these mail exchangers of a domain.
    pub fn mx(self, domain: &str, exchangers: &[(u16, &str)]) -> Host {
        let exchanger = |&(preference, exchange): &(u16, &str)| dns::MxHost {
            preference,
            exchange: exchange.to_owned(),
        };
        let exchangers = exchangers.iter().map(exchanger).collect();
        self.with(|state| {
            state.dns_granted = true;
            state.exchangers.insert(domain.to_owned(), exchangers);
        })
    }

    /// Grants an URL, and answers it so.
    pub fn http(self, url: &str, status: u16, body: &[u8]) -> Host {
        let body = body.to_owned();
        let response = http::Response { status, headers: Vec::new(), body, truncated: false };
        self.with(|state| drop(state.responses.insert(url.to_owned(), response)))
    }

    /// Grants a bucket that always answers so.
    pub fn limit(self, bucket: &str, allowed: bool, remaining: u64, retry_after_ms: u64) -> Host {
        let allowance = limits::Allowance { allowed, remaining, retry_after_ms };
        self.with(|state| {
            state.allowances.insert(bucket.to_owned(), allowance);
        })
    }

    /// Grants a namespace of small state.
    pub fn kv(self, namespace: &str) -> Host {
        self.with(|state| {
            state.kv.get_mut().entry(namespace.to_owned()).or_default();
        })
    }

    /// The time the clock shows, in milliseconds since 1970.
    pub fn clock(self, now_ms: u64) -> Host {
        self.with(|state| state.now_ms = now_ms)
    }

    /// The message of the current call. Lines may end with LF alone; they are made CRLF.
    pub fn message(self, text: impl AsRef<[u8]>) -> Host {
        let message = Text::parse(text.as_ref());
        let parts = mime::parts(&message);
        self.with(|state| {
            state.message = message;
            state.parts = parts;
        })
    }

    /// What a hook is told of the message, by the interest of the plugin.
    pub fn message_info(&self, interest: &Interest) -> MessageInfo {
        let message = &self.state.message;
        let wanted = |header: &&Header| {
            interest.headers.iter().any(|n| n == "*" || n.eq_ignore_ascii_case(&header.name))
        };
        let fields = message.headers();
        MessageInfo {
            size: message.size(),
            header_count: u32::try_from(fields.len()).unwrap_or(u32::MAX),
            headers: fields.iter().filter(wanted).cloned().collect(),
            hops: u32::try_from(
                fields.iter().filter(|h| h.name.eq_ignore_ascii_case("received")).count(),
            )
            .unwrap_or(u32::MAX),
            ext: Vec::new(),
        }
    }

    /// Runs something on this thread with this host behind the functions of the SDK.
    pub fn run<T>(&self, f: impl FnOnce() -> T) -> T {
        struct Restore(Option<Rc<State>>);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0.take());
            }
        }
        let _restore = Restore(CURRENT.replace(Some(Rc::clone(&self.state))));
        f()
    }

    /// The lines that were logged.
    pub fn logged(&self) -> Vec<String> {
        self.state.lines.borrow().iter().map(|(_, line)| line.clone()).collect()
    }

    /// What a counter stands at.
    pub fn counted(&self, name: &str) -> u64 {
        self.state.counts.borrow().get(name).copied().unwrap_or(0)
    }
}

/// The host behind this thread; one that grants nothing when there is none.
fn current() -> Rc<State> {
    CURRENT.with_borrow(|current| current.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Host, edited, session};
    use crate::types::{HostError, MessageEdit, NewHeader, Splice};
    use crate::{Interest, kv, log, message, secrets, tables};

    const MESSAGE: &str = "Subject: a\n b\nReceived: x\nContent-Type: multipart/mixed; boundary=q\n\n\
        pre\n--q\nContent-Type: text/plain; charset=iso-8859-1\n\nhi \n\
        --q\nContent-Type: text/html\nContent-Transfer-Encoding: base64\n\nPGI+\n--q--\n";

    #[test]
    fn what_was_not_given_is_denied() {
        assert_eq!(tables::get("t", "k"), Err(HostError::Denied));
        let host = Host::new().table("t", [("b.c", "1"), ("10.0.0.0/8", "net")]).kv("n");
        host.run(|| {
            assert_eq!(tables::get("other", "k"), Err(HostError::Denied));
            assert_eq!(tables::get("t", "k"), Ok(None));
            let found = tables::get_domain("t", "a.b.c").unwrap().unwrap();
            assert_eq!(found, ("b.c".into(), "1".into()));
            let found = tables::get_ip("t", "10.1.2.3").unwrap().unwrap();
            assert_eq!(found.1, "net");
            assert_eq!(kv::add("n", "k", 2, None), Ok(2));
            assert_eq!(kv::add("n", "k", 3, None), Ok(5));
            assert_eq!(secrets::hmac_sha256("s", b""), Err(HostError::Denied));
            log::info!("hello {}", 1; "from" => session().client_ip);
        });
        assert_eq!(host.logged(), ["hello 1 from=192.0.2.1"]);
        assert_eq!(tables::get("t", "k"), Err(HostError::Denied), "only while it runs");
    }

    #[test]
    fn a_message_is_seen_as_the_host_shows_it() {
        let host = Host::new().message(MESSAGE);
        let info = host.message_info(&Interest::default().headers(["SUBJECT"]));
        assert_eq!((info.header_count, info.hops, info.headers.len()), (3, 1, 1));
        host.run(|| {
            assert_eq!(message::header("subject").unwrap(), "a b");
            assert_eq!(message::header_raw(0).unwrap(), b"Subject: a\r\n b\r\n");
            let parts = message::parts();
            assert_eq!(parts.len(), 3);
            assert_eq!(parts[1].charset.as_deref(), Some("iso-8859-1"));
            assert_eq!((parts[2].parent, parts[2].encoding.as_str()), (Some(0), "base64"));
            assert_eq!(message::body_range(parts[1].offset, parts[1].size), b"hi ");
            assert_eq!(message::part(2, 100), b"<b>");
            assert_eq!(message::find(b"PGI", 0), Some(parts[2].offset));
        });
    }

    #[test]
    fn edits_apply_as_the_host_applies_them() {
        let edits = [
            MessageEdit::AddHeader(NewHeader::top("X", "1")),
            MessageEdit::AddHeader(NewHeader::bottom("Y", "2")),
            MessageEdit::RemoveHeadersNamed("received".into()),
            MessageEdit::SpliceBody(Splice { offset: 0, remove: 2, insert: b"HE".to_vec() }),
        ];
        let text = edited(b"A: 1\nReceived: q\n\nhello\n", &edits);
        assert_eq!(text, b"X: 1\r\nA: 1\r\nY: 2\r\n\r\nHEllo\r\n");
    }
}

//! What a plugin can ask of the host. Outside of a component the same functions are answered by
//! [`testing::Host`](crate::testing::Host).

#[cfg(target_arch = "wasm32")]
use crate::bindings::imports::waypost::policy as wire;
#[cfg(not(target_arch = "wasm32"))]
use crate::testing::wire;

/// Lines in the relay's log, tagged with plugin and stage. Always granted.
pub mod log {
    use crate::types::Attr;

    /// `log::info!("text {}", value; "field" => value, …)`, for each level.
    macro_rules! levels {
        ($d:tt $($macro:ident $level:ident)+) => {$(
            #[doc = concat!("Writes a line of the level `", stringify!($level), "`: `(\"text {}\", value; \"field\" => value)`.")]
            #[macro_export]
            macro_rules! $macro {
                ($d text:literal $d(, $d value:expr)* $d(; $d($d name:literal => $d field:expr),+)? $d(,)?) => {
                    if $crate::log::enabled($crate::log::Level::$level) {
                        $crate::log::write(
                            $crate::log::Level::$level,
                            &::std::format!($d text $d(, $d value)*),
                            &[$d($d($crate::types::Attr::new(
                                $d name,
                                ::std::string::ToString::to_string(&$d field),
                            )),+)?],
                        );
                    }
                };
            }
        )+};
    }

    levels!($ __log_trace Trace __log_debug Debug __log_info Info __log_warn Warn __log_error Error);

    pub use crate::bindings::imports::waypost::policy::log::Level;
    #[doc(inline)]
    pub use {
        __log_debug as debug, __log_error as error, __log_info as info, __log_trace as trace,
        __log_warn as warn,
    };

    /// True when a line of this level would be written.
    pub fn enabled(level: Level) -> bool {
        super::wire::log::enabled(level)
    }

    /// Writes a line with fields. The macros are shorter.
    pub fn write(level: Level, message: &str, fields: &[Attr]) {
        super::wire::log::log(level, message, fields);
    }
}

/// Counters and histograms of the plugin. Always granted.
pub mod metrics {
    use crate::types::Attr;

    /// Adds to a counter.
    pub fn count(name: &str, labels: &[Attr], by: u64) {
        super::wire::metrics::count(name, labels, by);
    }

    /// Adds an observation to a histogram.
    pub fn observe(name: &str, labels: &[Attr], value: f64) {
        super::wire::metrics::observe(name, labels, value);
    }
}

/// The message of the current call, as it was when the call began. Always granted in the hooks
/// `message`, `route`, `prepare` and `attempt`; elsewhere everything is empty.
pub mod message {
    use crate::types::Header;

    pub use crate::bindings::imports::waypost::policy::message::Part;

    /// Octets that the host hands out at once, at most.
    pub const WINDOW: u32 = 256 * 1024;

    /// The value of the first field of this name, in any case, unfolded.
    pub fn header(name: &str) -> Option<String> {
        headers_named(name).into_iter().next().map(|header| header.value)
    }

    /// All fields of this name, in any case, in message order.
    pub fn headers_named(name: &str) -> Vec<Header> {
        super::wire::message::headers_named(name)
    }

    /// All fields, in message order, fetched in windows of 256.
    pub fn headers() -> Vec<Header> {
        let mut all = Vec::new();
        loop {
            let start = u32::try_from(all.len()).unwrap_or(u32::MAX);
            let window = super::wire::message::headers(start, 256);
            if window.is_empty() {
                return all;
            }
            all.extend(window);
        }
    }

    /// The field as it is, folding and line end included.
    pub fn header_raw(id: u32) -> Option<Vec<u8>> {
        super::wire::message::header_raw(id)
    }

    /// Octets of the body, which begins behind the blank line.
    pub fn body_size() -> u64 {
        super::wire::message::body_size()
    }

    /// Octets of the body, at most [`WINDOW`]; fewer at its end.
    pub fn read_body(offset: u64, len: u32) -> Vec<u8> {
        super::wire::message::read_body(offset, len)
    }

    /// `len` octets of the body from `offset` on, in as many windows as it takes. A call has 16 MiB
    /// over all.
    pub fn body_range(offset: u64, len: u64) -> Vec<u8> {
        windows(len, |at, len| read_body(offset + at, len))
    }

    /// The MIME structure, depth first; part 0 is the message itself. At most 1000 parts.
    pub fn parts() -> Vec<Part> {
        super::wire::message::parts()
    }

    /// The part without its transfer encoding and, for text, as UTF-8; at most [`WINDOW`] from
    /// `offset`.
    pub fn read_part(index: u32, offset: u64, len: u32) -> Vec<u8> {
        super::wire::message::read_part(index, offset, len)
    }

    /// All of a part, decoded, up to `limit` octets.
    pub fn part(index: u32, limit: u64) -> Vec<u8> {
        windows(limit, |at, len| read_part(index, at, len))
    }

    /// The first offset in the body at or after `start` where `needle` stands. The host searches.
    pub fn find(needle: &[u8], start: u64) -> Option<u64> {
        super::wire::message::find(needle, start)
    }

    fn windows(total: u64, read: impl Fn(u64, u32) -> Vec<u8>) -> Vec<u8> {
        let mut all = Vec::new();
        while (all.len() as u64) < total {
            let at = all.len() as u64;
            let len = u32::try_from(total - at).unwrap_or(WINDOW).min(WINDOW);
            let window = read(at, len);
            let short = window.len() < len as usize;
            all.extend(window);
            if short {
                break;
            }
        }
        all
    }
}

/// Read-only maps that the host loads from files. Grant `tables`, by name.
pub mod tables {
    use crate::types::HostError;

    /// The value of this key.
    ///
    /// # Errors
    /// The table is not granted, or the quota of the call ran out.
    pub fn get(table: &str, key: &str) -> Result<Option<String>, HostError> {
        super::wire::tables::get(table, key)
    }

    /// The values of these keys, in order; one crossing for all.
    ///
    /// # Errors
    /// As [`get`].
    pub fn get_many(table: &str, keys: &[String]) -> Result<Vec<Option<String>>, HostError> {
        super::wire::tables::get_many(table, keys)
    }

    /// Key and value of the longest suffix of a domain: `a.b.c`, then `b.c`, then `c`.
    ///
    /// # Errors
    /// As [`get`].
    pub fn get_domain(table: &str, domain: &str) -> Result<Option<(String, String)>, HostError> {
        super::wire::tables::get_domain(table, domain)
    }

    /// Key and value of the longest prefix that contains an address.
    ///
    /// # Errors
    /// As [`get`].
    pub fn get_ip(table: &str, ip: &str) -> Result<Option<(String, String)>, HostError> {
        super::wire::tables::get_ip(table, ip)
    }
}

/// Small mutable state shared by all instances. Grant `kv`, by namespace. Keys have at most 200 octets,
/// values 4088; a crash may lose the last seconds.
pub mod kv {
    use std::time::Duration;

    use crate::types::HostError;

    /// A value.
    ///
    /// # Errors
    /// The namespace is not granted, a quota ran out, or storage failed.
    pub fn get(namespace: &str, key: &str) -> Result<Option<Vec<u8>>, HostError> {
        super::wire::kv::get(namespace, key)
    }

    /// Sets a value, for a time when one is given.
    ///
    /// # Errors
    /// As [`get`].
    pub fn set(
        namespace: &str,
        key: &str,
        value: &[u8],
        lifetime: Option<Duration>,
    ) -> Result<(), HostError> {
        super::wire::kv::set(namespace, key, value, seconds(lifetime))
    }

    /// Removes a value.
    ///
    /// # Errors
    /// As [`get`].
    pub fn remove(namespace: &str, key: &str) -> Result<(), HostError> {
        super::wire::kv::remove(namespace, key)
    }

    /// Adds to a number and answers the new one. The lifetime counts from when the key was made.
    ///
    /// # Errors
    /// As [`get`].
    pub fn add(
        namespace: &str,
        key: &str,
        by: i64,
        lifetime: Option<Duration>,
    ) -> Result<i64, HostError> {
        super::wire::kv::add(namespace, key, by, seconds(lifetime))
    }

    /// Sets `new` when the current value equals `old`; false when it does not.
    ///
    /// # Errors
    /// As [`get`].
    pub fn swap(
        namespace: &str,
        key: &str,
        old: Option<&[u8]>,
        new: &[u8],
        lifetime: Option<Duration>,
    ) -> Result<bool, HostError> {
        super::wire::kv::swap(namespace, key, old, new, seconds(lifetime))
    }

    fn seconds(lifetime: Option<Duration>) -> Option<u32> {
        lifetime.map(|time| u32::try_from(time.as_secs()).unwrap_or(u32::MAX).max(1))
    }
}

/// Token buckets of the configuration. Grant `limits`, by name.
pub mod limits {
    use crate::types::HostError;

    pub use crate::bindings::imports::waypost::policy::limits::Allowance;

    /// Takes tokens from the bucket of `key`, all of them or none.
    ///
    /// # Errors
    /// The bucket is not granted, or a quota ran out.
    pub fn take(bucket: &str, key: &str, tokens: u32) -> Result<Allowance, HostError> {
        super::wire::limits::take(bucket, key, tokens)
    }
}

/// The relay's resolver and its cache. Grant `dns`.
pub mod dns {
    use crate::types::HostError;

    pub use crate::bindings::imports::waypost::policy::dns::{Answer, MxHost};

    /// Records of a kind such as `a`, `txt` or `mx`.
    ///
    /// # Errors
    /// DNS is not granted, did not answer in time, or failed. A name that does not exist is an answer.
    pub fn lookup(name: &str, kind: &str) -> Result<Answer, HostError> {
        super::wire::dns::lookup(name, kind)
    }

    /// Asks names and kinds all at once; answers in the order asked.
    ///
    /// # Errors
    /// As [`lookup`], for all or one by one.
    pub fn lookup_many(
        questions: &[(String, String)],
    ) -> Result<Vec<Result<Answer, HostError>>, HostError> {
        super::wire::dns::lookup_many(questions)
    }

    /// The mail exchangers of a domain in order of preference.
    ///
    /// # Errors
    /// As [`lookup`].
    pub fn lookup_mx(domain: &str) -> Result<Vec<MxHost>, HostError> {
        super::wire::dns::lookup_mx(domain)
    }
}

/// HTTP requests to granted origins. Grant `http`.
pub mod http {
    use crate::types::HostError;

    pub use crate::bindings::imports::waypost::policy::http::{Request, Response};

    /// Sends a request.
    ///
    /// # Errors
    /// The origin is not granted, or the other side failed.
    pub fn send(request: &Request) -> Result<Response, HostError> {
        super::wire::http::send(request)
    }
}

/// Secrets to use without knowing. Grant `secrets.use`, by name.
pub mod secrets {
    use crate::types::HostError;

    /// HMAC-SHA-256 of `data` with the secret as key: 32 octets.
    ///
    /// # Errors
    /// The secret is not granted.
    pub fn hmac_sha256(name: &str, data: &[u8]) -> Result<Vec<u8>, HostError> {
        super::wire::secrets::hmac_sha256(name, data)
    }

    /// The secret itself; needs the grant `secrets.reveal`.
    ///
    /// # Errors
    /// The secret is not granted.
    pub fn reveal(name: &str) -> Result<String, HostError> {
        super::wire::secrets::reveal(name)
    }
}

/// The clock. Always granted; prefer `call.now_ms`, which a recorded call repeats.
pub mod clock {
    /// Milliseconds since 1970.
    pub fn now_ms() -> u64 {
        super::wire::clock::now_ms()
    }

    /// Microseconds since the call began.
    pub fn elapsed_us() -> u64 {
        super::wire::clock::elapsed_us()
    }
}

/// Random octets. Always granted; prefer `call.seed`, which a recorded call repeats.
pub mod random {
    /// Random octets, at most 1024.
    pub fn bytes(len: u32) -> Vec<u8> {
        super::wire::random::bytes(len)
    }
}
